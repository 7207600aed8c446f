/* A request asks the store: by its key, and where that says what its variants differ by, once more
 * by the variant's.  What is found is judged by policy.c. */
#include "cache.h"

#include <stdlib.h>

#define USES 65536
#define COUNT_BITS 16

/* CacheMinUses: 16 bits of a key's hash and how often it was asked for.  A cell belongs to the
 * key that came last: those who are asked for now and then take it from each other, and do not
 * add up. */
static _Atomic(uint32_t) uses[USES];

/* ---- a visit ---- */

/* Whether the body came from the store, though its server may have been asked. */
static int
is_of_store(const struct visit *v)
{
    return v->outcome == OUT_OBJECT && !v->is_new && !v->is_partial;
}

/* Its request is over. */
static apr_status_t
visit_left(void *ctx)
{
    struct visit *v = ctx;

    visit_count(v, is_of_store(v) ? N_HIT_BYTES : N_MISS_BYTES, sl_req_bytes_sent(v->r));
    if (v->get.pending != NULL)
        store_get_cancel(&v->get);
    if (v->slices != NULL)
        slices_free(&v->slices);
    if (v->flight != NULL)
        flight_leave(v);
    if (v->form_object != NULL)
        store_drop(&v->form_object);
    if (v->found != NULL)
        store_drop(&v->found);
    return APR_SUCCESS;
}

const char *
visit_status(const struct visit *v)
{
    static const char *const texts[] = {"MISS",     "HIT",   "EXPIRED", "REVALIDATED",
                                        "UPDATING", "STALE", "BYPASS"};

    return texts[v->status];
}

/* What a request has of the cache. */
struct at_request {
    struct visit *visit;
    enum purged purged;
};

static struct at_request *
at_request(struct sl_req *r)
{
    return sl_req_data(r, &sl_module_record, sizeof(struct at_request));
}

static struct visit **
visit_at(struct sl_req *r)
{
    return &at_request(r)->visit;
}

enum purged *
purged_at(struct sl_req *r)
{
    return &at_request(r)->purged;
}

struct visit *
visit_of(struct sl_req *r)
{
    return *visit_at(r);
}

/* The first byte a request is for, as far as can be told without the length. */
static int64_t
first_asked_for(struct sl_req *r)
{
    const int64_t unknown = INT64_MAX / 4;
    struct sl_span field = sl_fields_get_id(sl_req_head(r), SL_F_RANGE);
    struct range ranges[RANGES_MAX];

    if (field.n == 0 || policy_ranges(field, unknown, ranges) < 1 || ranges[0].from > unknown / 2)
        return 0;
    return ranges[0].from;
}

static struct visit *
visit_begin(struct sl_req *r, const struct cache_conf *conf, struct visit **at)
{
    struct sl_span key = cache_key(r, conf);
    struct store_hash hash = store_hash(cache_store, key);
    struct visit *v;

    store_send_for(cache_store, hash); /* early: these are the slowest of what a miss touches */
    v = apr_palloc(sl_req_pool(r), sizeof *v);
    memset(v, 0, sizeof *v);
    v->key = key;
    v->hash = hash;
    v->r = r;
    v->conf = conf;
    v->loop = sl_req_loop(r);
    v->first = conf->slice > 0 ? first_asked_for(r) : 0;
    v->status = MISS;
    v->reason = "nothing is stored";
    *at = v;
    apr_pool_cleanup_register(sl_req_pool(r), v, visit_left, apr_pool_cleanup_null);
    return v;
}

void
visit_suspend(struct visit *v)
{
    if (!v->is_waiting)
        v->token = sl_req_suspend(v->r);
    v->is_waiting = 1;
}

/* ---- is it good ---- */

static struct using
visit_judge(struct visit *v)
{
    struct sl_fields *head = sl_req_head(v->r);
    struct use_facts f = {
        .stored = v->meta.storing,
        .is_soft = v->get.state == STORE_SOFT,
        .cache_control = sl_fields_joined_id(head, SL_F_CACHE_CONTROL),
        .pragma = sl_fields_get_id(head, SL_F_PRAGMA),
        .now = wall_s(sl_req_loop(v->r)),
        .ignore = v->conf->ignore,
        .serves_stale_updating = (v->conf->stale & STALE_UPDATING) != 0,
    };

    return policy_use(&f);
}

static void visit_missed(struct visit *v);

/* ---- what is in slices ---- */

static void
visit_changed(struct visit *v)
{
    slices_free(&v->slices);
    store_drop(&v->found);
    v->is_hit = 0;
    v->outcome = OUT_PASS;
    v->status = MISS;
    visit_missed(v);
    v->reason = "the server has another response than the slices are of";
}

