/* One fetch for all who miss the same.
 *
 *   asking -> arriving -> over            what comes is stored, and all read it from the store
 *         \-> relayed -> over             it may not be stored: it goes to who began the flight
 *         \-> over                        it failed, or the server has agreed to what is stored
 *
 * A flight belongs to the loop it was begun on; those who wait may be on any.  The table, the
 * waiters and the users are under the lock of their bucket, which is taken at a miss only and
 * for a few instructions; what a flight has found out is written before it is settled, and only
 * read afterwards. */
#include "cache.h"

#include <apr_strings.h>

#include <pthread.h>
#include <stdlib.h>

#define BUCKETS 256
#define UNSTORABLE 4096
#define UNSTORABLE_MS 10000
#define TOO_LARGE_MS (10 * 60 * 1000) /* a failure to learn it: some answers were cut */
#define FORGOTTEN 4096

enum state { ASKING, ARRIVING, RELAYED, OVER };
enum result { CAME, AGREED, NOT_STORED, FAILED };

struct flight {
    struct flight *next; /* of the bucket */
    struct store_hash hash;
    struct sl_loop *loop;
    const struct cache_conf *conf;
    struct sl_span key, primary; /* copies; key: what is looked for */
    enum state state;
    enum result result;      /* settled: not ASKING any more */
    int is_listed;           /* in the table */
    int is_background;
    int is_personal; /* the server knows who asks */
    atomic_uint n_refs;
    unsigned n_users, n_waiters;
    struct visit *waiters;
    struct visit *leader;    /* who began it, while it waits or is relayed to; the loop's */
    int leader_reads;        /* the leader has become a source's request */
    struct sl_req *sub;      /* NULL: over; the loop's */
    struct store_writer *writer;
    struct store_object *object, *base; /* held: what comes, what is to be validated */
    int64_t asked_at, size;
    uint64_t stamp;
    uint64_t begun;       /* by the clock of what was forgotten */
    struct marker marker; /* of what is looked for; its vary a copy, n 0: there was none */
    int status;
    const struct sl_cause *cause;
    struct sl_mail mail; /* nobody wants it any more */
};

static struct bucket {
    pthread_mutex_t lock;
    struct flight *flights;
} buckets[BUCKETS] = {[0 ... BUCKETS - 1] = {PTHREAD_MUTEX_INITIALIZER, NULL}};
static struct {
    _Atomic(uint64_t) key;
    _Atomic(int64_t) until_ms;
} unstorable[UNSTORABLE];

/* ---- what lately could not be stored ---- */

/* With Authorization it is another question: who asks with it decides for his like alone. */
static uint64_t
unstorable_hash(struct sl_span key, struct sl_req *r)
{
    return store_hash(cache_store, key).lo +
           (unsigned)sl_fields_has_id(sl_req_head(r), SL_F_AUTHORIZATION);
}

int
is_known_unstorable(struct visit *v)
{
    uint64_t hash = unstorable_hash(v->key, v->r);
    unsigned i = (unsigned)(hash % UNSTORABLE);

    return atomic_load_explicit(&unstorable[i].key, memory_order_relaxed) == hash &&
           atomic_load_explicit(&unstorable[i].until_ms, memory_order_relaxed) >
               sl_loop_now(sl_req_loop(v->r));
}

static void
unstorable_learn(const struct flight *f, struct sl_req *sub, int64_t ms)
{
    uint64_t hash = unstorable_hash(f->primary, sub);
    unsigned i = (unsigned)(hash % UNSTORABLE);

    atomic_store_explicit(&unstorable[i].until_ms, sl_loop_now(f->loop) + ms,
                          memory_order_relaxed);
    atomic_store_explicit(&unstorable[i].key, hash, memory_order_relaxed);
}

/* ---- what was forgotten while it was asked for ---- */

static _Atomic(uint64_t) forgets;
/* When; keys that share a cell are not stored once. */
static _Atomic(uint64_t) forgotten[FORGOTTEN];

static _Atomic(uint64_t) *
forgotten_at(struct sl_span key)
{
    return &forgotten[store_hash(cache_store, key).lo % FORGOTTEN];
}

