/* mod_cache_disk: a shared HTTP cache.  Who does what:
 *
 *   control.c, policy.c, meta.c   pure: RFC 9111 over facts
 *   key.c         under what a request is looked for, and the tags its response is purged by
 *   lookup.c      a request asks the store, step by step, and what is found is judged
 *   flight.h      one fetch for all who miss the same, in several files
 *   slices.c      large responses in slices, each from the store or fetched
 *   form.c        the bodies of objects in a coding, made once and stored beside them
 *   answer.c      what is stored, as an answer: conditions and ranges
 *   giver.c       its body, piece by piece
 *   passed.c      what is said of requests that went to the server
 *   hosts.c       how requests were answered, by host
 *   purge.c       what is to be forgotten: PURGE, unsafe methods, sluice ctl cache purge
 *   command.c     the rest of sluice ctl cache, and gauges
 *   command_get.c what is stored of one URL
 *   directives.c  the lines
 *
 * A request that may be answered from the cache asks the store, and where that has nothing, a
 * flight.  Who begins one mostly asks the server himself, and what he gets is stored as it passes by;
 * otherwise a flight is a subrequest, and all read what arrives from the store.  Only an answer that
 * may not be stored is passed on by it to who began it. */
#ifndef MOD_CACHE_DISK_H
#define MOD_CACHE_DISK_H

#include "../cache/store.h"
#include "meta.h"

#include "sluice/encoder.h"
#include "sluice/module.h"

/* store_object.flags */
#define VARY_MARKER 1u /* meta lists the fields its variants differ by */
#define SLICED 2u      /* there is no body: meta says how it is cut into slices */
#define FORM 4u        /* the body of another one in a coding */
#define SLICE_MIN 4096
#define SLICE_MAX (1 << 30)
#define MIN_USES_MAX 65535 /* CacheMinUses: what lookup.c can count to */

/* CacheUseStale. */
enum {
    STALE_ERROR = 1,
    STALE_TIMEOUT = 2,
    STALE_INVALID = 4,
    STALE_UPDATING = 8,
    STALE_500 = 16,
    STALE_502 = 32,
    STALE_503 = 64,
    STALE_504 = 128,
    STALE_403 = 256,
    STALE_404 = 512,
    STALE_429 = 1024,
};

/* A CacheValid line. */
struct valid {
    unsigned char of[75]; /* bit s - 100: statuses it is for */
    int64_t seconds;
};

struct cache_conf {
    int is_on;
    struct sl_expr *key;       /* NULL: the URL */
    apr_array_header_t *valid; /* of struct valid * */
    apr_array_header_t *stale_words, *ignore_words; /* of const char * */
    unsigned stale, ignore;    /* made of them when the configuration is checked */
    struct sl_cond *bypass, *no_store;
    int64_t min_uses, max_object;
    int64_t slice; /* 0 and less: none */
    int is_locked; /* CacheLock: one fetch for many */
    struct sl_networks *purge;
    void *disk; /* CacheDisk: kept in struct cache_data */
};

struct cache_data {
    struct store_options options; /* path NULL and memory_size 0: no CacheDisk line */
    const char *place;
};

/* The generation's store; NULL while nothing is open: in a dry run, or without memory. */
extern struct store *cache_store;
extern int cache_keys_are_urls; /* no line says CacheKey */

/* Seconds since the epoch, as ages and lifetimes are counted. */
static inline int64_t
wall_s(const struct sl_loop *loop)
{
    return sl_loop_wall_us(loop) / 1000000;
}

/* directives.c */
extern const struct sl_directive cache_directives[];
int cache_check(struct sl_worker *w);
int64_t valid_seconds(const struct cache_conf *conf, int status); /* CC_ABSENT: no line says */

/* key.c: in the request's pool, if nothing else is said. */
struct sl_span cache_key(struct sl_req *r, const struct cache_conf *conf);
/* As the client's own, where a proxy stands between. */
struct sl_span cache_scheme(struct sl_req *r);
/* Whether Connection may name fields.  Of these the server hears nothing (RFC 9110, 7.6.1): its
 * response is one to a request without them, whatever they say. */
