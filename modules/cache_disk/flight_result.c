/* What has come of a flight, for each who waited. */
#include "flight.h"

/* CacheUseStale, or stale-if-error (RFC 5861, 4). */
static int
may_use_stale(const struct visit *v, const struct flight *f)
{
    static const struct {
        int status;
        unsigned bit;
    } statuses[] = {{500, STALE_500}, {502, STALE_502}, {503, STALE_503}, {504, STALE_504},
                    {403, STALE_403}, {404, STALE_404}, {429, STALE_429}};
    unsigned bits = 0;
    size_t i;

    if (v->found == NULL || v->meta.storing.strict == STRICT)
        return 0;
    if (f->cause != NULL)
        bits = f->cause->status == 504 ? STALE_TIMEOUT
               : f->cause == &sl_cause_bad_response || f->cause == &sl_cause_response_too_large
                   ? STALE_INVALID : STALE_ERROR;
    else
        for (i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
            if (statuses[i].status == f->status)
                bits = statuses[i].bit;
    return (v->meta.storing.strict == LENIENT && (bits & v->conf->stale) != 0) ||
           (v->using.may_on_error && (f->cause != NULL || policy_is_error(f->status)));
}

static void
result_object(struct visit *v, const struct flight *f)
{
    struct store_object *o = f->object;

    if (o == NULL) { /* the update could not be stored: what there is has been agreed to */
        v->outcome = v->found != NULL ? OUT_OBJECT : OUT_PASS;
        return;
    }
    if (v->stamp > f->stamp && store_state(cache_store, o) != STORE_GOOD) {
        v->outcome = OUT_PASS;
        v->reason = "what came was purged before it was asked for here";
        return;
    }
    store_hold(o);
    v->outcome = OUT_OBJECT;
    v->length = f->size;
    if (visit_take(v, &o) != 0) {
        store_drop(&o);
        v->outcome = OUT_PASS; /* another variant came, or one that this request may not have */
        v->reason = "what came is another variant";
    }
}

static void
result_none(struct visit *v, struct flight *f)
{
    if (may_use_stale(v, f)) {
        v->outcome = OUT_OBJECT;
        v->status = STALE;
        v->reason = f->cause != NULL ? f->cause->text : "the server answers with an error";
        v->is_hit = 1;
    } else if (v->is_leader && f->state == RELAYED)
        v->outcome = OUT_RELAY;
    else if (f->cause != NULL && v->is_leader) {
        v->outcome = OUT_FAILED;
        v->failed = f->cause;
    } else {
        v->outcome = OUT_PASS;
        if (f->cause != NULL)
            v->reason = "the fetch that it waited for failed";
    }
}

void
flight_result(struct visit *v)
{
    struct flight *f = v->flight;

    switch (f->result) {
    case CAME:
        v->status = v->found != NULL ? EXPIRED : MISS;
        v->is_new = 1;
        result_object(v, f);
        break;
    case AGREED:
        v->status = REVALIDATED;
        v->reason = "the server agrees to what is stored";
        result_object(v, f);
        break;
    case NOT_STORED:
    case FAILED:
        result_none(v, f);
        break;
    }
    if (v->outcome != OUT_OBJECT)
        store_reader_remove(&v->reader); /* who does not read is not waited for */
    if (v->is_leader && v->outcome != OUT_RELAY && f->state == RELAYED)
        flight_cancel(f); /* it has something better than what is relayed */
}