void
flights_forget(struct sl_span key)
{
    _Atomic(uint64_t) *cell = forgotten_at(key);
    uint64_t now = atomic_fetch_add(&forgets, 1) + 1, before = atomic_load(cell);

    while (before < now && !atomic_compare_exchange_weak(cell, &before, now))
        ;
}

static int
is_forgotten(const struct flight *f)
{
    return atomic_load(forgotten_at(f->primary)) > f->begun;
}

/* ---- under the lock ---- */

static struct bucket *
bucket_lock(struct store_hash hash)
{
    struct bucket *b = &buckets[hash.lo % BUCKETS];

    pthread_mutex_lock(&b->lock);
    return b;
}

static void
bucket_unlock(struct bucket *b)
{
    pthread_mutex_unlock(&b->lock);
}

static struct flight *
flight_find(const struct bucket *b, struct store_hash hash, struct sl_span key)
{
    struct flight *f = b->flights;

    while (f != NULL && (f->hash.hi != hash.hi || f->hash.lo != hash.lo ||
                         !sl_span_eq(f->key, key) || is_forgotten(f)))
        f = f->next;
    return f;
}

static void
flight_unlist(struct bucket *b, struct flight *f)
{
    struct flight **at = &b->flights;

    if (!f->is_listed)
        return;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->is_listed = 0;
}

static void
flight_list(struct bucket *b, struct flight *f)
{
    f->next = b->flights;
    b->flights = f;
    f->is_listed = 1;
}

static void
waiter_add(struct flight *f, struct visit *v)
{
    v->flight = f;
    v->next_waiter = f->waiters;
    f->waiters = v;
    f->n_waiters++;
    f->n_users++;
    atomic_fetch_add(&f->n_refs, 1);
}

static void
waiter_remove(struct flight *f, struct visit *v)
{
    struct visit **at = &f->waiters;

    while (*at != NULL && *at != v)
        at = &(*at)->next_waiter;
    if (*at == NULL)
        return;
    *at = v->next_waiter;
    f->n_waiters--;
}

/* ---- life ---- */

static struct sl_span
key_of(const struct visit *v)
{
    return v->is_variant ? v->variant : v->key;
}

static struct flight *
flight_new(const struct visit *v)
{
    struct flight *f = calloc(1, sizeof *f);

    SL_ASSERT(f != NULL);
    f->key = kept(key_of(v));
    f->primary = kept(v->key);
    f->hash = store_hash(cache_store, f->key);
    f->loop = sl_req_loop(v->r);
    f->conf = v->conf;
    f->n_refs = 1;
    f->size = -1;
    f->begun = atomic_load(&forgets);
    f->is_personal = sl_var_get(v->r, "user").n > 0; /* mod_auth took Authorization away */
    if (v->is_variant)
        f->marker = (struct marker){v->marker.era, kept(v->marker.vary)};
    if (v->found != NULL) {
        f->base = v->found;
        store_hold(f->base);
    }
    return f;
}

static void
flight_drop(struct flight *f)
{
    if (atomic_fetch_sub(&f->n_refs, 1) > 1)
        return;
    if (f->object != NULL)
        store_drop(&f->object);
    if (f->base != NULL)
        store_drop(&f->base);
    kept_free(f->key);
    kept_free(f->primary);
    kept_free(f->marker.vary);
    free(f);
}

/* The tokens of all who wait, who wait no more; the array is the caller's. */
static struct sl_token *
waiters_take(struct flight *f, unsigned *n)
{
    struct sl_token *tokens = malloc((f->n_waiters + 1) * sizeof *tokens);
    const struct visit *v;

    SL_ASSERT(tokens != NULL);
    *n = 0;
    for (v = f->waiters; v != NULL; v = v->next_waiter)
        tokens[(*n)++] = v->token;
    f->waiters = NULL;
    f->n_waiters = 0;
    return tokens;
}

