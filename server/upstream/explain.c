/* An attempt in a dry run.  A server is picked and the head is made as for a real one; then,
 * instead of a connection, the head is written to memory, and a response is assumed, so that
 * the hooks that would see one show what they do to it. */
#include "explain.h"
#include "http/http1.h"
#include "upstream/exchange.h"

#include <apr_strings.h>

#define ASSUMED_STATUS 200

static struct sl_span
http1_explain(struct sl_attempt *a, apr_pool_t *pool)
{
    struct sl_loop *loop = exchange_of(a)->loop;
    struct writer w = {loop->scratch, loop->scratch + LOOP_SCRATCH, 0};
    size_t n;

    http1_put_request(&w, a);
    n = w.is_full ? 0 : (size_t)(w.at - loop->scratch);
    return (struct sl_span){apr_pmemdup(pool, loop->scratch, n), n};
}

static void
keep_request(struct sl_exchange *ex, struct explained *x)
{
    const struct sl_upstream_protocol *spoken = ex->pool->protocol;
    int has_own = spoken != NULL && spoken->explain != NULL;

    x->sent = (has_own ? spoken->explain : http1_explain)(&ex->a, ex->r->pool);
    if (x->sent.n == 0)
        sl_note(ex->r, "the request head is too large to be sent");
}

void
exchange_explain(struct sl_exchange *ex)
{
    struct explained *x = ex->r->protocol_data;

    x->target = ex->target;
    x->server = &ex->a.server->pub;
    if (exchange_prepare(ex) != 0) {
        exchange_fail(ex, &sl_cause_hook_failed);
        return;
    }
    keep_request(ex, x);
    x->path = ex->a.path;
    x->is_assumed = 1;
    if (attempt_head(&ex->a, ASSUMED_STATUS, 0) != SL_FLOW_GONE &&
        (ex->r->flags & REQ_WAITING) == 0)
        sl_attempt_end(&ex->a, 0);
}
