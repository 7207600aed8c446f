/* See sluice/access.h. */
#include "http/request.h"

#include "sluice/access.h"

/* Kept under "Satisfy any" alone. */
struct req_access {
    int is_granted;
    sl_deny_f *deny; /* NULL: nobody denied */
    void *ctx;
};

int
sl_access_needs_one(const struct sl_req *r)
{
    return r->scope->core->satisfy == SATISFY_ANY;
}

int
sl_access_is_settled(const struct sl_req *r)
{
    return r->access != NULL && r->access->is_granted;
}

static struct req_access *
access_of(struct sl_req *r)
{
    if (r->access == NULL)
        r->access = apr_pcalloc(r->pool, sizeof *r->access);
    return r->access;
}

enum sl_verdict
sl_access_granted(struct sl_req *r)
{
    if (sl_access_needs_one(r))
        access_of(r)->is_granted = 1;
    return SL_NEXT;
}

enum sl_verdict
sl_access_denied(struct sl_req *r, sl_deny_f *deny, void *ctx)
{
    struct req_access *a;

    if (!sl_access_needs_one(r))
        return deny(r, ctx);
    a = access_of(r);
    a->deny = deny;
    a->ctx = ctx;
    sl_note(r, "denied, unless another grants (Satisfy any)");
    return SL_NEXT;
}

int
access_settle(struct sl_req *r)
{
    const struct req_access *a = r->access;

    if (a->is_granted || a->deny == NULL)
        return 1;
    a->deny(r, a->ctx);
    if ((r->flags & REQ_ANSWERED) == 0)
        sl_req_fail(r, 0, &sl_cause_hook_failed, "who denied gave no answer");
    return 0;
}