/* Its result is known: who waits may ask for it.  What still arrives can be joined. */
static void
flight_settle(struct flight *f, enum state state, enum result result)
{
    struct bucket *b = bucket_lock(f->hash);
    struct sl_token *tokens;
    unsigned i, n;

    f->result = result;
    f->state = state;
    if (state != ARRIVING)
        flight_unlist(b, f);
    tokens = waiters_take(f, &n);
    bucket_unlock(b);
    for (i = 0; i < n; i++)
        sl_req_resume(tokens[i], SL_NEXT);
    free(tokens);
}

static void
flight_over(struct flight *f)
{
    struct bucket *b = bucket_lock(f->hash);

    flight_unlist(b, f);
    f->state = OVER;
    bucket_unlock(b);
}

/* ---- what comes ---- */

static void
writer_has_room(struct sl_loop *loop, void *data)
{
    struct flight *f = data;

    (void)loop;
    if (f->sub != NULL)
        sl_req_writable(f->sub);
}

/* The core has seen to it that these are digits. */
static int64_t
length_of(struct sl_req *sub)
{
    struct sl_span text = sl_fields_get_id(sl_req_response(sub), SL_F_CONTENT_LENGTH);

    return text.n > 0 ? apr_strtoi64(sl_span_dup(sl_req_pool(sub), text), NULL, 10) : -1;
}

static struct storing
flight_judge(const struct flight *f, struct sl_req *sub, struct sl_fields *fields)
{
    struct cache_control asked =
        cache_control_parse(sl_fields_joined(sl_req_head(sub), "Cache-Control"));
    struct response_facts facts = {
        .status = sl_req_status(sub),
        .cache_control = sl_fields_joined(fields, "Cache-Control"),
        .cdn_cache_control = sl_fields_joined(fields, "CDN-Cache-Control"),
        .pragma = sl_fields_get_id(fields, SL_F_PRAGMA),
        .expires = sl_fields_get_id(fields, SL_F_EXPIRES),
        .date = sl_fields_get_id(fields, SL_F_DATE),
        .age = sl_fields_get_id(fields, SL_F_AGE),
        .vary = sl_fields_joined(fields, "Vary"),
        .last_modified = sl_fields_get_id(fields, SL_F_LAST_MODIFIED),
        .has_set_cookie = sl_fields_has_id(fields, SL_F_SET_COOKIE),
        .has_authorization =
            f->is_personal || sl_fields_has_id(sl_req_head(sub), SL_F_AUTHORIZATION),
        .request_is_no_store =
            (asked.flags & CC_NO_STORE) != 0 && (f->conf->ignore & IGNORE_REQUEST) == 0,
        .asked_at = f->asked_at,
        .received_at = sl_loop_wall_us(f->loop) / 1000000,
        .valid = valid_seconds(f->conf, sl_req_status(sub)),
        .ignore = f->conf->ignore,
    };
    struct storing s = policy_store(&facts);

    if (s.refused == NULL && f->conf->no_store != NULL &&
        sl_cond_holds(f->conf->no_store, sub) != 0)
        s.refused = "CacheNoStore holds";
    if (s.refused == NULL && f->size > f->conf->max_object && f->conf->max_object >= 0)
        s.refused = "it is larger than CacheMaxObject";
    return s;
}

/* What is under the primary key says that there are variants, and by what they differ.  One that
 * says so already stays, and its variants with it. */
static uint64_t
marker_store(struct flight *f, struct sl_req *sub, struct sl_span vary)
{
    struct marker m = {.vary = vary};
    uint64_t tags[STORE_TAGS_MAX];
    struct store_new n = {.key = f->primary, .tags = tags, .flags = VARY_MARKER,
                          .stamp = f->stamp, .size = 0, .data = f, .room = writer_has_room};
    struct store_writer *w;

    if (sl_span_eq(f->marker.vary, vary))
        return f->marker.era;
    sl_random_bytes(&m.era, sizeof m.era);
    n.meta = marker_write(sl_req_pool(sub), &m);
    n.n_tags = cache_tags(sub, f->primary, sl_req_response(sub), tags);
    if (!is_forgotten(f) && (w = store_writer_open(cache_store, f->loop, &n)) != NULL)
        store_commit(&w);
    return m.era;
}

