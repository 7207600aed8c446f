/* Servers, pools of servers, and attempts to get a response from one.
 *
 * A pool and its servers belong to a generation; their counts are atomics that every
 * thread may read, shared with other generations (sluice/zone.h): a server is the same one
 * there by the names of its pool and its own.  An exchange gets one response for one request; it makes attempts, each
 * at one server over one connection. */
#ifndef SLUICE_UPSTREAM_H
#define SLUICE_UPSTREAM_H

#include "sluice/base.h"
#include "sluice/conf.h"
#include "sluice/net.h"

#include <stdatomic.h>

enum {
    SL_SERVER_BACKUP = 1,
    SL_SERVER_DRAIN = 2,
    SL_SERVER_CHECKED = 4,
    SL_SERVER_SEAT = 8,  /* who it is may change: see sl_pool_add_seats() */
    SL_SERVER_GONE = 16, /* a seat that nobody has, or whose server leaves: nothing new goes there */
};

/* Whether this exchange has made an attempt at the server already. */
int sl_attempt_tried(const struct sl_attempt *a, const struct sl_server *server);

/* How a server fares, in one word, so that one load tells and one exchange changes it:
 *
 *   63..61  enum sl_health      58..51  checks in a row that speak against the state
 *   60..59  enum sl_admin       50..46  how often it rested without being well between
 *   45..0   ms, monotonic: until when it rests, or a probe has time
 *
 * 0: up, and nobody says anything against it. */
enum sl_health {
    SL_HEALTH_UP,
    SL_HEALTH_RESTING, /* requests failed there: not used until its time has passed */
    SL_HEALTH_PROBED,  /* then one request tries it */
    SL_HEALTH_DOWN,    /* health checks failed */
};
/* What the operator says at run time, before what is configured. */
enum sl_admin { SL_ADMIN_NONE, SL_ADMIN_DRAIN, SL_ADMIN_OFF, SL_ADMIN_ON };

#define SL_HEALTH_UNTIL_BITS 46
#define SL_HEALTH_STATE(word) ((enum sl_health)((word) >> 61))
#define SL_HEALTH_ADMIN(word) ((enum sl_admin)((word) >> 59 & 3))
#define SL_HEALTH_UNTIL(word) ((int64_t)((word) & ((UINT64_C(1) << SL_HEALTH_UNTIL_BITS) - 1)))

/* Of all generations, kept through reloads and crashes. */
#define SL_WINDOW_PARTS 8
struct sl_server_state {
    _Alignas(64) _Atomic(uint64_t) health;
    _Atomic(int64_t) warm_since;  /* ms, monotonic: it came back or is new; 0: it is warm */
    _Atomic(uint64_t) response;   /* the method's: how long responses take */
    atomic_uint n_failed;         /* failures in a row */
    atomic_uint address;          /* the core's: of which address this is said */
    atomic_uint weight;           /* the operator's; 0: as configured */
    atomic_uint base;             /* the owner's: the line an override stands for; 0: none yet */
    atomic_uint n_events;         /* see sl_server_event() */
    _Atomic(uint64_t) window[SL_WINDOW_PARTS]; /* the owner's: outcomes of late */
};

/* One backend of a pool.  Its counts alive are exact across threads.  What is atomic may change
 * while requests run; a text that was replaced is there for minutes. */
struct sl_server {
    const char *_Atomic name;    /* for logs: the NAME= given, else the address as written */
    const char *_Atomic address; /* as written: host:port or unix:/path */
    struct sl_pool *pool;
    unsigned index; /* in its pool */
    atomic_uint weight; /* in force; the operator may change it */
    atomic_uint flags;
    atomic_uint level;        /* servers of a higher one wait for those of the lower to fail */
    atomic_uint maxconn;      /* attempts in flight, of all generations; 0: no limit */
    atomic_uint slowstart_ms; /* time to get its full share in */
    int check_port;         /* 0: its own */
    unsigned configured_weight;
    atomic_uint *n_active; /* attempts in flight of this process; good from post_config on */
    struct sl_server_state *state; /* good from post_config on */
    void *balancer_data;   /* the pool's owner's */
};