static void
visit_slice(struct visit *v, enum slice_answer answer)
{
    switch (answer) {
    case SLICE_HERE:
        if (v->slices->is_fetched) {
            v->is_hit = 0;
            v->is_partial = 1;
            v->status = MISS;
            v->reason = "a slice of it is not stored";
        }
        break;
    case SLICE_WAIT:
        v->is_slicing = 1;
        visit_suspend(v);
        break;
    case SLICE_FAILED:
        v->outcome = OUT_FAILED;
        v->failed = v->slices->cause;
        break;
    case SLICE_CHANGED:
        visit_changed(v);
        break;
    }
}

static void visit_goes_on(struct visit *v);

static void
visit_slice_came(struct slices *s, enum slice_answer answer)
{
    struct visit *v = s->ctx;

    v->is_slicing = 0;
    visit_slice(v, answer);
    visit_goes_on(v);
}

/* The first slice that is needed is there before the answer begins: until then it can be found
 * out that the server has another response, and all begins anew. */
static void
visit_slices(struct visit *v)
{
    int64_t first = v->meta.whole > 0 ? answer_first(v) : -1;

    if (first < 0)
        return;
    v->slices = slices_new(v);
    v->slices->done = visit_slice_came;
    v->slices->ctx = v;
    visit_slice(v, slices_open(v->slices, first));
}

/* ---- what is found ---- */

static void
visit_decide(struct visit *v)
{
    v->using = visit_judge(v);
    v->reason = v->using.reason;
    switch (v->using.use) {
    case USE_FRESH:
        v->status = v->using.is_stale ? STALE : HIT;
        v->is_hit = 1;
        v->outcome = OUT_OBJECT;
        visit_slices(v);
        break;
    case USE_STALE_UPDATE:
        v->status = UPDATING;
        v->is_hit = 1;
        v->outcome = OUT_OBJECT;
        flight_update(v);
        visit_slices(v);
        break;
    case USE_VALIDATE:
        v->status = EXPIRED;
        visit_missed(v);
        break;
    }
}

int
visit_take(struct visit *v, struct store_object **o)
{
    struct sl_span vary;
    struct meta meta;

    if (meta_read((*o)->meta, &meta) != 0)
        return -1;
    vary = v->conf->ignore & IGNORE_VARY ? SL_SPAN("") : meta_get(&meta, SL_F_VARY);
    if (vary.n > 0 && !sl_span_eq(variant_key(v->r, v->key, vary), (*o)->key))
        return -1;
    if (v->found != NULL)
        store_drop(&v->found);
    v->found = *o;
    v->meta = meta;
    *o = NULL;
    return 0;
}

/* ---- asking ---- */

static void visit_look(struct visit *v);

/* The key has variants: which of them is asked for. */
static void
visit_marked(struct visit *v, const struct marker *marker)
{
    struct sl_span vary = {sl_span_dup(sl_req_pool(v->r), marker->vary), marker->vary.n};

    v->is_variant = 1;
    v->marker = (struct marker){marker->era, vary};
    v->variant = variant_key(v->r, v->key, vary);
}

static int
is_of_marker(const struct visit *v, const struct store_object *o)
{
    struct meta meta;

    return !v->is_variant || (meta_read(o->meta, &meta) == 0 && meta.era == v->marker.era);
}

static void
visit_found(struct visit *v, struct store_object *o)
{
    struct marker marker;

    if ((o->flags & VARY_MARKER) && !v->is_variant && marker_read(o->meta, &marker) == 0) {
        visit_marked(v, &marker);
        store_drop(&o);
        visit_look(v);
        return;
    }
    if (is_of_marker(v, o) && visit_take(v, &o) == 0)
        visit_decide(v);
    else {
        store_drop(&o);
        visit_missed(v);
    }
}

/* Whether it has been asked for as often as CacheMinUses wants.  What two threads count at the
 * same moment may count once. */
static int
is_wanted(const struct visit *v)
{
    uint64_t hash = v->hash.lo;
    uint32_t first, use;
    _Atomic(uint32_t) *cell;

    if (v->conf->min_uses <= 1 || v->found != NULL)
        return 1;
    cell = &uses[hash % USES];
    first = (uint32_t)(hash >> 48) << COUNT_BITS | 1;
    use = atomic_load_explicit(cell, memory_order_relaxed);
    if (use >> COUNT_BITS != first >> COUNT_BITS)
        use = first;
    else if ((use & MIN_USES_MAX) < MIN_USES_MAX)
        use++;
    atomic_store_explicit(cell, use, memory_order_relaxed);
    return (int64_t)(use & MIN_USES_MAX) >= v->conf->min_uses;
}

/* A loop does not wait for another thread: it has other requests to serve. */
static void
visit_flies(struct visit *v)
{
    if (flight_join(v) == 0)
        return;
    v->is_to_look_again = 1;
    visit_suspend(v);
    sl_req_resume(v->token, SL_RETRY);
}