/* The key of a response that varies is made of the request that it answers. */
static struct sl_span
flight_object_key(struct flight *f, struct sl_req *sub, struct meta *m)
{
    struct sl_span vary = sl_fields_joined(sl_req_response(sub), "Vary");

    if (vary.n == 0 || (f->conf->ignore & IGNORE_VARY))
        return f->primary;
    m->era = marker_store(f, sub, vary);
    return variant_key(sub, f->primary, vary);
}

static struct meta
meta_of(struct sl_req *sub, const struct storing *s)
{
    return (struct meta){.status = sl_req_status(sub), .storing = *s,
                         .date = http_date(sl_fields_get_id(sl_req_response(sub), SL_F_DATE))};
}

static int
flight_store(struct flight *f, struct sl_req *sub, const struct storing *s)
{
    uint64_t tags[STORE_TAGS_MAX];
    struct meta m = meta_of(sub, s);
    struct store_new n = {.tags = tags, .stamp = f->stamp, .size = f->size, .data = f,
                          .room = writer_has_room};

    m.body = body_name();
    n.key = flight_object_key(f, sub, &m);
    n.meta = meta_write(sl_req_pool(sub), &m, sl_req_response(sub), f->conf->ignore);
    n.n_tags = cache_tags(sub, f->primary, sl_req_response(sub), tags);
    f->writer = store_writer_open(cache_store, f->loop, &n);
    if (f->writer == NULL)
        return -1;
    f->object = store_writer_object(f->writer);
    store_hold(f->object);
    return 0;
}

/* ---- the server agrees to what is stored, and says more about it (RFC 9111, 4.3.4) ---- */

/* Whether it speaks of what is stored, and not of another response. */
static int
is_of_base(const struct sl_fields *fields, const struct meta *old)
{
    struct sl_span fresh = sl_fields_get_id(fields, SL_F_ETAG), stored = meta_get(old, "ETag");

    return fresh.n == 0 || stored.n == 0 || policy_etag_matches(fresh, stored);
}

static int
is_silent(const struct sl_fields *fields)
{
    return !sl_fields_has_id(fields, SL_F_CACHE_CONTROL) &&
           !sl_fields_has_id(fields, SL_F_EXPIRES) && !sl_fields_has_id(fields, SL_F_PRAGMA) &&
           sl_fields_get(fields, "CDN-Cache-Control").at == NULL;
}

static int
is_among(const struct sl_fields *fields, unsigned n, struct sl_span name)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if (sl_span_eqi(sl_fields_at(fields, i)->name, name))
            return 1;
    return 0;
}

/* Makes the 304 the response it stands for.  A cookie in it is for who asked, and what it says of
 * a coding or a part is not of the body that is stored. */
static void
fields_merge(struct sl_req *sub, const struct meta *old)
{
    static const char *const not_taken[] = {"Set-Cookie", "Content-Encoding", "Content-Range"};
    struct sl_fields *fields = sl_req_response(sub);
    apr_pool_t *pool = sl_req_pool(sub);
    struct sl_span rest = old->fields, name, value;
    unsigned n = 0;
    size_t i;

    for (i = 0; i < sizeof not_taken / sizeof not_taken[0]; i++)
        sl_fields_unset(fields, not_taken[i]);
    while (sl_fields_at(fields, n) != NULL)
        n++;
    while (meta_next(&rest, &name, &value)) /* the old Date would make it old */
        if (!is_among(fields, n, name) && !sl_span_eqi(name, SL_SPAN("Date")))
            sl_fields_add(fields, sl_span_dup(pool, name),
                          (struct sl_span){sl_span_dup(pool, value), value.n});
}

