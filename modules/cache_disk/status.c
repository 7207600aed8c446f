/* See status.h. */
#include "status.h"

static char *
hit_before(char *at, const struct visit *v)
{
    at = number_before(at, v->meta.storing.lifetime - v->using.age);
    if (v->flight == NULL)
        return text_before(at, SL_SPAN("sluice; hit; ttl="));
    return v->is_collapsed ? text_before(at, SL_SPAN("sluice; fwd=stale; collapsed; ttl="))
                           : text_before(at, SL_SPAN("sluice; fwd=stale; ttl="));
}

static char *
fetched_before(char *at, const struct visit *v)
{
    int is_agreed = v->status == REVALIDATED;

    if (v->is_collapsed)
        at = text_before(at, SL_SPAN("; collapsed"));
    at = text_before(at, SL_SPAN("; stored"));
    if (is_agreed)
        at = text_before(at, SL_SPAN("; fwd-status=304"));
    if (v->is_partial)
        at = text_before(at, SL_SPAN("partial"));
    else if (is_agreed || v->status == EXPIRED)
        at = v->using.is_refused ? text_before(at, SL_SPAN("request"))
                                 : text_before(at, SL_SPAN("stale"));
    else
        at = v->is_variant ? text_before(at, SL_SPAN("vary-miss"))
                           : text_before(at, SL_SPAN("uri-miss"));
    return text_before(at, SL_SPAN("sluice; fwd="));
}

/* What a server was asked for in vain is no hit (RFC 9211, 2.1). */
char *
status_before(char *at, const struct visit *v)
{
    return v->is_hit ? hit_before(at, v) : fetched_before(at, v);
}

struct sl_span
status_passed(const struct visit *v)
{
    if (v == NULL)
        return SL_SPAN("sluice; fwd=method");
    if (v->status == BYPASS)
        return SL_SPAN("sluice; fwd=bypass");
    if (v->slices != NULL)
        return SL_SPAN("sluice; fwd=partial");
    if (v->found != NULL)
        return v->using.is_refused ? SL_SPAN("sluice; fwd=request") : SL_SPAN("sluice; fwd=stale");
    return v->is_variant ? SL_SPAN("sluice; fwd=vary-miss") : SL_SPAN("sluice; fwd=uri-miss");
}
