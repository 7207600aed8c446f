/* What of a response is stored, and what a 304 changes of what is. */
#include "flight.h"

const char key_is_too_long[] = "what it varies by is too long";

/* The first of its lines counts. */
static void
take_first(struct sl_span *to, const struct sl_field *x)
{
    if (to->at == NULL)
        *to = x->value;
}

/* All of its lines do, joined at the first: a server may send hundreds. */
static void
take_joined(struct sl_span *to, struct sl_fields *fields, const struct sl_field *x)
{
    if (to->at == NULL)
        *to = sl_fields_joined_id(fields, (enum sl_field_id)x->id);
}

/* What the fields say, in one walk. */
static void
facts_read(struct response_facts *facts, struct sl_fields *fields)
{
    struct sl_field_lines lines = sl_fields_lines(fields);
    const struct sl_field *x, *end = lines.at + lines.n;

    for (x = lines.at; x < end; x++)
        switch ((enum sl_field_id)x->id) {
        case SL_F_CACHE_CONTROL: take_joined(&facts->cache_control, fields, x); break;
        case SL_F_CDN_CACHE_CONTROL:
            take_joined(&facts->cdn_cache_control, fields, x);
            break;
        case SL_F_VARY: take_joined(&facts->vary, fields, x); break;
        case SL_F_PRAGMA: take_first(&facts->pragma, x); break;
        case SL_F_EXPIRES: take_first(&facts->expires, x); break;
        case SL_F_DATE: take_first(&facts->date, x); break;
        case SL_F_AGE: take_first(&facts->age, x); break;
        case SL_F_LAST_MODIFIED: take_first(&facts->last_modified, x); break;
        case SL_F_SET_COOKIE: facts->has_set_cookie = 1; break;
        default: break; /* nothing is made of the others */
        }
}

static int
asks_not_to_store(const struct flight *f, struct sl_req *sub)
{
    struct sl_span asked;

    if (f->conf->ignore & IGNORE_REQUEST)
        return 0;
    asked = sl_fields_joined_id(sl_req_head(sub), SL_F_CACHE_CONTROL);
    return asked.n > 0 && (cache_control_parse(asked).flags & CC_NO_STORE) != 0;
}

/* NULL, or why it is not stored. */
static const char *
flight_judge(const struct flight *f, struct sl_req *sub, struct storing *s)
{
    struct response_facts facts = {
        .status = sl_req_status(sub),
        .has_authorization =
            f->is_personal || sl_fields_has_id(sl_req_head(sub), SL_F_AUTHORIZATION),
        .request_is_no_store = asks_not_to_store(f, sub),
        .asked_at = f->asked_at,
        .received_at = wall_s(f->loop),
        .valid = valid_seconds(f->conf, sl_req_status(sub)),
        .ignore = f->conf->ignore,
    };
    const char *refused;

    facts_read(&facts, sl_req_response(sub));
    if ((refused = policy_store(&facts, s)) != NULL)
        return refused;
    if (sl_req_page_of(sub) != 0)
        return "it leads to an ErrorPage";
    if (f->conf->no_store != NULL && sl_cond_holds(f->conf->no_store, sub) != 0)
        return "CacheNoStore holds";
    if (f->size > f->conf->max_object && f->conf->max_object >= 0)
        return "it is larger than CacheMaxObject";
    return NULL;
}

/* What is under the primary key says that there are variants, and by what they differ.  One that
 * says so already stays, and its variants with it. */
static uint64_t
marker_store(struct flight *f, struct sl_req *sub, struct sl_span vary)
{
    struct marker m = {.vary = vary};
    struct store_new n = {.key = f->primary, .flags = VARY_MARKER, .stamp = f->stamp, .size = 0};
    struct store_writer *w;

    if (sl_span_eq(f->marker.vary, vary))
        return f->marker.era;
    sl_random_bytes(&m.era, sizeof m.era);
    n.meta = marker_write(sl_req_pool(sub), &m);
    cache_tags(&n, sub, f->primary, f->primary_hash);
    if (!is_forgotten(f) && (w = store_writer_open(cache_store, f->loop, &n)) != NULL)
        store_commit(&w);
    return m.era;
}

/* The key of a response that varies is made of the request that it answers. */
static struct sl_span
flight_object_key(struct flight *f, struct sl_req *sub, struct meta *m)
{
    struct sl_span vary = sl_fields_joined_id(sl_req_response(sub), SL_F_VARY);

    if (vary.n == 0 || (f->conf->ignore & IGNORE_VARY))
        return f->primary;
    m->era = marker_store(f, sub, vary);
    return variant_key(sub, f->primary, vary);
}

static void
has_room(struct sl_loop *loop, void *data)
{
    struct flight *f = data;

    (void)loop;
    if (f->sub != NULL)
        sl_req_writable(f->sub);
}

const char *
flight_store(struct flight *f, struct sl_req *sub)
{
    struct meta m = {.status = (uint16_t)sl_req_status(sub)};
    const char *refused = flight_judge(f, sub, &m.storing);
    struct store_new *n;

    if (refused != NULL)
        return refused;
    f->born = m.storing.born;
    m.body = body_name();
    n = apr_palloc(sl_req_pool(sub), sizeof *n);
    *n = (struct store_new){.key = flight_object_key(f, sub, &m), .stamp = f->stamp,
                            .size = f->size, .data = f, .room = has_room};
    if (n->key.at == f->primary.at)
        n->hash = &f->primary_hash;
    if (n->key.n > STORE_KEY_MAX)
        return key_is_too_long;
    n->meta = meta_write(sl_req_pool(sub), &m, sl_req_response(sub), f->conf->ignore);
    cache_tags(n, sub, f->primary, f->primary_hash);
    if (!store_takes(cache_store, n))
        return "its head or body is too large, or it has too many tags";
    f->coming = n;
    return NULL;
}

