/* Answers from a module's source: see sluice/source.h.  It stands where an exchange would. */
#include "http/request.h"

#include "sluice/source.h"

void
source_drop(struct sl_req *r)
{
    const struct sl_source *source = r->source;

    if (source == NULL)
        return;
    r->source = NULL;
    source->closed(r, r->source_ctx);
}

/* The last call for r here. */
static void
source_done(struct sl_req *r)
{
    source_drop(r);
    r->flags |= REQ_SOURCE_DONE;
    req_settle(r);
}

void
source_want(struct sl_req *r)
{
    if (r->flags & (REQ_ENDS_GIVEN | REQ_SOURCE_ENDED))
        source_done(r);
    else
        r->source->want(r, r->source_ctx);
}

enum sl_verdict
sl_respond_from(struct sl_req *r, int status, int64_t length, const struct sl_source *source,
                void *ctx)
{
    SL_ASSERT((r->flags & (REQ_RUNNING | REQ_ANSWERED)) == REQ_RUNNING);
    r->source = source;
    r->source_ctx = ctx;
    r->status = status;
    r->length = length;
    r->flags |= REQ_ANSWERED;
    return SL_DONE;
}

enum sl_flow
sl_source_body(struct sl_req *r, struct sl_data data, int ends)
{
    enum sl_flow flow = answer_body(r, data, ends);

    if (flow == SL_FLOW_GONE) {
        source_drop(r);
        answer_instead(r);
        req_settle(r);
    } else if (ends)
        source_done(r);
    return flow;
}

void
sl_source_fail(struct sl_req *r, const struct sl_cause *cause)
{
    source_drop(r);
    sl_req_fail(r, 0, cause, NULL);
    req_settle(r);
}