/* Attempts in flight at a server, of all processes, or of all but this one.  Any thread, no
 * lock; while no other generation lives, the second is 0 (see sl_places_others()) and the first
 * is one load. */
unsigned sl_server_active(const struct sl_server *s);
unsigned sl_server_active_elsewhere(const struct sl_server *s);

/* Counts an attempt in flight at the server: 1; 0: it has as many as it may. */
int sl_server_take(struct sl_server *s);

/* What happened to a server, the last of many: kept like its state.  Any thread. */
#define SL_EVENT_TEXT 72
struct sl_server_event {
    int64_t at_us; /* since the epoch */
    char text[SL_EVENT_TEXT];
};
void sl_server_note(struct sl_server *s, int64_t at_us, const char *text);
/* The i-th, 0 the last one.  0: there is none. */
int sl_server_event(const struct sl_server *s, unsigned i, struct sl_server_event *event);

/* A connection of its own to a server, for checks; port 0: the server's.  ready() is called with
 * SL_WRITABLE once it is open and its transport is agreed on, with SL_HANGUP when that failed,
 * with SL_TIMEOUT after sl_conn_timeout(); when it is open, with what has come.  data is what
 * sl_conn_protocol_data() gives.  Who opened it closes it, on its thread.  NULL: it cannot even
 * begin, *why says what stands against it. */
struct sl_conn *sl_server_open(struct sl_loop *loop, struct sl_server *s, int port,
                               void (*ready)(struct sl_conn *c, unsigned what), void *data,
                               const char **why);

/* What the owner of a pool decides.  Any thread; rows after done may be NULL. */
struct sl_pool_owner {
    /* A server for this attempt, counted by sl_server_take(), or NULL with no_server; servers
     * already tried by this exchange are told by sl_attempt_tried(). */
    struct sl_server *(*select)(struct sl_attempt *a, struct sl_pool *pool);
    /* Whether to try again after this failure; the core has found it safe. */
    int (*retry)(struct sl_attempt *a, struct sl_pool *pool, const struct sl_cause *cause);
    /* The attempt is over; cause NULL: it went well.  It is counted no more. */
    void (*done)(struct sl_attempt *a, struct sl_server *server, const struct sl_cause *cause);
    /* The final head is there, with status and fields, and not yet given.  is_repeatable: it is
     * safe to ask another server instead.  1: do so. */
    int (*answered)(struct sl_attempt *a, struct sl_pool *pool, int status, int is_repeatable);
    /* select() gave none: NULL when the attempt waits, until sl_attempt_pick() has select() asked
     * again or sl_attempt_fail() ends it; else the cause. */
    const struct sl_cause *(*wait)(struct sl_attempt *a, struct sl_pool *pool);
    /* One that waits has been given up by its client. */
    void (*leave)(struct sl_attempt *a, struct sl_pool *pool);
    /* Servers have taken seats or left them, or their weights or levels have changed.  Thread 0,
     * while others pick, or before requests run. */
    void (*changed)(struct sl_pool *pool);
};

struct sl_pool {
    const char *name;
    struct sl_server **servers;
    unsigned n_servers;
    const struct sl_pool_owner *owner; /* NULL: the first server, no retry */
    void *data;                        /* the owner's */
    int64_t keepalive;                 /* idle connections kept, per server and thread */
    int64_t keepalive_idle_ms;
    int64_t keepalive_life_ms;         /* since a connection was opened; -1: no limit */
    const struct sl_upstream_protocol *protocol; /* NULL: HTTP/1.1 */
    const struct sl_transport *transport;        /* NULL: plain */
    void *transport_data;                        /* the transport's, set while configured */
    int send_proxy; /* version of the PROXY header each connection begins with; 0: none.  Such a
                     * connection serves one request */
};

