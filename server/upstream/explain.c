/* An attempt in a dry run.  A server is picked and the head is made as for a real one; then,
 * instead of a connection, the head is written to memory, and a response is assumed, so that
 * the hooks that would see one show what they do to it. */
#include "explain.h"
#include "http/http1.h"
#include "upstream/exchange.h"

#include <apr_strings.h>

#define ASSUMED_STATUS 200

static void
keep_request(struct sl_exchange *ex, struct explained *x)
{
    struct sl_loop *loop = ex->loop;
    struct writer w = {loop->scratch, loop->scratch + LOOP_SCRATCH, 0};

    http1_put_request(&w, &ex->a);
    x->sent.n = w.is_full ? 0 : (size_t)(w.at - loop->scratch);
    x->sent.at = apr_pmemdup(ex->r->pool, loop->scratch, x->sent.n);
    if (w.is_full)
        sl_note(ex->r, "the request head does not fit %d bytes", LOOP_SCRATCH);
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
