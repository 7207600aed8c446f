/* The request: what a module may know of it and do to it.
 *
 * A request and all that happens on it live on one thread; its pool is cleared after the
 * log hook.  Everything a getter returns is valid until then unless it says otherwise. */
#ifndef SLUICE_REQ_H
#define SLUICE_REQ_H

#include "sluice/base.h"
#include "sluice/fields.h"
#include "sluice/log.h"

/* The frozen inline prefix; the rest is reached through the functions below.  Of the flags these
 * are frozen, too. */
enum { SL_REQ_NOTING = 512, SL_REQ_DRY = 1024 };
struct sl_req_public {
    unsigned magic;
    unsigned flags;
    apr_pool_t *pool;
    struct sl_loop *loop;
    struct sl_conn *conn; /* NULL for a request without a client */
};

static inline int
sl_req_is_noting(const struct sl_req *r)
{
    return (((const struct sl_req_public *)r)->flags & SL_REQ_NOTING) != 0;
}

/* Whether this is a dry run (sluice -E, <Test>): hooks that say SL_DRY_OK are run and must
 * leave no trace but notes and the request's own state.  Offload is refused there, and a hook
 * that suspends the request is the last one that runs. */
static inline int
sl_req_is_dry(const struct sl_req *r)
{
    return (((const struct sl_req_public *)r)->flags & SL_REQ_DRY) != 0;
}

static inline apr_pool_t *
sl_req_pool(const struct sl_req *r)
{
    return ((const struct sl_req_public *)r)->pool;
}

static inline struct sl_loop *
sl_req_loop(const struct sl_req *r)
{
    return ((const struct sl_req_public *)r)->loop;
}

static inline struct sl_conn *
sl_req_conn(const struct sl_req *r)
{
    return ((const struct sl_req_public *)r)->conn;
}

/* The request as it came.  method: any token.  target_path: the client's own bytes up to
 * '?'.  query: behind the first '?', at NULL without one; both stand in one piece.  path: the
 * normalised copy that matching uses: percent-decoded but for %2F, dot segments gone, slashes
 * merged.  host: lower case, no port; empty for HTTP/1.0 without one. */
struct sl_fields *sl_req_head(struct sl_req *r);
struct sl_span sl_req_method(const struct sl_req *r);
struct sl_span sl_req_target_path(const struct sl_req *r);
struct sl_span sl_req_query(const struct sl_req *r);
struct sl_span sl_req_path(struct sl_req *r);
struct sl_span sl_req_host(const struct sl_req *r);
struct sl_span sl_req_authority(const struct sl_req *r); /* with the port, as it came */
int sl_req_version(const struct sl_req *r);              /* 10, 11, 20 */
int sl_req_is_tls(const struct sl_req *r);
int sl_req_has_body(const struct sl_req *r);

/* Who asks.  client: the peer, or the forwarded address where the peer is in
 * TrustedProxies.  Text has no port. */
struct sl_span sl_req_client_text(struct sl_req *r);
const struct sl_sockaddr *sl_req_client(struct sl_req *r);
struct sl_span sl_req_scheme(struct sl_req *r);
/* What its peer says of who asked, and how, reaches the server: the peer is in TrustedProxies, or
 * ProxyForwarded is off. */
int sl_req_passes_forwarded(const struct sl_req *r);
/* 16 lower-case hex digits, made when first asked for. */
struct sl_span sl_req_id(struct sl_req *r);

/* Routing: enters a scope; the hooks of later phases run from its lists. */
void sl_req_enter(struct sl_req *r, struct sl_scope *scope);
/* Before that: the default host's of its listener, global where there is none. */
struct sl_scope *sl_req_scope(const struct sl_req *r);

/* What the backend will be asked for: raw path and query in one span ("/x?y").  Unset, it
 * is the client's own. */
void sl_req_set_upstream_path(struct sl_req *r, struct sl_span path_and_query);
struct sl_span sl_req_upstream_path(const struct sl_req *r);

/* The response.  Fields may be changed in response hooks; status 0: none yet. */
struct sl_fields *sl_req_response(struct sl_req *r);
int sl_req_status(const struct sl_req *r);
void sl_req_set_status(struct sl_req *r, int status);
/* Body bytes handed to the client's connection so far, filters applied. */
int64_t sl_req_bytes_sent(const struct sl_req *r);
/* Microseconds since the epoch: head seen; now minus that. */
int64_t sl_req_started_us(const struct sl_req *r);
int64_t sl_req_elapsed_us(const struct sl_req *r);
/* The cause of a failure, NULL without one. */
const struct sl_cause *sl_req_cause(const struct sl_req *r);
/* The status whose ErrorPage is elsewhere, when the answer is the redirect to it; 0: it is not. */
int sl_req_page_of(const struct sl_req *r);
/* The server of the last attempt, NULL if none was made; and what it cost, microseconds
 * from the attempt's start to its end, -1 while unknown. */
struct sl_server *sl_req_server(const struct sl_req *r);
int64_t sl_req_upstream_us(const struct sl_req *r);

/* Answers with a whole body (handler hooks, and access hooks that decide).  `type` NULL:
 * no Content-Type.  The body must live until the request ends.  Fields set before stay. */
enum sl_verdict sl_respond(struct sl_req *r, int status, const char *type, struct sl_span body);
/* Fails the request: logs cause and text with the request's id, answers with the status
 * (0: the cause's own) if no byte of an answer has left, else cuts the answer short so
 * that the client can tell.  Returns SL_FAIL.  fmt NULL: the cause's text alone. */
enum sl_verdict sl_req_fail(struct sl_req *r, int status, const struct sl_cause *cause,
                            const char *fmt, ...) SL_PRINTF(4, 5);
/* The same without a line in the log: for those who say it in their own words, or once for many. */
enum sl_verdict sl_req_refuse(struct sl_req *r, int status, const struct sl_cause *cause);

/* How fast the request's body is read: asked at once (with n 0) and after each piece of n bytes was
 * passed on, says for how many ms no more is read; 0: it goes on.  Set before the handler, once a request; `ctx` lives
 * as long as it. */
typedef int64_t sl_pace_f(struct sl_req *r, void *ctx, size_t n);
void sl_req_pace_body(struct sl_req *r, sl_pace_f *pace, void *ctx);

/* Suspension.  A hook that returns SL_WAIT takes a token first; resume may be called from
 * any thread, once or more, and does nothing for a request that is gone or was resumed.
 * SL_NEXT goes on after the hook, SL_RETRY with the hook itself, SL_DONE ends the phase, SL_FAIL
 * fails the request. */
struct sl_token {
    struct sl_loop *loop;
    uint32_t slot;
    uint32_t stamp;
};
struct sl_token sl_req_suspend(struct sl_req *r);
void sl_req_resume(struct sl_token token, enum sl_verdict verdict);

/* Per-request memory of a module: zeroed, `size` bytes, the same at every call. */
void *sl_req_data(struct sl_req *r, const struct sl_module *module, size_t size);

#endif
