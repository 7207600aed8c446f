/* Requests that are watched: see sluice/subrequest.h. */
#include "http/request.h"

#include "upstream/exchange.h"

#include "sluice/subrequest.h"

void
sl_req_watch(struct sl_req *r, const struct sl_watch *watch, void *ctx)
{
    r->watch = watch;
    r->watch_ctx = ctx;
    r->watch_hook = r->hook;
}

/* All of the body, if it is at hand. */
static struct sl_span
body_at_hand(const struct sl_req *r)
{
    if (r->exchange != NULL)
        return r->exchange->a.whole;
    return r->source == NULL ? r->respond_body : (struct sl_span){NULL, 0};
}

struct sl_req *
watch_tell(struct sl_req *r)
{
    const struct sl_watch *watch = r->watch;
    struct sl_exchange *ex = r->exchange;

    r->watch = NULL;
    watch->head(r, r->watch_ctx, body_at_hand(r));
    return ex != NULL ? ex->r : r;
}

enum sl_verdict
watch_refuse(struct sl_req *r)
{
    const struct sl_watch *watch = r->watch;

    r->watch = NULL;
    r->hook = r->watch_hook;
    watch->shares(r, r->watch_ctx);
    return r->flags & REQ_WAITING ? SL_WAIT : SL_FAIL;
}

/* As it was when the hook that watches was over. */
static void
req_go_back(struct sl_req *r)
{
    if (r->response_buf != NULL)
        sl_buf_drop(&r->response_buf);
    r->watch = NULL;
    r->hook = r->watch_hook;
    r->flags &= ~(unsigned)REQ_ANSWERED;
    r->server = NULL;
    r->status = 0;
    r->length = -1;
    r->reason.at = NULL;
    r->response.n = 0;
    r->response.ids = 0;
}

struct sl_req *
sl_subrequest_instead(struct sl_req *client, const struct sl_subrequest_owner *owner, void *ctx)
{
    struct sl_req *r;

    if (client->exchange == NULL || (client->flags & (REQ_RUNNING | REQ_WAITING)))
        return NULL;
    r = sl_subrequest(client, owner, ctx);
    exchange_move(client->exchange, r);
    req_go_back(client);
    return r;
}