static void
visit_fetches(struct visit *v)
{
    const char *why = why_lately_unstorable(v);

    if (why != NULL)
        v->reason = why;
    else if (!is_wanted(v))
        v->reason = "asked for less often than CacheMinUses";
    else
        visit_flies(v);
}

static void
visit_missed(struct visit *v)
{
    struct sl_span said = sl_fields_joined_id(sl_req_head(v->r), SL_F_CACHE_CONTROL);

    switch (policy_miss(said, v->conf->ignore)) {
    case MISS_FETCH:
        visit_fetches(v);
        break;
    case MISS_PASS:
        v->reason = "the client says no-store";
        break;
    case MISS_ABSENT:
        v->outcome = OUT_ABSENT;
        break;
    }
}

/* Unless there is something to wait for. */
static void
visit_goes_on(struct visit *v)
{
    if (v->get.pending == NULL && !v->is_slicing && v->outcome != OUT_FLIGHT)
        sl_req_resume(v->token, SL_RETRY);
}

static void
visit_answered(struct sl_loop *loop, struct store_get *get, struct store_object *found)
{
    struct visit *v = (struct visit *)(void *)((char *)get - offsetof(struct visit, get));

    (void)loop;
    if (v->is_answering)
        form_found(v, found);
    else if (found != NULL)
        visit_found(v, found);
    else
        visit_missed(v);
    visit_goes_on(v);
}

enum store_answer
visit_get(struct visit *v, struct sl_span key, struct store_hash hash, struct store_object **found)
{
    enum store_answer answer;

    v->get = (struct store_get){.key = key, .hash = hash, .done = visit_answered};
    v->n_left = flights_left(hash);
    answer = store_get(cache_store, sl_req_loop(v->r), &v->get, found);
    if (answer == STORE_WAIT)
        visit_suspend(v);
    return answer;
}

static void
visit_look(struct visit *v)
{
    struct store_object *found = NULL;
    enum store_answer answer =
        v->is_variant ? visit_get(v, v->variant, store_hash(cache_store, v->variant), &found)
                      : visit_get(v, v->key, v->hash, &found);

    switch (answer) {
    case STORE_HIT:
        visit_found(v, found);
        break;
    case STORE_MISS:
        visit_missed(v);
        break;
    case STORE_WAIT:
        break;
    }
}

/* ---- hooks ---- */

/* What If-Match and If-Unmodified-Since ask, servers alone may answer (RFC 9111, 4.3.2). */
static int
is_cacheable(struct sl_req *r)
{
    const uint64_t for_servers = sl_field_bit(SL_F_UPGRADE) | sl_field_bit(SL_F_IF_MATCH) |
                                 sl_field_bit(SL_F_IF_UNMODIFIED_SINCE);

    return policy_may_answer(sl_req_method(r), sl_req_has_body(r),
                             sl_fields_has_any(sl_req_head(r), for_servers));
}

static void
explain_object(struct visit *v, struct store_object *o)
{
    static const char *const what[] = {"it would be given, and the server not asked",
                                       "it would be given, and fetched anew behind that",
                                       "the server would be asked whether it is still good"};
    static const enum visit_status statuses[] = {HIT, UPDATING, EXPIRED};

    v->get.state = store_state(cache_store, o);
    v->using = visit_judge(v);
    v->status = v->using.use == USE_FRESH && v->using.is_stale ? STALE : statuses[v->using.use];
    v->reason = v->using.reason;
    sl_note(v->r, "the cache has it: status %d, age %ld s of %ld s; %s: %s", v->meta.status,
            (long)v->using.age, (long)v->meta.storing.lifetime, v->using.reason,
            what[v->using.use]);
}

/* What is under the key, of variants under the request's own. */
static enum store_answer
explain_look(struct visit *v, struct store_object **o)
{
    enum store_answer answer = store_peek(cache_store, cache_key(v->r, v->conf), o);
    struct marker marker;
    struct sl_span key;

    if (answer != STORE_HIT || !((*o)->flags & VARY_MARKER) ||
        marker_read((*o)->meta, &marker) != 0)
        return answer;
    key = variant_key(v->r, (*o)->key, marker.vary);
    sl_note(v->r, "the cache has variants by %.*s", (int)marker.vary.n, marker.vary.at);
    store_drop(o);
    return store_peek(cache_store, key, o);
}

static void
explain_store(struct visit *v)
{
    struct store_object *o = NULL;
    const char *why;

    switch (explain_look(v, &o)) {
    case STORE_MISS:
        why = why_unstorable(cache_key(v->r, v->conf));
        sl_note(v->r, "the cache does not have it: the server would be asked%s%s",
                why != NULL ? "; its last response was not stored: " : "", why != NULL ? why : "");
        break;
    case STORE_WAIT:
        sl_note(v->r, "the cache may have it on disk");
        break;
    case STORE_HIT:
        if (meta_read(o->meta, &v->meta) == 0)
            explain_object(v, o);
        store_drop(&o);
        break;
    }
}

