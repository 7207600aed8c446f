/* A response that is not stored, passed on to who began the flight. */
#include "flight.h"

/* ---- as it comes ---- */

enum sl_flow
flight_relays(struct flight *f, enum result result)
{
    if (f->leader != NULL && f->leader->r != NULL) {
        flight_settle(f, RELAYED, result);
        return SL_FLOW_FULL;
    }
    flight_settle(f, OVER, result);
    return SL_FLOW_GONE;
}

enum sl_flow
flight_relay_body(struct flight *f, struct sl_data data, int ends)
{
    return f->leader_reads && f->leader != NULL ? sl_source_body(f->leader->r, data, ends)
                                                : SL_FLOW_GONE;
}

void
flight_relay_failed(struct flight *f, const struct sl_cause *cause)
{
    if (f->leader_reads && f->leader != NULL)
        sl_source_fail(f->leader->r, cause);
}

/* ---- the leader's source ---- */

static void
relay_want(struct sl_req *r, void *ctx)
{
    struct flight *f = ctx;

    (void)r;
    if (f->sub != NULL)
        sl_req_writable(f->sub);
}

static void
relay_closed(struct sl_req *r, void *ctx)
{
    struct flight *f = ctx;

    (void)r;
    f->leader_reads = 0;
    f->leader = NULL;
    flight_drop(f);
}

static const struct sl_source relay = {relay_want, relay_closed};

enum sl_verdict
flight_relay(struct visit *v)
{
    struct flight *f = v->flight;
    struct sl_req *r = v->r;
    struct sl_fields *to = sl_req_response(r);
    const struct sl_field *x;
    unsigned i;

    if (f->sub == NULL || f->state != RELAYED)
        return SL_NEXT; /* it has ended meanwhile: the request goes to the server itself */
    for (i = 0; (x = sl_fields_at(sl_req_response(f->sub), i)) != NULL; i++)
        sl_fields_add(to, sl_span_dup(sl_req_pool(r), x->name),
                      (struct sl_span){sl_span_dup(sl_req_pool(r), x->value), x->value.n});
    atomic_fetch_add(&f->n_refs, 1);
    f->leader_reads = 1;
    return sl_respond_from(r, sl_req_status(f->sub), f->size, &relay, f);
}
