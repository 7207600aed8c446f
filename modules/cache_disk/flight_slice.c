/* Flights that ask for a slice: the first of a response, by which it is found out that it comes in
 * slices, and the others, which must be of the same response. */
#include "flight.h"

#include <apr_strings.h>

#include <stdlib.h>

/* ---- the question ---- */

void
slice_begin(struct flight *f, const struct visit *v)
{
    if (v->of != NULL) {
        f->is_slice = f->is_background = 1; /* one slice is never too much, and may be useful */
        f->slice = v->of->slice;
        f->whole = v->of->whole;
        f->from = v->first;
        f->etag = kept(meta_get(v->of, SL_F_ETAG));
        f->modified = kept(meta_get(v->of, SL_F_LAST_MODIFIED));
        f->date = v->of->storing.date;
        f->sliced = kept(v->of_key);
    } else if (v->conf->slice > 0) {
        f->slice = v->conf->slice;
        f->from = v->first - v->first % f->slice;
    }
}

void
slice_ask(struct flight *f)
{
    apr_pool_t *pool = sl_req_pool(f->sub);
    struct sl_fields *head = sl_req_head(f->sub);

    sl_fields_set(head, "Range", sl_span(apr_psprintf(pool, "bytes=%ld-%ld", (long)f->from,
                                                      (long)(f->from + f->slice - 1))));
    if (f->is_slice)
        sl_fields_set(head, "If-Range", policy_strong_validator(f->etag, f->modified, f->date));
}

/* ---- the answer ---- */

/* Whether it is the slice that was asked for. */
static int
is_asked_for(const struct flight *f, struct sl_req *sub, struct content_range *r)
{
    struct sl_span field = sl_fields_get_id(sl_req_response(sub), SL_F_CONTENT_RANGE);
    int64_t end;

    if (f->status != 206 || policy_content_range(field, r) != 0 || r->first != f->from)
        return 0;
    end = r->whole - f->from > f->slice ? f->from + f->slice : r->whole;
    return r->last + 1 == end && (f->size < 0 || f->size == end - f->from);
}

static struct sl_span
field_of(struct sl_req *sub, enum sl_field_id id)
{
    return sl_fields_get_id(sl_req_response(sub), id);
}

/* As a response that is whole: its head is for all of its slices. */
static void
head_of_whole(struct flight *f, struct sl_req *sub, int64_t whole)
{
    sl_req_set_status(sub, 200);
    sl_fields_unset_id(sl_req_response(sub), SL_F_CONTENT_RANGE);
    f->status = 200;
    f->size = whole;
}

int
slice_is_all(struct flight *f, struct sl_req *sub)
{
    struct content_range r;

    if (!is_asked_for(f, sub, &r) || r.first != 0 || r.last + 1 != r.whole)
        return 0;
    head_of_whole(f, sub, r.whole);
    return 1;
}

static enum sl_flow
slices_refused(struct flight *f, struct sl_req *sub, const char *why)
{
    flight_refuses(f, sub, UNSTORABLE_MS, why);
    flight_settle(f, OVER, NOT_STORED);
    return SL_FLOW_GONE;
}

static struct flight *
flight_of_slice(const struct flight *of, int64_t n)
{
    static const struct marker none;
    struct flight *f;
    struct sl_span key;
    struct meta m;

    SL_ASSERT(meta_read(of->object->meta, &m) == 0);
    key = slice_key(of->object->key, m.slices, of->from / of->slice);
    f = flight_make(key, of->primary, &none);
    kept_free(key);
    f->hash = store_hash(cache_store, f->key);
    f->primary_hash = of->primary_hash;
    f->loop = of->loop;
    f->conf = of->conf;
    f->is_slice = f->is_background = 1;
    f->slice = of->slice;
    f->from = of->from;
    f->size = n;
    f->stamp = of->stamp;
    f->begun = of->begun;
    return f;
}

/* What was asked for goes on as a flight of its slice, the response is there for who waits. */
static enum sl_flow
slice_flies_on(struct flight *f, struct sl_req *sub, int64_t n)
{
    struct flight *slice = flight_of_slice(f, n);
    enum sl_flow flow = SL_FLOW_GONE;

    if (slice_store(slice, sub) == 0) {
        flight_hand_over(f, slice);
        flow = SL_FLOW_ROOM;
    }
    flight_commit(f); /* who finds it finds the flight, too */
    flight_settle(f, OVER, CAME);
    flight_drop(flow == SL_FLOW_ROOM ? f : slice);
    return flow;
}

enum sl_flow
slices_begin(struct flight *f, struct sl_req *sub)
{
    struct content_range r;
    const char *refused;

    if (f->status == 416 && f->from > 0) { /* one client's range is beyond the end */
        flight_settle(f, OVER, NOT_STORED);
        return SL_FLOW_GONE;
    }
    if (!is_asked_for(f, sub, &r))
        return slices_refused(f, sub, "the server gives other parts than it was asked for");
    if (policy_strong_validator(field_of(sub, SL_F_ETAG), field_of(sub, SL_F_LAST_MODIFIED),
                                http_date(field_of(sub, SL_F_DATE))).n == 0)
        return slices_refused(f, sub, "no ETag or Last-Modified says which slices fit");
    head_of_whole(f, sub, r.whole);
    refused = slices_store(f, sub);
    if (refused != NULL)
        return slices_refused(f, sub, refused);
    return slice_flies_on(f, sub, r.last + 1 - r.first);
}

/* The same response as the slices before. */
static int
is_of_same(const struct flight *f, struct sl_req *sub, const struct content_range *r)
{
    if (r->whole != f->whole)
        return 0;
    return f->etag.n > 0 ? sl_span_eq(f->etag, field_of(sub, SL_F_ETAG))
                         : sl_span_eq(f->modified, field_of(sub, SL_F_LAST_MODIFIED));
}

enum sl_flow
slice_head(struct flight *f, struct sl_req *sub)
{
    struct content_range r;

    if (f->cause != NULL || f->status >= 500 || f->status == 429) {
        flight_settle(f, OVER, FAILED);
        return SL_FLOW_GONE;
    }
    if (!is_asked_for(f, sub, &r) || !is_of_same(f, sub, &r)) {
        sl_note(sub, "the response has changed: its slices are forgotten");
        store_invalidate(cache_store, f->loop, f->sliced, NULL);
        flight_settle(f, OVER, NOT_STORED);
        return SL_FLOW_GONE;
    }
    f->size = r.last + 1 - r.first;
    if (slice_store(f, sub) != 0) {
        flight_settle(f, OVER, FAILED);
        return SL_FLOW_GONE;
    }
    flight_settle(f, ARRIVING, CAME);
    return SL_FLOW_ROOM;
}

enum slice_answer
flight_slice_result(struct visit *v, struct store_object **object, const struct sl_cause **cause)
{
    struct flight *f = v->flight;
    enum slice_answer answer = SLICE_FAILED;

    *cause = f->cause != NULL ? f->cause : &sl_cause_bad_response;
    switch (f->result) {
    case CAME:
        *object = f->object;
        store_hold(*object);
        return SLICE_HERE;
    case NOT_STORED:
        answer = SLICE_CHANGED;
        break;
    case AGREED:
    case FAILED:
        break;
    }
    flight_leave(v);
    return answer;
}
