/* A flight's request to the server, and what comes of it. */
#include "flight.h"

#include <stdlib.h>

/* In place of UNSTORABLE_MS: what is too large costs those who share it that they wait for each
 * other. */
#define TOO_LARGE_MS (10 * 60 * 1000)
#define AT_ONCE (64 * 1024)

/* ---- what comes ---- */

/* RFC 9110, 6.6.1: who gets a response without Date writes down when. */
static void
date_add(struct flight *f, struct sl_req *sub)
{
    struct sl_fields *fields = sl_req_response(sub);
    struct sl_span date;

    if (sl_fields_has_id(fields, SL_F_DATE))
        return;
    date = sl_loop_http_date(f->loop); /* of this second */
    sl_fields_add(fields, "Date", sl_spans_join(sl_req_pool(sub), &date, 1));
}

/* What is encoded is for those alone who said that they take it, also where the server forgets to
 * say so (RFC 9110, 12.5.5). */
static void
vary_add(struct flight *f, struct sl_req *sub)
{
    struct sl_fields *fields = sl_req_response(sub);

    if (f->status != 304 && sl_fields_has_id(fields, SL_F_CONTENT_ENCODING) &&
        (f->conf->ignore & IGNORE_VARY) == 0 &&
        !sl_fields_lists(fields, SL_F_VARY, "Accept-Encoding") &&
        !sl_fields_lists(fields, SL_F_VARY, "*"))
        sl_fields_add(fields, "Vary", SL_SPAN("Accept-Encoding"));
}

/* In one line: who finds what is stored looks at one. */
static void
vary_join(struct sl_req *sub)
{
    struct sl_fields *fields = sl_req_response(sub);
    struct sl_span all = sl_fields_joined_id(fields, SL_F_VARY);

    if (all.at != sl_fields_get_id(fields, SL_F_VARY).at)
        sl_fields_set(fields, "Vary", all);
}

/* It is read while it comes. */
static enum sl_flow
flight_opens(struct flight *f)
{
    if (flight_arrives(f) != 0)
        return SL_FLOW_GONE;
    flight_settle(f, ARRIVING, CAME);
    return SL_FLOW_ROOM;
}

/* The body of a small response mostly comes with its head: then it becomes a whole object in one
 * step, and who waits is woken once, to something that is as good as found. */
static int
may_come_at_once(const struct flight *f, int ends)
{
    return ends || (f->size >= 0 && f->size <= AT_ONCE);
}

void
flight_head_came(struct flight *f, struct sl_req *r)
{
    f->status = sl_req_page_of(r) != 0 ? sl_req_page_of(r) : sl_req_status(r);
    f->cause = sl_req_cause(r);
    date_add(f, r);
    if (sl_fields_has_any(sl_req_response(r),
                          sl_field_bit(SL_F_VARY) | sl_field_bit(SL_F_CONTENT_ENCODING))) {
        vary_add(f, r);
        vary_join(r);
    }
}

int
flight_has_failed(const struct flight *f)
{
    return f->cause != NULL || (f->status >= 500 && valid_seconds(f->conf, f->status) == CC_ABSENT);
}

void
flight_refuses(struct flight *f, struct sl_req *r, int64_t ms, const char *why)
{
    sl_count(f->loop, cache_counters[N_REFUSED], 1);
    sl_note(r, "the cache does not store it: %s", why);
    if (why != key_is_too_long)
        unstorable_learn(f, r, ms, why);
}

const char *
flight_tries_to_store(struct flight *f, struct sl_req *r)
{
    const char *refused = flight_store(f, r);

    if (refused != NULL)
        flight_refuses(f, r, UNSTORABLE_MS, refused);
    return refused;
}

static enum sl_flow
flight_head(struct sl_req *sub, void *ctx, int ends)
{
    struct flight *f = ((struct fetch *)ctx)->flight;

    flight_head_came(f, sub);
    f->size = sl_req_length(sub);
    if (f->is_slice)
        return slice_head(f, sub);
    if (flight_has_failed(f))
        return flight_relays(f, FAILED);
    if (f->status == 304 && f->base != NULL)
        return flight_agree(f, sub);
    if (f->slice > 0 && (f->status == 206 || f->status == 416) && !slice_is_all(f, sub))
        return slices_begin(f, sub);
    if (flight_tries_to_store(f, sub) != NULL)
        return flight_relays(f, NOT_STORED);
    return may_come_at_once(f, ends) ? SL_FLOW_ROOM : flight_opens(f);
}

static int
is_too_large(const struct flight *f)
{
    return f->conf->max_object >= 0 && f->n > f->conf->max_object;
}

/* It will not be stored: who reads it reads on, and the next go past the cache.  Where it is too large,
 * what was stored before is of the past. */
static void
flight_turns(struct flight *f, struct sl_req *sub)
{
    int is_large = store_is_relayed(f->writer) == STORE_IS_TOO_LARGE;

    f->is_turned = 1;
    if (is_large)
        store_invalidate(cache_store, f->loop, f->object->key, NULL);
    flight_refuses(f, sub, is_large ? TOO_LARGE_MS : UNSTORABLE_MS,
                   is_large ? "it turned out too large" : "the disk fails");
    flight_close(f);
}