/* 0, or -1: the store does not take it, or no memory. */
static int
writer_opens(struct flight *f, const struct store_new *n)
{
    f->writer = store_writer_open(cache_store, f->loop, n);
    if (f->writer == NULL)
        return -1;
    f->object = store_writer_object(f->writer);
    store_hold(f->object);
    return 0;
}

/* One that the disk does not take, any more or for its size, is still relayed to who waits for it, as
 * what turns out too large is. */
static int
writer_opens_or_relays(struct flight *f, struct store_new *n)
{
    if (writer_opens(f, n) == 0)
        return 0;
    n->size = -1;
    return writer_opens(f, n);
}

int
flight_arrives(struct flight *f)
{
    int rc = writer_opens_or_relays(f, f->coming);

    f->coming = NULL;
    return rc;
}

int
flight_came(struct flight *f, struct sl_span body)
{
    f->n = (int64_t)body.n;
    f->object = store_whole(cache_store, f->coming, body);
    f->coming = NULL;
    return f->object != NULL ? 0 : -1;
}

/* The head alone, under the key of the response. */
const char *
slices_store(struct flight *f, struct sl_req *sub)
{
    struct meta m = {.status = (uint16_t)sl_req_status(sub)};
    const char *refused = flight_judge(f, sub, &m.storing);
    struct store_new n = {.stamp = f->stamp, .flags = SLICED};

    if (refused != NULL)
        return refused;
    m.whole = f->size;
    m.slice = f->slice;
    sl_random_bytes(&m.slices, sizeof m.slices);
    n.key = flight_object_key(f, sub, &m);
    n.meta = meta_write(sl_req_pool(sub), &m, sl_req_response(sub), f->conf->ignore);
    cache_tags(&n, sub, f->primary, f->primary_hash);
    return writer_opens(f, &n) == 0 ? NULL : "its head is too large, or it has too many tags";
}

/* Whether and how long it is good, the head says; it alone is purged, and who has it already may
 * end what he began. */
int
slice_store(struct flight *f, struct sl_req *sub)
{
    apr_pool_t *pool = sl_req_pool(sub);
    struct meta m = {.status = 206, .storing.date = CC_ABSENT};
    struct store_new n = {.key = f->key, .stamp = UINT64_MAX, .size = f->size, .data = f,
                          .room = has_room};

    n.meta = meta_write(pool, &m, sl_fields_make(pool), 0);
    cache_tags(&n, sub, f->primary, f->primary_hash);
    return writer_opens_or_relays(f, &n);
}

/* The key may have been forgotten, by another thread, between the look at that and the storing: then
 * nobody but the flight can undo it. */
static void
forget_what_was_late(struct flight *f)
{
    if (f->object != NULL && is_forgotten(f))
        store_invalidate(cache_store, f->loop, f->object->key, NULL);
}

void
flight_commit(struct flight *f)
{
    int is_past = is_forgotten(f);

    if (f->is_slice && f->n != f->size) {
        flight_breaks_off(f);
        return;
    }
    if (f->writer == NULL && is_past)
        return;
    if (f->writer != NULL && (store_is_relayed(f->writer) != STORE_NOT_RELAYED || is_past)) {
        store_forgo(&f->writer);
        return;
    }
    if (f->writer != NULL)
        store_commit(&f->writer);
    else
        store_keep(cache_store, f->loop, f->object);
    forget_what_was_late(f);
    if (!f->is_slice) /* its response is counted */
        sl_count(f->loop, cache_counters[N_STORED], 1);
}

/* ---- the server agrees to what is stored, and says more about it (RFC 9111, 4.3.4) ---- */

static int
is_of_base(const struct sl_fields *fields, const struct meta *old)
{
    struct validators fresh = {sl_fields_get_id(fields, SL_F_ETAG),
                               sl_fields_get_id(fields, SL_F_LAST_MODIFIED)};
    struct validators stored = {meta_get(old, SL_F_ETAG), meta_get(old, SL_F_LAST_MODIFIED)};

    return policy_agrees(&fresh, &stored);
}

/* What may not be stored again stays as it is: stale. */
static void
flight_update_base(struct flight *f, struct sl_req *sub, const struct meta *old)
{
    struct sl_fields *fields = sl_req_response(sub);
    struct store_new n = {
        .key = f->base->key, .flags = f->base->flags, .stamp = f->stamp, .data = f};
    struct meta m = *old;

    sl_req_set_status(sub, old->status); /* what is judged is the whole, not the 304 */
    meta_merge(sl_req_pool(sub), fields, old);
    if (flight_judge(f, sub, &m.storing) != NULL || is_forgotten(f))
        return;
    n.meta = meta_write(sl_req_pool(sub), &m, fields, f->conf->ignore);
    cache_tags(&n, sub, f->primary, f->primary_hash);
    f->object = store_update(cache_store, f->loop, f->base, &n);
    forget_what_was_late(f);
}

enum sl_flow
flight_agree(struct flight *f, struct sl_req *sub)
{
    struct meta old;

    if (meta_read(f->base->meta, &old) == 0 && is_of_base(sl_req_response(sub), &old)) {
        flight_update_base(f, sub, &old);
        flight_settle(f, OVER, AGREED);
        return SL_FLOW_ROOM;
    }
    /* who waits asks for himself, and the next fetch for the whole */
    store_invalidate(cache_store, f->loop, f->base->key, NULL);
    flight_settle(f, OVER, NOT_STORED);
    return SL_FLOW_GONE;
}
