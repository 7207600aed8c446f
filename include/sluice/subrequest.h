/* Requests of the server's own, beside or behind a client's: a cache's fetch, a question to who
 * decides on access.
 *
 * A subrequest begins as a copy of the client's request as its hooks have left it: method, path,
 * fields, scope, client, id and what sl_var_set() gave it; without a body and without what is said
 * between two hops.  From then on it has a life of its own, on the same loop, and the client may
 * leave.  It runs no hooks before its handler's and none of responses, no body filters, and is
 * neither counted nor logged as a request; its attempts at servers are like any.  A generation that
 * drains waits for it. */
#ifndef SLUICE_SUBREQUEST_H
#define SLUICE_SUBREQUEST_H

#include "sluice/base.h"
#include "sluice/net.h"
#include "sluice/upstream.h"

/* On the subrequest's loop; what the answer says is asked as of any request (sl_req_status(),
 * sl_req_response()). */
struct sl_subrequest_owner {
    /* ends: there is no body.  GONE: nobody wants it; ended() follows. */
    enum sl_flow (*head)(struct sl_req *sub, void *ctx, int ends);
    /* data.n may be 0 with `ends`.  FULL: it was taken; more comes after sl_req_writable(sub). */
    enum sl_flow (*body)(struct sl_req *sub, void *ctx, struct sl_data data, int ends);
    /* The last call; cause NULL: the answer was whole.  sub is freed after it. */
    void (*ended)(struct sl_req *sub, void *ctx, const struct sl_cause *cause);
    /* Where he keeps the next bytes of the body, and room for how many, at least one: they may be
     * read to there, and then body() is given them there.  NULL: he has no place for them yet.  May
     * be NULL itself. */
    char *(*room)(void *ctx, size_t *n);
};

struct sl_req *sl_subrequest(struct sl_req *client, const struct sl_subrequest_owner *owner,
                             void *ctx);
int sl_req_is_sub(const struct sl_req *r);
/* Before the start; fields are changed by way of sl_req_head().  path_and_query begins with '/',
 * and what the hooks have made of the client's is forgotten; empty: it stays.  Both are copied. */
void sl_subrequest_set_line(struct sl_req *sub, struct sl_span method,
                            struct sl_span path_and_query);
/* By the handler hooks of its scope, or to this target.  From within a hook of the client's: when
 * that is over; else all may be over when it comes back.  A client that has left by then is no
 * hindrance. */
void sl_subrequest_start(struct sl_req *sub);
void sl_subrequest_proxy(struct sl_req *sub, const struct sl_target *target,
                         const struct sl_proxy_conf *conf);
/* Nobody wants it any more: its owner is not called again.  Also from within his functions. */
void sl_subrequest_cancel(struct sl_req **sub);

/* A client's request whose answer others want, too, and which need not be a subrequest as long as
 * nobody but its client depends on it. */
struct sl_watch {
    /* Its answer has come, and nothing of it is given; before all response hooks, and once.  body: all
     * of it, if it is at hand; at NULL: not. */
    void (*head)(struct sl_req *r, void *ctx, struct sl_span body);
    /* It would share a connection to its server with others, from which it cannot be taken: the owner
     * begins a subrequest, and suspends r, which then goes on as if it had been suspended in the hook
     * that watched it.  head() will not be called. */
    void (*shares)(struct sl_req *r, void *ctx);
};
/* From within a handler hook, for which the request then goes on.  Who leaves before its answer came
 * is not told of, as ever, but by the end of its pool. */
void sl_req_watch(struct sl_req *r, const struct sl_watch *watch, void *ctx);
/* A subrequest that goes on with what the client's request, which was watched, has asked its server:
 * from within head(), or from outside of all hooks before.  The caller suspends the client's, as in
 * `shares`.  NULL: it has asked no server yet, or hooks of its have the floor. */
struct sl_req *sl_subrequest_instead(struct sl_req *client, const struct sl_subrequest_owner *owner,
                                     void *ctx);

#endif