/* What may not be stored again stays as it is: stale. */
static void
flight_update_base(struct flight *f, struct sl_req *sub, const struct meta *old)
{
    struct sl_fields *fields = sl_req_response(sub);
    uint64_t tags[STORE_TAGS_MAX];
    struct store_new n = {.key = f->base->key, .tags = tags, .flags = f->base->flags,
                          .stamp = f->stamp, .data = f};
    int says_nothing = is_silent(fields);
    struct storing s;
    struct meta m;

    sl_req_set_status(sub, old->status); /* what is judged is the whole, not the 304 */
    fields_merge(sub, old);
    s = flight_judge(f, sub, fields);
    if (s.refused != NULL || is_forgotten(f))
        return;
    m = meta_of(sub, &s);
    m.era = old->era;
    m.body = old->body;
    if (says_nothing) { /* the old lifetime begins again */
        m.storing = old->storing;
        m.storing.born = s.born;
    }
    n.meta = meta_write(sl_req_pool(sub), &m, fields, f->conf->ignore);
    n.n_tags = cache_tags(sub, f->primary, fields, tags);
    f->object = store_update(cache_store, f->loop, f->base, &n);
}

static enum sl_flow
flight_agree(struct flight *f, struct sl_req *sub)
{
    struct meta old;

    if (meta_read(f->base->meta, &old) == 0 && is_of_base(sl_req_response(sub), &old)) {
        flight_update_base(f, sub, &old);
        flight_settle(f, OVER, AGREED);
        return SL_FLOW_ROOM;
    }
    /* who waits asks for himself, and the next fetch for the whole */
    store_invalidate(cache_store, f->loop, f->base->key);
    flight_settle(f, OVER, NOT_STORED);
    return SL_FLOW_GONE;
}

/* ---- what is not stored ---- */

/* Nobody may have it but who asked for it first. */
static enum sl_flow
flight_not_stored(struct flight *f)
{
    if (f->leader != NULL && f->leader->r != NULL) {
        flight_settle(f, RELAYED, NOT_STORED);
        return SL_FLOW_FULL;
    }
    flight_settle(f, OVER, NOT_STORED);
    return SL_FLOW_GONE;
}

static enum sl_flow
flight_failed(struct flight *f)
{
    if (f->leader != NULL && f->leader->r != NULL) {
        flight_settle(f, RELAYED, FAILED);
        return SL_FLOW_FULL;
    }
    flight_settle(f, OVER, FAILED);
    return SL_FLOW_GONE;
}

static enum sl_flow
flight_head(struct sl_req *sub, void *ctx, int ends)
{
    struct flight *f = ctx;
    struct storing s;

    (void)ends;
    f->status = sl_req_status(sub);
    f->cause = sl_req_cause(sub);
    f->size = length_of(sub);
    if (f->cause != NULL || (f->status >= 500 && valid_seconds(f->conf, f->status) == CC_ABSENT))
        return flight_failed(f);
    if (f->status == 304 && f->base != NULL)
        return flight_agree(f, sub);
    s = flight_judge(f, sub, sl_req_response(sub));
    if (s.refused != NULL) {
        sl_count(f->loop, cache_counters[N_REFUSED], 1);
        sl_note(sub, "the cache does not store it: %s", s.refused);
        unstorable_learn(f, sub, UNSTORABLE_MS);
        return flight_not_stored(f);
    }
    if (flight_store(f, sub, &s) != 0) { /* too large a head or body, too many tags */
        unstorable_learn(f, sub, UNSTORABLE_MS);
        return flight_not_stored(f);
    }
    flight_settle(f, ARRIVING, CAME);
    return SL_FLOW_ROOM;
}

static enum sl_flow
flight_body(struct sl_req *sub, void *ctx, struct sl_data data, int ends)
{
    struct flight *f = ctx;
    enum sl_flow flow;

    if (f->state == RELAYED)
        return f->leader_reads && f->leader != NULL ? sl_source_body(f->leader->r, data, ends)
                                                    : SL_FLOW_GONE;
    if (f->writer == NULL)
        return SL_FLOW_ROOM; /* of a 304, which has none */
    flow = data.n > 0 ? store_append(f->writer, data.at, data.n) : SL_FLOW_ROOM;
    if (flow == SL_FLOW_GONE) { /* too large, or the disk fails: the next go past the cache */
        unstorable_learn(f, sub, f->size < 0 ? TOO_LARGE_MS : UNSTORABLE_MS);
        store_abort(&f->writer);
    }
    return flow;
}