/* All pools, one after the other; after NULL: the first.  NULL past the last. */
struct sl_pool *sl_pool_next(const struct sl_pool *after);

/* Configuration time.  Pools live in the conf pool; servers are added before requests run.
 * address: "host:port", "[v6]:port", "unix:/path"; default_port where it has none.  NULL
 * and a phrase in *err when malformed.  A name that does not resolve is no error. */
struct sl_pool *sl_pool_make(apr_pool_t *pool, const char *name);
struct sl_server *sl_pool_add(apr_pool_t *pool, struct sl_pool *p, const char *name,
                              const char *address, int default_port, const char **err);

/* Seats: places in a pool for servers that come and go while requests run.  A seat is a server
 * like others, with a state that generations share, and GONE while nobody has it.  Who leaves
 * finishes what is in flight; who comes back to a seat that nobody else took finds its state as it
 * was.  Who sits where is known to all generations: a reload and a crash change nothing.
 *
 * Who sits is what a name leads to: all its addresses, or the servers its SRV records name, with
 * their weights and, as levels, their priorities; or it is what the operator says. */
struct sl_seats {
    const char *name;   /* of the line; NULL: its target.  A server's is NAME@ADDRESS, or ADDRESS */
    const char *target; /* "host:port", "srv:_http._tcp.host"; NULL: the operator says */
    int default_port;
    unsigned n;
};
/* Configuration time: n servers side by side; what is set of them holds for all who sit there.
 * The first; for dry runs of a configuration it stands for all that the name leads to.  NULL and a
 * phrase in *err. */
struct sl_server *sl_pool_add_seats(apr_pool_t *pool, struct sl_pool *p,
                                    const struct sl_seats *seats, const char **err);

/* A server the operator seats; `address` is no name. */
struct sl_member {
    const char *name; /* NULL: the address */
    const char *address;
    unsigned weight, level, maxconn, slowstart_ms;
    unsigned flags; /* SL_SERVER_BACKUP, SL_SERVER_DRAIN */
};
/* Thread 0 of the generation that serves, or, from post_config on, the thread that starts it.  The
 * server; NULL and a phrase in *err: there is one of that name, the address is wrong, or no seat
 * is free. */
struct sl_server *sl_pool_seat(apr_pool_t *pool, struct sl_pool *p, const struct sl_member *m,
                               const char **err);
/* It gets nothing new from now on, and its seat is free when nothing is in flight.  NULL, or a
 * phrase: the operator has not seated it. */
const char *sl_pool_unseat(apr_pool_t *pool, struct sl_server *s);

/* Whether nobody keeps new requests from it, by the configuration or at run time. */
static inline int
sl_server_is_wanted(const struct sl_server *s, uint64_t health)
{
    unsigned flags = atomic_load_explicit(&s->flags, memory_order_relaxed);

    if (SL_HEALTH_ADMIN(health) == SL_ADMIN_NONE)
        return !(flags & (SL_SERVER_DRAIN | SL_SERVER_GONE));
    return SL_HEALTH_ADMIN(health) == SL_ADMIN_ON && !(flags & SL_SERVER_GONE);
}
static inline int
sl_server_is_gone(const struct sl_server *s)
{
    return (atomic_load_explicit(&s->flags, memory_order_relaxed) & SL_SERVER_GONE) != 0;
}

/* Whether a server comes into question for a new attempt: no health check took it down, it
 * does not drain, and it does not rest after a failure; one whose rest is over may be tried once.
 * now_ms: sl_loop_now(). */
static inline int
sl_server_may_be_used(const struct sl_server *s, int64_t now_ms)
{
    uint64_t health = atomic_load_explicit(&s->state->health, memory_order_relaxed);

    if (health == 0) /* mostly */
        return sl_server_is_wanted(s, 0);
    if (!sl_server_is_wanted(s, health))
        return 0;
    switch (SL_HEALTH_STATE(health)) {
    case SL_HEALTH_UP:
        return 1;
    case SL_HEALTH_RESTING:
    case SL_HEALTH_PROBED:
        return SL_HEALTH_UNTIL(health) <= now_ms;
    case SL_HEALTH_DOWN:
        break;
    }
    return 0;
}

