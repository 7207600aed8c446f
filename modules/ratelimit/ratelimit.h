/* mod_ratelimit's own: zones and limits as configured, and who has a part in them.
 *
 *   mod_ratelimit.c  manual, rows, hooks
 *   gcra.c           rates and debts, pure
 *   table.c          the debts of a zone's keys; siphash.h: hashes of keys
 *   offenders.c      who went over a limit lately
 *   key.c            what a request is counted under
 *   zone.c           RateLimitZone: by name, opened in shared memory
 *   exempt.c         what all limits have: who is exempt, when their lists are forgotten
 *   limit.c          RateLimit: decides, delays
 *   answer.c         Retry-After, RateLimit and RateLimit-Policy; told.c: their words
 *   conn.c           ConnLimit
 *   bandwidth.c      BandwidthLimit
 *   store.c          one limit for several machines; redis.c: where they meet
 *   control.c        sluice ctl limit */
#ifndef RATELIMIT_H
#define RATELIMIT_H

#include "sluice/module.h"

#include "gcra.h"
#include "offenders.h"
#include "store.h"
#include "table.h"
#include "told.h"

#define SHARED_LAYOUT 1u /* of zones; goes up when what stands in them changes */
#define LOG_EVERY_MS 60000

/* One process has one configuration.  A file's list of what was configured, a pointer, is NULL
 * again when the memory its members are in goes. */
void forget_with(apr_pool_t *pool, void *list);

/* ---- keys ---- */

struct key {
    struct sl_expr *expr;
    const char *source;
    int is_address;      /* %{remote_addr} alone: its bytes are the key */
    int has_address;     /* among others */
    unsigned ipv4, ipv6; /* lengths of the networks that count as one */
};

#define KEY_ROOM 512 /* longer keys need memory of the request */

/* NULL or a phrase. */
const char *key_make(struct sl_cmd *cmd, const char *text, int64_t ipv4, int64_t ipv6,
                     struct key *key);
/* Bytes to be hashed, in `room` or of the request; n 0: the request has no such key, and is not
 * limited by it. */
struct sl_span key_bytes(const struct key *key, struct sl_req *r, char room[KEY_ROOM]);
/* The same in words. */
struct sl_span key_text(const struct key *key, struct sl_req *r);
/* Bytes for the words of an operator; n 0: these are no words for such a key. */
struct sl_span key_of_text(const struct key *key, const char *text, char room[KEY_ROOM]);

/* ---- shared memory ---- */

/* At the beginning of each zone. */
struct shared {
    uint64_t
        seed[2]; /* of the hashes; written before any process that uses it is ready */
};
/* How many rows of offenders a zone of `size` bytes has. */
uint32_t shared_rows(size_t size);
/* Finds what stands behind the seed, which it writes where the zone is fresh. */
void shared_open(struct shared *shared, int is_fresh, size_t size, uint64_t seed[2],
                 struct offenders *offenders, struct table *table);

/* ---- zones ---- */

struct zone {
    struct zone *next;
    const char *name;
    const char *place;
    struct key key;
    struct rate rate;
    const char *rate_text;
    int64_t size;
    int64_t log_ms;
    uint64_t seed[2];
    struct table table; /* buckets NULL: not open: dry runs */
    struct offenders offenders;
    _Atomic(int64_t) full_logged_ms;
    int is_used;            /* by a RateLimit */
    const char *store_text; /* NULL: this machine alone */
    struct store_zone store_zone;
    struct store *store; /* from worker_init on */
};

struct zone *zone_find(const char *name); /* NULL: none */
const char *zone_nearest(const char *name);
sl_parse_f zone_parse;
/* Once limits_check() has told who is used. */
void zones_lint(struct sl_worker *w);
/* After check_config.  0, or -1 with a message in the log. */
int zones_open_all(void);
int zones_open_stores(unsigned n_loops);
void zones_close_stores(void);
uint64_t zone_hash(const struct zone *z, struct sl_span key);

/* ---- what all limits have ---- */

struct common {
    int shadow;
    int64_t status;
    struct sl_cond *cond;
    const char *except_text;
    struct sl_networks *except;
    const char *place;
};
#define COMMON_OPTIONS(T, m, usual)                                                      \
    {"shadow", SL_SLOT_FLAG, offsetof(T, m.shadow),                                      \
     NULL,     NULL,         "counts and logs, refuses nothing"},                        \
        {"status", SL_SLOT_NUMBER, offsetof(T, m.status),                                \
         usual,    NULL,           "what is answered"},                                  \
        {"if", SL_SLOT_COND_ROUTED, offsetof(T, m.cond), NULL, NULL, "where it holds"},  \
    {                                                                                    \
        "except", SL_SLOT_STRING, offsetof(T, m.except_text), NULL, NULL,                \
            "networks without this limit"                                                \
    }
/* Of what has a key. */
#define NETWORK_OPTIONS(T)                                                               \
    {"ipv4", SL_SLOT_NUMBER, offsetof(T, ipv4), "32", NULL, "length of networks"},       \
    {                                                                                    \
        "ipv6", SL_SLOT_NUMBER, offsetof(T, ipv6), "64", NULL, "length of networks"      \
    }
/* After the options were read.  NULL or a phrase. */
const char *common_check(struct sl_cmd *cmd, struct common *c);
/* 1: the limit holds for the request; 0: it does not; -1: r has failed. */
int common_holds(const struct common *c, struct sl_req *r);

/* ---- limits ---- */

struct ratelimit_conf {
    apr_array_header_t *zones;  /* of struct zone * */
    apr_array_header_t *limits; /* of struct limit * */
    apr_array_header_t *conns;  /* of struct conn_limit * */
    apr_array_header_t *widths; /* of struct width * */
};

#define TOLD_MAX 4

/* What the module keeps of a request that needs it. */
struct request {
    int64_t retry_ms; /* of a refused one; 0: nobody knows */
    struct told told[TOLD_MAX];
    unsigned n_told;
};
struct request *request_of(struct sl_req *r);

extern const struct sl_cause cause_rate_limited, cause_conn_limited;

sl_parse_f limit_parse;
/* May suspend the request. */
enum sl_verdict limit_access(struct sl_req *r, const apr_array_header_t *limits);
/* Names of zones become zones; their largest tolerance is found. */
void limits_check(struct sl_worker *w);
int limit_init(void); /* counters */
/* Whether one of them has fields for its clients. */
int limits_tell(const apr_array_header_t *limits);

sl_req_f answer_fields;

sl_parse_f conn_parse;
enum sl_verdict conn_access(struct sl_req *r, const apr_array_header_t *conns);
int conn_init(void);
int conns_open_all(void);

/* ---- what operators ask about ---- */

struct watched {
    const char *name;
    const struct key *key;
    const uint64_t *seed;
    const struct offenders *offenders;
    const struct zone *zone; /* NULL: it is a ConnLimit */
};
/* 0: no ConnLimit has this name. */
int conn_watched(const char *name, struct watched *w);
/* Requests of the key under way, in all generations. */
int64_t conn_count(const char *name, uint64_t hash);

extern const struct sl_control_command limit_command;

/* ---- bodies ---- */

sl_parse_f width_parse;
enum sl_verdict width_request(struct sl_req *r, const apr_array_header_t *widths);
sl_req_f width_response;
int widths_open_all(void);

#endif