int cache_names_fields(struct sl_req *r);
/* What a key has behind the URL: what else reaches the server of how a proxy was asked, which the
 * response may differ by; n 0: nothing. */
struct sl_span cache_key_beside(struct sl_req *r);
struct sl_span cache_key_of_url(apr_pool_t *pool, struct sl_span url);
/* Of the URL that a field of r's response names, asked for as r was; at NULL: it is of another
 * origin. */
struct sl_span cache_key_of_reference(struct sl_req *r, struct sl_span reference);
/* vary: names with commas between. */
struct sl_span variant_key(struct sl_req *r, struct sl_span key, struct sl_span vary);
/* The same for a request with these fields that nobody has sent: what a server is told beside them
 * is not known, and a variant by that is not found. */
struct sl_span variant_key_of(apr_pool_t *pool, struct sl_fields *fields, struct sl_span key,
                              struct sl_span vary);
/* key: of the response that is in slices.  For kept_free(). */
struct sl_span slice_key(struct sl_span key, uint64_t slices, int64_t i);
/* Copies outside of any pool, for what outlives its request; with a NUL behind. */
struct sl_span kept(struct sl_span s);
void kept_free(struct sl_span s);
/* Fields for the cache alone: clients do not get them. */
int is_tag_name(struct sl_span name); /* which the core does not know */
static inline int
is_tag_field(const struct sl_field *x)
{
    return x->id == SL_F_OTHER && is_tag_name(x->name);
}
void tag_fields_drop(struct sl_fields *fields);
/* Sets the tags of r's response, in its pool: of its key, whose hash this is, of its host, and those
 * it names itself.  More than STORE_TAGS_MAX: it cannot be stored, for no purge would find it by the
 * rest. */
void cache_tags(struct store_new *n, struct sl_req *r, struct sl_span key, struct store_hash hash);

/* ---- lookup.c ---- */

enum outcome {
    OUT_PASS,   /* to the server, as if there were no cache */
    OUT_FLIGHT, /* what came of the flight is to be asked */
    OUT_DIRECT, /* to the server, for a flight */
    OUT_OBJECT, /* to be answered from the object */
    OUT_RELAY,  /* from the flight, which may not store what it gets */
    OUT_FAILED, /* the fetch failed, and nothing stale may be given */
    OUT_ABSENT, /* only-if-cached, and it is not */
};

enum visit_status { MISS, HIT, EXPIRED, REVALIDATED, UPDATING, STALE, BYPASS };

struct flight;
struct slices;

/* A request's way through the cache, of its pool. */
struct visit {
    struct store_get get;
    struct sl_req *r;
    const struct cache_conf *conf;
    struct sl_token token;
    int is_waiting;       /* the request is suspended */
    int is_to_look_again; /* the table of flights was busy, or what is looked for has just come */
    int is_variant;       /* what is looked for is the variant's key */
    struct sl_span key, variant;
    struct store_hash hash;      /* of the key */
    struct marker marker;        /* its vary.n 0: there is none */
    struct store_object *found;  /* held: what the store had, or what has come */
    struct meta meta;            /* of found */
    struct using using;
    enum outcome outcome;
    enum visit_status status;    /* %{cache_status} */
    const char *reason;          /* %{cache_reason} */
    int is_hit;                  /* nothing had to be asked for it */
    struct flight *flight;       /* NULL: none */
    unsigned n_left;             /* flights_left(), before it looked */
    int is_leader;               /* it began the flight, on the same loop */
    int is_collapsed;            /* it joined one that was under way */
    uint64_t stamp;              /* when it joined: store_stamp() */
    int has_looked_again;        /* it had come in the same moment */
    struct visit *next_waiter;
    struct store_reader reader;  /* of what arrives */
    struct slices *slices;       /* of what is found, the first that is needed; NULL: none */
    int is_slicing;              /* it is not there yet */
    int is_partial;              /* it was not stored */
    int64_t first;               /* with CacheSlice: the byte the answer is likely to begin with */
    struct sl_loop *loop;        /* of r */
    struct host_row *host;       /* where it is counted; NULL: for all alone */
    const struct sl_cause *failed;
    int is_new;               /* found has come with this flight */
    int64_t length;           /* of what still arrives, -1: unknown */
    int is_answering;         /* the head is put, and what is asked for is a form */
    struct sl_encoded form;   /* of found; encoder NULL: none is wanted */
    struct sl_span form_key;
    struct store_object *form_object; /* held; NULL: there is none */
    /* of who asks for a slice, not a request, and has memory of his own: r NULL, he has left */
    const struct meta *of;            /* what it is a slice of; NULL: it is none */
    struct sl_span of_key;
    int is_asking;                    /* the store has not answered yet, nor the flight */
    struct sl_mail mail;              /* to itself: the table of flights was busy, or wake() */
    void (*wake)(struct sl_loop *loop, struct sl_mail *mail);
};