/* Whether it has as many attempts in flight as it may. */
static inline int
sl_server_is_full(const struct sl_server *s)
{
    unsigned most = atomic_load_explicit(&s->maxconn, memory_order_relaxed);

    return most > 0 && sl_server_active(s) >= most;
}

/* How servers behind a scheme are spoken to. */
struct sl_scheme {
    const char *name;                            /* lower case; "http" where none is written */
    const struct sl_upstream_protocol *protocol; /* NULL: HTTP/1.1 */
    const struct sl_transport *transport;        /* NULL: plain */
    int default_port;                            /* 0: the address must name one */
};
/* Takes the scheme off an address: *rest is what follows "https://", or all of it.  A
 * scheme is an upstream_protocol or else a transport, by name; https is the transport tls.
 * NULL, or a phrase; the cure names the module to load. */
const char *sl_scheme_parse(struct sl_cmd *cmd, const char *text, struct sl_scheme *scheme,
                            const char **rest);

/* A way to share requests among the servers of a pool: provider group "balance", named by
 * Method.  pick() runs on any thread, at any time, and takes no lock.
 *
 * What a method chooses for: the lowest level in which a server is left that this exchange has
 * not tried. */
struct sl_choice {
    struct sl_attempt *attempt;
    int64_t now_ms; /* INT64_MAX: nothing better is left, those that rest are used all the same */
    unsigned level;
    int is_dry;     /* a dry run asks */
    const struct sl_server *passed; /* not this one this time; NULL: any */
};
static inline int
sl_choice_has(const struct sl_choice *c, const struct sl_server *s)
{
    return atomic_load_explicit(&s->level, memory_order_relaxed) == c->level
           && sl_server_may_be_used(s, c->now_ms) && s != c->passed
           && !sl_server_is_full(s) && !sl_attempt_tried(c->attempt, s);
}
struct sl_balance_method {
    /* At the Method line: argument 0 is the method's name, its own follow.  Without a
     * Method line: at the section's end, argument 0 the pool's name.  NULL or a phrase. */
    const char *(*setup)(struct sl_cmd *cmd, struct sl_pool *pool, void **data);
    /* All servers are known: once when the configuration is checked, for dry runs, where nothing
     * may be opened or created, and again before requests run; and whenever a weight has been
     * changed or a server has come or gone (sl_server_is_gone()), by one thread while others pick.
     * 0, or -1 with a message in the log. */
    int (*ready)(struct sl_pool *pool, void *data);
    /* A server for which sl_choice_has() holds; NULL: none any more.  With is_dry it is the one
     * whom the next request would get, and nothing changes. */
    struct sl_server *(*pick)(const struct sl_choice *choice, struct sl_pool *pool, void *data);
    /* A response came from it, first_us after the attempt began.  NULL: not asked for. */
    void (*responded)(struct sl_server *s, void *data, int64_t first_us, int64_t now_ms);
};

/* Where ProxyPass leads.  Schemes http:// and bare HOST:PORT and unix: are the core's; others are found
 * as providers: "target" (balancer://) by name, else "upstream_protocol". */
struct sl_target {
    struct sl_pool *pool;
    struct sl_span path;      /* replaces the location's prefix; n 0: none was given */
    struct sl_span authority; /* host[:port] as written, for ProxyHost upstream */
    struct sl_span text;      /* all of it, for notes */
};
/* Provider group "target": finds or announces the pool of a name (it may be defined later
 * in the file); a phrase on failure. */
struct sl_target_provider {
    const char *(*find)(struct sl_cmd *cmd, const char *name, struct sl_pool **pool);
};
const char *sl_target_parse(struct sl_cmd *cmd, const char *text, struct sl_target **target);