/* A body that turned out too large is given to those who read it, as is one whose key was
 * forgotten since it was asked for; neither is kept. */
static void
flight_commit(struct flight *f)
{
    int is_complete, is_too_large = f->conf->max_object >= 0 &&
                                    store_size(f->object, &is_complete) > f->conf->max_object;

    if (is_too_large)
        store_invalidate(cache_store, f->loop, f->object->key);
    if (is_too_large || is_forgotten(f)) {
        store_forgo(&f->writer);
        return;
    }
    store_commit(&f->writer);
    sl_count(f->loop, cache_counters[N_STORED], 1);
}

static void
flight_ended(struct sl_req *sub, void *ctx, const struct sl_cause *cause)
{
    struct flight *f = ctx;

    (void)sub;
    f->sub = NULL;
    if (f->writer != NULL && cause == NULL)
        flight_commit(f);
    else if (f->writer != NULL)
        store_abort(&f->writer);
    if (f->state == ASKING) { /* it never had a head */
        f->cause = cause;
        flight_settle(f, OVER, FAILED);
    } else if (f->state == RELAYED && f->leader != NULL && f->leader_reads && cause != NULL)
        sl_source_fail(f->leader->r, cause);
    flight_over(f);
    flight_drop(f);
}

static const struct sl_subrequest_owner fetcher = {flight_head, flight_body, flight_ended};

/* ---- the question ---- */

/* A whole, unconditional response is asked for, or whether the stored one is still good. */
static void
flight_edit(struct flight *f)
{
    static const char *const dropped[] = {"If-None-Match", "If-Modified-Since", "If-Range",
                                          "Range"};
    struct sl_fields *head = sl_req_head(f->sub);
    struct meta m;
    struct sl_span etag, modified;
    size_t i;

    sl_subrequest_set_line(f->sub, SL_SPAN("GET"), (struct sl_span){NULL, 0});
    for (i = 0; i < sizeof dropped / sizeof dropped[0]; i++)
        sl_fields_unset(head, dropped[i]);
    if (f->base == NULL || meta_read(f->base->meta, &m) != 0)
        return;
    etag = meta_get(&m, "ETag");
    modified = meta_get(&m, "Last-Modified");
    if (etag.n > 0)
        sl_fields_set(head, "If-None-Match", etag);
    if (modified.n > 0)
        sl_fields_set(head, "If-Modified-Since", modified);
    if (etag.n == 0 && modified.n == 0)
        store_drop(&f->base);
}

static void
flight_start(struct flight *f, struct sl_req *client)
{
    f->stamp = store_stamp(cache_store);
    f->asked_at = sl_loop_wall_us(f->loop) / 1000000;
    f->sub = sl_subrequest(client, &fetcher, f);
    flight_edit(f);
    sl_subrequest_start(f->sub);
}

void
flight_join(struct visit *v)
{
    struct sl_span key = key_of(v);
    struct store_hash hash = store_hash(cache_store, key);
    struct flight *f, *own = flight_new(v);
    struct bucket *b;
    int is_arriving;

    visit_suspend(v);
    v->outcome = OUT_FLIGHT;
    b = bucket_lock(hash);
    f = v->conf->is_locked ? flight_find(b, hash, key) : NULL;
    if (f == NULL) {
        f = own;
        f->leader = v;
        v->is_leader = 1;
        if (v->conf->is_locked)
            flight_list(b, f);
    }
    waiter_add(f, v);
    is_arriving = f->state == ARRIVING;
    if (is_arriving)
        waiter_remove(f, v);
    bucket_unlock(b);
    if (is_arriving)
        sl_req_resume(v->token, SL_NEXT);
    if (f == own)
        flight_start(f, v->r);
    else
        flight_drop(own);
}