/* The handler hook: asks, and answers from what is at hand; once more whenever what it had to wait
 * for is there. */
enum sl_verdict cache_ask(struct sl_req *r, const void *conf);
/* As store_get(); with STORE_WAIT the request is suspended, and what is found goes where the visit
 * stands. */
enum store_answer visit_get(struct visit *v, struct sl_span key, struct store_hash hash,
                            struct store_object **found);
/* Until sl_req_resume() of its token, with SL_RETRY. */
void visit_suspend(struct visit *v);
/* What a flight brought takes the place of what was found; *o is held for the visit.  0, or -1:
 * it is not what the request asks for. */
int visit_take(struct visit *v, struct store_object **o);
/* The answer to the request that was its flight's has come. */
void visit_came(struct visit *v);
const char *visit_status(const struct visit *v); /* in words */
struct visit *visit_of(struct sl_req *r); /* NULL: the cache has nothing to do with it */
/* What became of what it was to purge, when it is resumed. */
enum purged { NOT_PURGED, PURGED, PURGED_NOT_KEPT };
enum purged *purged_at(struct sl_req *r);

/* ---- flight.h ---- */

enum slice_answer {
    SLICE_HERE,
    SLICE_WAIT,   /* slices.done() will be called, once */
    SLICE_FAILED, /* s->cause */
    SLICE_CHANGED /* the server has another response now: what was found is forgotten */
};

void flights_open(unsigned n_loops); /* in post_config; without memory, theirs is the system's */
void flights_close(void); /* no loop runs any more */
/* Grows when a flight for this hash is over: what it was for may be stored. */
unsigned flights_left(struct store_hash hash);
/* Joins the fetch of what the visit looks for, or begins one; the request is suspended until
 * flight_result() can be asked, unless its outcome is OUT_DIRECT.  -1: another thread is at the
 * table, or what is looked for has just been stored; to be looked for again. */
int flight_join(struct visit *v);
/* What has come of it, for this visit: sets its outcome. */
void flight_result(struct visit *v);
/* Begins one that nobody waits for, if none is under way. */
void flight_update(struct visit *v);
/* The visit's request leaves, or is answered. */
void flight_leave(struct visit *v);
/* The same for a slice: WAIT never; the object is held for the caller.  FAILED, CHANGED: it has
 * left the flight. */
enum slice_answer flight_slice_result(struct visit *v, struct store_object **object,
                                      const struct sl_cause **cause);
/* OUT_RELAY: answers with what the flight gets. */
enum sl_verdict flight_relay(struct visit *v);
/* What was asked for until now under this primary key, and comes later, is not stored; in no
 * generation. */
void flights_forget(struct sl_span key);
int forgotten_open(void); /* in post_config: 0, or -1 with a message */
/* Why, if a fetch of this key has lately shown that it may not be stored; else NULL. */
const char *why_lately_unstorable(struct visit *v);
/* Why what came last under this key was not stored; NULL: nothing is known. */
const char *why_unstorable(struct sl_span key);

/* ---- slices.c ---- */

