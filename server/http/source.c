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

/* The flow of what was given; r may be freed. */
static enum sl_flow
source_gave(struct sl_req *r, enum sl_flow flow, int ends)
{
    if (flow == SL_FLOW_GONE) {
        source_drop(r);
        answer_instead(r);
        req_settle(r);
    } else if (ends)
        source_done(r);
    return flow;
}

enum sl_flow
sl_source_body(struct sl_req *r, struct sl_data data, int ends)
{
    return source_gave(r, answer_body(r, data, ends), ends);
}

int
sl_source_takes_files(const struct sl_req *r)
{
    return r->protocol->file != NULL && answer_may_bypass(r) && r->length >= 0;
}

enum sl_flow
sl_source_file(struct sl_req *r, int fd, int64_t *offset, size_t *n, int ends)
{
    ssize_t k = 1;

    while (k > 0 && *n > 0) {
        k = r->protocol->file(r, fd, *offset, *n);
        if (k > 0) {
            *offset += k;
            *n -= (size_t)k;
            r->bytes_sent += k;
        }
    }
    if (k == SL_IO_AGAIN)
        return SL_FLOW_FULL;
    if (k == SL_IO_EOF)
        return SL_FLOW_ROOM;
    if (k > 0 && ends)
        r->flags |= REQ_SOURCE_ENDED | REQ_ENDS_GIVEN;
    return source_gave(r, k > 0 ? SL_FLOW_ROOM : SL_FLOW_GONE, ends);
}

void
sl_source_fail(struct sl_req *r, const struct sl_cause *cause)
{
    source_drop(r);
    sl_req_fail(r, 0, cause, NULL);
    req_settle(r);
}