void
flight_update(struct visit *v)
{
    struct flight *own = flight_new(v);
    struct bucket *b = bucket_lock(own->hash);
    int is_mine = flight_find(b, own->hash, own->key) == NULL;

    own->is_background = 1;
    if (is_mine)
        flight_list(b, own);
    bucket_unlock(b);
    if (is_mine)
        flight_start(own, v->r);
    else
        flight_drop(own);
}

/* ---- its end before the time ---- */

static void
flight_cancel(struct flight *f)
{
    if (f->sub == NULL)
        return;
    sl_subrequest_cancel(&f->sub);
    if (f->writer != NULL)
        store_abort(&f->writer);
    flight_over(f);
    flight_drop(f);
}

/* ---- what came of it ---- */

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

    if (v->found == NULL || v->meta.storing.is_strict)
        return 0;
    if (f->cause != NULL)
        bits = f->cause->status == 504 ? STALE_TIMEOUT
               : f->cause == &sl_cause_bad_response || f->cause == &sl_cause_response_too_large
                   ? STALE_INVALID : STALE_ERROR;
    else
        for (i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
            if (statuses[i].status == f->status)
                bits = statuses[i].bit;
    return (bits & v->conf->stale) != 0 ||
           (v->using.may_on_error && (f->cause != NULL || f->status >= 500));
}

static void
result_object(struct visit *v, const struct flight *f)
{
    struct store_object *o = f->object;

    if (o == NULL) { /* the update could not be stored: what there is has been agreed to */
        v->outcome = v->found != NULL ? OUT_OBJECT : OUT_PASS;
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
        v->status = "STALE";
        v->reason = f->cause != NULL ? f->cause->text : "the server answers with an error";
        v->is_hit = 1;
    } else if (v->is_leader)
        v->outcome = OUT_RELAY;
    else if (f->cause != NULL) {
        v->outcome = OUT_FAILED;
        v->failed = f->cause;
        v->failed_status = f->status;
    } else
        v->outcome = OUT_PASS;
}

void
flight_result(struct visit *v)
{
    struct flight *f = v->flight;

    switch (f->result) {
    case CAME:
        v->status = v->found != NULL ? "EXPIRED" : "MISS";
        v->is_new = 1;
        result_object(v, f);
        break;
    case AGREED:
        v->status = "REVALIDATED";
        v->reason = "the server agrees to what is stored";
        result_object(v, f);
        sl_count(sl_req_loop(v->r), cache_counters[N_REVALIDATED], 1);
        break;
    case NOT_STORED:
    case FAILED:
        result_none(v, f);
        break;
    }
    if (v->is_leader && v->outcome != OUT_RELAY && f->state == RELAYED)
        flight_cancel(f); /* it has something better than what is relayed */
}

/* ---- leaving ---- */

/* Whoever comes from now on begins a flight of his own: nobody would wake him in this one. */
static void
flight_abandoned(struct sl_loop *loop, struct sl_mail *mail)
{
    struct flight *f = (struct flight *)(void *)((char *)mail - offsetof(struct flight, mail));
    struct bucket *b = bucket_lock(f->hash);
    int is_wanted = f->n_users > 0; /* again, since this was posted */

    (void)loop;
    f->mail.fn = NULL;
    if (!is_wanted)
        flight_unlist(b, f);
    bucket_unlock(b);
    if (!is_wanted)
        flight_cancel(f);
    flight_drop(f);
}

/* The last one who leaves ends what still comes. */
void
flight_leave(struct visit *v)
{
    struct flight *f = v->flight;
    struct bucket *b;
    int is_last;

    v->flight = NULL;
    if (v->is_leader)
        f->leader = NULL;
    b = bucket_lock(f->hash);
    waiter_remove(f, v);
    is_last = --f->n_users == 0 && f->state != OVER && !f->is_background && f->mail.fn == NULL;
    if (is_last) {
        f->mail.fn = flight_abandoned;
        atomic_fetch_add(&f->n_refs, 1);
    }
    bucket_unlock(b);
    if (is_last)
        sl_loop_post(f->loop, &f->mail);
    flight_drop(f);
}

/* ---- relaying ---- */

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
    return sl_respond_from(r, f->status, f->size, &relay, f);
}