/* The slices of a response, one at a time, for one request. */
struct slices {
    struct visit visit; /* as whom the store and the flights know it; its reader is of the slice */
    void (*done)(struct slices *s, enum slice_answer answer);
    void *ctx;
    struct store_object *object; /* the slice that is open, held; NULL: none */
    int is_fetched;              /* it was not stored */
    int has_failed;              /* it waited for a fetch that failed, and looked again */
    const struct sl_cause *cause;
    struct store_object *of; /* held */
    struct meta meta;
    int64_t i;
};
struct slices *slices_new(struct visit *v); /* of what it has found */
/* The slice with this byte; the one that was open is not used any more. */
enum slice_answer slices_open(struct slices *s, int64_t at);
/* The request leaves: done() will not be called. */
void slices_leave(struct slices *s);
void slices_free(struct slices **s);

/* ---- form.c ---- */

/* For an answer whose head is put, with a body of `size` bytes: looks for the form its client is
 * to get, and has it made where there is none.  1: the request waits, until form_found(). */
int form_look(struct visit *v, int64_t size);
void form_found(struct visit *v, struct store_object *o); /* takes o; NULL: there is none */
struct sl_span form_key(apr_pool_t *pool, struct sl_span key, const char *coding);
/* Whether it was made of the base's very bytes, at the level of e. */
int form_is_of(const struct store_object *o, const struct meta *base, const struct sl_encoded *e);
/* Names for bodies, never the same twice. */
void body_names_begin(void);
uint64_t body_name(void);
/* worker_exit: what is being made is given up. */
void makers_close(void);

/* ---- answer.c ---- */

enum sl_verdict answer_object(struct visit *v);
enum sl_verdict answer_body(struct visit *v);
/* The response is the request's, and has just been stored: makes its fields those that an answer from
 * the store has. */
void answer_as_stored(struct visit *v, int64_t born);
/* The first byte of its body that the answer needs; -1: none. */
int64_t answer_first(struct visit *v);

/* ---- passed.c ---- */

enum sl_verdict cache_says(struct sl_req *r, const void *conf);

/* ---- command.c ---- */

extern const struct sl_control_command cache_command;
int cache_gauges_register(void); /* 0, or -1 with a message */
/* The text as JSON, in the call's pool. */
const char *command_json(struct sl_control_call *call, struct sl_span text);
/* The text for a terminal: with marks in place of what would control it. */
struct sl_span command_text(struct sl_control_call *call, struct sl_span text);
/* No thread is there to do its work: ends the call. */
void command_failed(struct sl_control_call *call);

/* ---- command_get.c ---- */

void cache_get_run(struct sl_control_call *call, const char *url, int argc, const char *const *argv);

/* ---- purge.c ---- */

/* NULL, or what to tell who asks for the URL. */
const char *cache_url_error(apr_pool_t *pool, const char *url);
void cache_purge_run(struct sl_control_call *call, int argc, const char *const *argv);
/* The method PURGE, where CachePurge names who may say it. */
enum sl_verdict cache_purge(struct sl_req *r, const struct cache_conf *conf);
/* What a method that is not safe says by its success (RFC 9111, 4.4). */
void cache_invalidate(struct sl_req *r, const struct cache_conf *conf);

/* ---- mod_cache_disk.c ---- */

enum {
    N_HIT, N_MISS, N_STALE, N_REVALIDATED, N_BYPASS, N_HIT_BYTES, N_MISS_BYTES,
    N_STORED, N_REFUSED, N_ENCODED, N_COUNTERS
};
#define N_OF_HOST (N_MISS_BYTES + 1) /* the first are also counted by host */
extern int cache_counters[N_COUNTERS];

/* ---- hosts.c ---- */

int hosts_open(void); /* in post_config: 0, or -1 with a message */
/* The host's row, of a hit a free one made its own; NULL: it has no name. */
struct host_row *host_row(struct sl_span host, int is_hit);
/* which: one of the first N_OF_HOST; for all and for its host. */
void visit_count(const struct visit *v, int which, int64_t by);
void hosts_print(struct sl_control_call *call);
/* For the gauges. */
void hosts_say_requests(struct sl_gauge_sink *to);
void hosts_say_bytes(struct sl_gauge_sink *to);
/* By requests and by bytes: what part was given from the cache; 0 where there is nothing. */
double hit_ratio(const uint64_t n[N_OF_HOST]);
double hit_bytes_ratio(const uint64_t n[N_OF_HOST]);

#endif