void
flight_breaks_off(struct flight *f)
{
    flight_close(f);
    store_abort(&f->writer);
}

static enum sl_flow
flight_stores(struct flight *f, struct sl_req *sub, struct sl_data data)
{
    enum sl_flow flow;

    f->n += (int64_t)data.n;
    if (is_too_large(f))
        store_relay(f->writer);
    flow = store_append(f->writer, data.at, data.n);
    if (!f->is_turned && store_is_relayed(f->writer) != STORE_NOT_RELAYED)
        flight_turns(f, sub);
    if (flow == SL_FLOW_GONE)
        flight_breaks_off(f);
    return flow;
}

static enum sl_flow
flight_body(struct sl_req *sub, void *ctx, struct sl_data data, int ends)
{
    struct flight *f = ((struct fetch *)ctx)->flight;

    if (f->state == RELAYED)
        return flight_relay_body(f, data, ends);
    if (data.n == 0 || (f->writer == NULL && f->coming == NULL))
        return SL_FLOW_ROOM; /* a 304 has no body */
    if (f->coming != NULL && (int64_t)data.n == f->size)
        return flight_came(f, (struct sl_span){data.at, data.n}) == 0 ? SL_FLOW_ROOM : SL_FLOW_GONE;
    if (f->coming != NULL && flight_opens(f) != SL_FLOW_ROOM)
        return SL_FLOW_GONE;
    return flight_stores(f, sub, data);
}

static void
flight_ended(struct sl_req *sub, void *ctx, const struct sl_cause *cause)
{
    struct flight *f = ((struct fetch *)ctx)->flight;

    (void)sub;
    if (f->coming != NULL && f->size <= 0 && cause == NULL)
        flight_came(f, SL_SPAN(""));
    f->sub = NULL;
    f->coming = NULL;
    free(f->fetch);
    f->fetch = NULL;
    if (cause == NULL && (f->writer != NULL || (f->state == ASKING && f->object != NULL)))
        flight_commit(f);
    else if (f->writer != NULL)
        flight_breaks_off(f);
    if (f->state == ASKING) {
        f->cause = cause; /* NULL and no object: no memory */
        f->status = 0;    /* a head alone is no answer */
        flight_settle(f, OVER, cause == NULL && f->object != NULL ? CAME : FAILED);
    } else {
        if (f->state == RELAYED && cause != NULL)
            flight_relay_failed(f, cause);
        flight_over(f);
    }
    flight_drop(f);
}

static char *
flight_room(void *ctx, size_t *n)
{
    const struct flight *f = ((struct fetch *)ctx)->flight;

    return f->writer != NULL ? store_room(f->writer, n) : NULL;
}

const struct sl_subrequest_owner flight_fetcher = {flight_head, flight_body, flight_ended,
                                                 flight_room};

/* ---- the question ---- */

/* A whole, unconditional response is asked for, or whether the stored one is still good. */
static void
flight_edit(struct flight *f)
{
    static const struct {
        enum sl_field_id id;
        const char *name;
    } dropped[] = {{SL_F_IF_NONE_MATCH, "If-None-Match"}, {SL_F_IF_RANGE, "If-Range"},
                   {SL_F_IF_MODIFIED_SINCE, "If-Modified-Since"}, {SL_F_RANGE, "Range"}};
    struct sl_fields *head = sl_req_head(f->sub);
    struct meta m;
    struct sl_span etag, modified;
    size_t i;

    sl_subrequest_set_line(f->sub, SL_SPAN("GET"), (struct sl_span){NULL, 0});
    for (i = 0; i < sizeof dropped / sizeof dropped[0]; i++)
        if (sl_fields_has_id(head, dropped[i].id))
            sl_fields_unset(head, dropped[i].name);
    if (f->slice > 0)
        slice_ask(f);
    if (f->base == NULL || meta_read(f->base->meta, &m) != 0)
        return;
    etag = meta_get(&m, SL_F_ETAG);
    modified = meta_get(&m, SL_F_LAST_MODIFIED);
    if (etag.n > 0)
        sl_fields_set(head, "If-None-Match", etag);
    if (modified.n > 0)
        sl_fields_set(head, "If-Modified-Since", modified);
    if (etag.n == 0 && modified.n == 0)
        store_drop(&f->base);
}

void
flight_asks(struct flight *f)
{
    f->stamp = store_stamp(cache_store);
    f->asked_at = wall_s(f->loop);
}

struct fetch *
fetch_of(struct flight *f)
{
    struct fetch *fetch = store_zeros(sizeof *fetch);

    SL_ASSERT(fetch != NULL);
    fetch->flight = f;
    return fetch;
}

void
flight_start(struct flight *f, struct sl_req *client)
{
    flight_asks(f);
    f->fetch = fetch_of(f);
    f->sub = sl_subrequest(client, &flight_fetcher, f->fetch);
    flight_edit(f);
    sl_subrequest_start(f->sub);
}

/* ---- its end before the time ---- */

void
flight_cancel(struct flight *f)
{
    if (f->sub == NULL)
        return;
    sl_subrequest_cancel(&f->sub);
    free(f->fetch);
    f->fetch = NULL;
    if (f->writer != NULL)
        flight_breaks_off(f);
    flight_over(f);
    flight_drop(f);
}
