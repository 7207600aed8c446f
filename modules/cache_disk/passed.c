/* What is said of a request that was not answered from the store: Cache-Status (RFC 9211), where
 * answer.c does not say it. */
#include "flight.h"
#include "status.h"

static int
is_forwarded(struct sl_req *r, const struct visit *v)
{
    if (v == NULL)
        return sl_req_server(r) != NULL;
    return v->outcome == OUT_PASS || v->outcome == OUT_RELAY || v->outcome == OUT_FAILED ||
           (v->outcome == OUT_DIRECT && v->flight->result != CAME);
}

static void
status_add(struct sl_req *r, const struct visit *v)
{
    tag_fields_drop(sl_req_response(r)); /* also where it did not store what came */
    sl_fields_add(sl_req_response(r), "Cache-Status", status_passed(v));
}

enum sl_verdict
cache_says(struct sl_req *r, const void *confp)
{
    const struct cache_conf *conf = confp;
    struct visit *v;

    if (!conf->is_on || cache_store == NULL || sl_req_is_dry(r))
        return SL_NEXT;
    v = visit_of(r);
    if (v == NULL)
        cache_invalidate(r, conf);
    if (is_forwarded(r, v))
        status_add(r, v);
    return SL_NEXT;
}