/* Why it is not asked; NULL: it is.  *is_failed: a condition gave up. */
static const char *
why_bypassed(struct sl_req *r, const struct cache_conf *conf, int *is_failed)
{
    int holds = conf->bypass != NULL ? sl_cond_holds(conf->bypass, r) : 0;

    *is_failed = holds < 0;
    if (holds > 0)
        return "CacheBypass holds";
    return (conf->key != NULL || conf->bypass != NULL) && cache_names_fields(r)
               ? "Connection names fields, which CacheKey or CacheBypass may tell" : NULL;
}

/* A dry run says what there is and what would come of it, and touches nothing. */
static enum sl_verdict
cache_explain(struct sl_req *r, const struct cache_conf *conf)
{
    struct sl_span key = cache_key(r, conf);
    struct visit *v = apr_pcalloc(sl_req_pool(r), sizeof *v);
    const char *why;
    int is_failed;

    v->r = r;
    v->conf = conf;
    v->status = MISS;
    v->reason = "a dry run";
    *visit_at(r) = v;
    sl_note(r, "Cache on, the key is %.*s", (int)key.n, key.at);
    if ((why = why_bypassed(r, conf, &is_failed)) != NULL) {
        v->status = BYPASS;
        sl_note(r, "%s: the cache is not asked, and nothing is stored", why);
    } else if (cache_store == NULL)
        sl_note(r, "the store is not open here: whether it has the response is not known");
    else
        explain_store(v);
    return SL_NEXT;
}

void
visit_came(struct visit *v)
{
    int which = v->outcome == OUT_PASS ? N_BYPASS : !v->is_hit ? N_MISS
                : v->using.is_stale ? N_STALE : N_HIT;

    v->host = host_row(sl_req_host(v->r), which == N_HIT || which == N_STALE);
    visit_count(v, which, 1);
    if (v->status == REVALIDATED)
        visit_count(v, N_REVALIDATED, 1);
    sl_note(v->r, "the cache: %s, %s", visit_status(v), v->reason);
}

static enum sl_verdict
visit_reply(struct visit *v)
{
    if (v->outcome == OUT_DIRECT)
        return SL_NEXT;
    visit_came(v);
    switch (v->outcome) {
    case OUT_PASS:
    case OUT_FLIGHT:
    case OUT_DIRECT:
        break;
    case OUT_OBJECT:
        return answer_object(v);
    case OUT_RELAY:
        return flight_relay(v);
    case OUT_FAILED:
        return sl_req_fail(v->r, 0, v->failed, "the fetch for the cache");
    case OUT_ABSENT:
        v->reason = "not stored, and the client says only-if-cached";
        return sl_respond(v->r, 504, NULL, SL_SPAN("")); /* RFC 9111, 5.2.1.7 */
    }
    return SL_NEXT;
}

static enum sl_verdict
visit_looks(struct visit *v)
{
    visit_look(v);
    return v->is_waiting ? SL_WAIT : visit_reply(v);
}

/* The first time. */
static enum sl_verdict
visit_asks(struct sl_req *r, const struct cache_conf *conf, struct visit **at)
{
    struct visit *v = visit_begin(r, conf, at);
    int is_failed;
    const char *why = why_bypassed(r, conf, &is_failed);

    if (is_failed)
        return sl_req_fail(r, 0, &sl_cause_condition_limit, "CacheBypass");
    if (why == NULL)
        return visit_looks(v);
    v->status = BYPASS;
    v->reason = why;
    return visit_reply(v);
}

/* What it waited for is there. */
static enum sl_verdict
visit_asks_again(struct visit *v)
{
    v->is_waiting = 0;
    if (v->is_to_look_again) {
        v->is_to_look_again = 0;
        return visit_looks(v);
    }
    if (v->is_answering)
        return answer_body(v);
    if (v->outcome == OUT_FLIGHT)
        flight_result(v);
    return visit_reply(v);
}

enum sl_verdict
cache_ask(struct sl_req *r, const void *confp)
{
    const struct cache_conf *conf = confp;
    struct visit **at;

    if (!conf->is_on)
        return SL_NEXT;
    if (conf->purge != NULL && sl_span_eq(sl_req_method(r), SL_SPAN("PURGE")))
        return cache_purge(r, conf);
    if (sl_req_is_sub(r))
        return SL_NEXT;
    at = visit_at(r);
    if (*at != NULL)
        return visit_asks_again(*at);
    if (!is_cacheable(r))
        return SL_NEXT;
    if (sl_req_is_dry(r))
        return cache_explain(r, conf);
    return cache_store != NULL ? visit_asks(r, conf, at) : SL_NEXT;
}