/* How a request is proxied; made by the module that owns ProxyTimeout and the like. */
enum sl_proxy_host { SL_HOST_PRESERVE, SL_HOST_UPSTREAM };
enum sl_proxy_upgrade { SL_UPGRADE_WEBSOCKET, SL_UPGRADE_ANY, SL_UPGRADE_OFF };
struct sl_proxy_conf {
    int64_t connect_ms, send_ms, first_ms, idle_ms, total_ms; /* -1: none */
    int64_t body_hold; /* bytes of a request body kept for a retry */
    int host;          /* enum sl_proxy_host */
    int upgrade;       /* enum sl_proxy_upgrade */
    /* of struct sl_statuses *: answers that make place for our own pages; NULL: none */
    apr_array_header_t *intercept;
};

/* Handler hooks: the response of an exchange, begun after the hook, becomes the answer.
 * SL_DONE. */
enum sl_verdict sl_proxy(struct sl_req *r, const struct sl_target *target,
                         const struct sl_proxy_conf *conf);

/* Attempts: what upstream hooks and pool owners see. */
struct sl_req *sl_attempt_req(struct sl_attempt *a);   /* NULL: an exchange without client */
struct sl_loop *sl_attempt_loop(struct sl_attempt *a);
struct sl_server *sl_attempt_server(struct sl_attempt *a);
unsigned sl_attempt_number(const struct sl_attempt *a); /* 0: the first */
/* The head as it will be sent, a copy-on-write view dropped at a retry; and the response's. */
struct sl_fields *sl_attempt_head(struct sl_attempt *a);
struct sl_fields *sl_attempt_response(struct sl_attempt *a);
int sl_attempt_status(const struct sl_attempt *a);
/* From the attempt's start to its response's head, -1: none came; and when the exchange has to be
 * over, ms of sl_loop_now(), INT64_MAX: never. */
int64_t sl_attempt_first_us(const struct sl_attempt *a);
int64_t sl_attempt_deadline(const struct sl_attempt *a);
/* The owner's of the pool; NULL at first. */
void **sl_attempt_owner_data(struct sl_attempt *a);
/* For one that waits for a server: asks for one again.  May free it. */
void sl_attempt_pick(struct sl_attempt *a);
void **sl_attempt_protocol_data(struct sl_attempt *a);
/* The request line of the attempt: method, path with query. */
struct sl_span sl_attempt_method(struct sl_attempt *a);
struct sl_span sl_attempt_path(struct sl_attempt *a);
int64_t sl_attempt_body_length(const struct sl_attempt *a); /* 0 none, -1 unknown */

/* What an upstream protocol tells the core. */
void sl_attempt_interim(struct sl_attempt *a, int status, struct sl_fields *fields);
/* Before a head with status 101 of a protocol whose responses have no Upgrade: what it would say. */
void sl_attempt_switched(struct sl_attempt *a, struct sl_span to);
/* The final head: fields were added to sl_attempt_response(a); body as in sl_req_start. */
enum sl_flow sl_attempt_head_done(struct sl_attempt *a, int status, int64_t body);
enum sl_flow sl_attempt_body(struct sl_attempt *a, struct sl_data data);
void sl_attempt_trailers(struct sl_attempt *a, struct sl_fields *fields);
void sl_attempt_end(struct sl_attempt *a, int reusable); /* a may be freed by this call */
void sl_attempt_fail(struct sl_attempt *a, const struct sl_cause *cause);
/* Before sl_attempt_fail(): the server says it has not acted on the request (RFC 9113, 8.7). */
void sl_attempt_unsent(struct sl_attempt *a);
/* The connection's time is over: the core knows what it was set for.  Ends the attempt. */
void sl_attempt_late(struct sl_attempt *a);
void sl_attempt_writable(struct sl_attempt *a); /* room again for the request body */

#endif
