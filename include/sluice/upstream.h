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

enum { SL_SERVER_BACKUP = 1, SL_SERVER_DRAIN = 2 };

/* Whether this exchange has made an attempt at the server already. */
int sl_attempt_tried(const struct sl_attempt *a, const struct sl_server *server);

/* How a server fares; of all generations, kept through reloads and crashes. */
struct sl_server_state {
    _Atomic(int64_t) rests_until; /* ms, monotonic; passed: may be tried */
    atomic_uint n_failed;         /* failures in a row */
    atomic_uint address;          /* the core's: of which address this is said */
};

/* One backend of a pool.  Its counts alive are exact across threads. */
struct sl_server {
    const char *name;    /* for logs: the NAME= given, else the address as written */
    const char *address; /* as written: host:port or unix:/path */
    struct sl_pool *pool;
    unsigned index; /* in its pool */
    unsigned weight;
    unsigned flags;
    atomic_int is_down;    /* by a health check */
    atomic_uint *n_active; /* attempts in flight of this process; good from post_config on */
    struct sl_server_state *state; /* good from post_config on */
    void *balancer_data;   /* the pool's owner's */
};

/* Attempts in flight at a server, of all processes, or of all but this one.  Any thread, no
 * lock; while no other generation lives, the second is 0 (see sl_places_others()) and the first
 * is one load. */
unsigned sl_server_active(const struct sl_server *s);
unsigned sl_server_active_elsewhere(const struct sl_server *s);

/* What the owner of a pool decides.  Any thread. */
struct sl_pool_owner {
    /* A server for this attempt, or NULL with no_server; servers already tried by this
     * exchange are told by sl_attempt_tried(). */
    struct sl_server *(*select)(struct sl_attempt *a, struct sl_pool *pool);
    /* Whether to try again after this failure; the core has found it safe. */
    int (*retry)(struct sl_attempt *a, struct sl_pool *pool, const struct sl_cause *cause);
    /* The attempt is over; cause NULL: it went well. */
    void (*done)(struct sl_attempt *a, struct sl_server *server, const struct sl_cause *cause);
};

struct sl_pool {
    const char *name;
    struct sl_server **servers;
    unsigned n_servers;
    const struct sl_pool_owner *owner; /* NULL: the first server, no retry */
    void *data;                        /* the owner's */
    int64_t keepalive;                 /* idle connections kept, per server and thread */
    int64_t keepalive_idle_ms;
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

/* Whether a server comes into question for a new attempt: no health check took it down, it
 * does not drain, and it does not rest after a failure.  now_ms: sl_loop_now(). */
static inline int
sl_server_may_be_used(const struct sl_server *s, int64_t now_ms)
{
    return !atomic_load_explicit(&s->is_down, memory_order_relaxed)
           && !(s->flags & SL_SERVER_DRAIN)
           && atomic_load_explicit(&s->state->rests_until, memory_order_relaxed) <= now_ms;
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
 * Method.  pick() runs on any thread, at any time, and takes no lock. */
enum sl_tier {
    SL_TIER_PRIMARY, /* servers that may be used */
    SL_TIER_BACKUP,  /* backups that may be used */
    SL_TIER_RESTING, /* nothing else is left: servers that rest after a failure ... */
    SL_TIER_RESTING_BACKUP,
    SL_TIER_NONE,
};
/* What a method chooses for: the best tier in which a server is left that this exchange
 * has not tried. */
struct sl_choice {
    struct sl_attempt *attempt;
    int64_t now_ms;
    enum sl_tier tier;
    int is_dry; /* a dry run asks */
};
static inline int
sl_choice_has(const struct sl_choice *c, const struct sl_server *s)
{
    int is_backup = (s->flags & SL_SERVER_BACKUP) != 0;
    int wants_backup = c->tier == SL_TIER_BACKUP || c->tier == SL_TIER_RESTING_BACKUP;

    if (is_backup != wants_backup)
        return 0;
    if (!sl_server_may_be_used(s, c->tier < SL_TIER_RESTING ? c->now_ms : INT64_MAX))
        return 0;
    return !sl_attempt_tried(c->attempt, s);
}
struct sl_balance_method {
    /* At the Method line: argument 0 is the method's name, its own follow.  Without a
     * Method line: at the section's end, argument 0 the pool's name.  NULL or a phrase. */
    const char *(*setup)(struct sl_cmd *cmd, struct sl_pool *pool, void **data);
    /* All servers are known: once when the configuration is checked, for dry runs, where nothing
     * may be opened or created, and again before requests run.  0, or -1 with a message in the
     * log. */
    int (*ready)(struct sl_pool *pool, void *data);
    /* A server for which sl_choice_has() holds; NULL: none any more.  With is_dry it is the one
     * whom the next request would get, and nothing changes. */
    struct sl_server *(*pick)(const struct sl_choice *choice, struct sl_pool *pool, void *data);
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
void **sl_attempt_protocol_data(struct sl_attempt *a);
/* The request line of the attempt: method, path with query. */
struct sl_span sl_attempt_method(struct sl_attempt *a);
struct sl_span sl_attempt_path(struct sl_attempt *a);
int64_t sl_attempt_body_length(const struct sl_attempt *a); /* 0 none, -1 unknown */

/* What an upstream protocol tells the core. */
void sl_attempt_interim(struct sl_attempt *a, int status, struct sl_fields *fields);
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
