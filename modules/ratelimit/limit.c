/* RateLimit: whether a request may go on, and when.
 *
 * All limits of a location are asked, the innermost first, and each zone once.  When one refuses,
 * what those before it have charged is taken back: a refused request costs nobody anything. */
#include "ratelimit.h"

#include <apr_strings.h>

#include <inttypes.h>

struct limit {
    struct common common;
    const char *zone_name;
    struct zone *zone; /* from check_config on */
    int64_t burst;
    int64_t delay; /* so many of the burst are not delayed */
    int nodelay;
    int tells; /* RateLimit fields */
    struct gcra gcra;
};

const struct sl_cause cause_rate_limited = {"RATELIMIT0001", "rate_limited", 429,
                                            "a rate limit is exceeded"};

static apr_array_header_t *all; /* of struct limit * */
static int count_refused, count_delayed, count_shadowed, count_evicted, count_untold;

static const struct sl_option limit_options[] = {
    COMMON_OPTIONS(struct limit, common, "429"),
    {"burst", SL_SLOT_NUMBER, offsetof(struct limit, burst), "0", NULL,
     "requests ahead of the rate"},
    {"nodelay", SL_SLOT_FLAG, offsetof(struct limit, nodelay), NULL, NULL,
     "the burst is not delayed"},
    {"delay", SL_SLOT_NUMBER, offsetof(struct limit, delay), "0", NULL,
     "so many of the burst are not delayed"},
    {"fields", SL_SLOT_FLAG, offsetof(struct limit, tells), NULL, NULL,
     "tells clients of the limit"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static void
limit_keep(apr_pool_t *pool, struct limit *l)
{
    if (all == NULL) {
        all = apr_array_make(pool, 8, sizeof l);
        forget_with(pool, &all);
    }
    APR_ARRAY_PUSH(all, struct limit *) = l;
}

const char *
limit_parse(struct sl_cmd *cmd, void **item)
{
    struct limit *l = apr_pcalloc(sl_cmd_pool(cmd), sizeof *l);
    const char *err;

    l->common.status = cause_rate_limited.status;
    l->zone_name = sl_cmd_arg(cmd, 0);
    if (strchr(l->zone_name, '=') != NULL)
        return "expected the name of a RateLimitZone first";
    if ((err = sl_cmd_options(cmd, 1, limit_options, l)) != NULL ||
        (err = common_check(cmd, &l->common)) != NULL)
        return err;
    if (l->burst < 0 || l->delay < 0)
        return "burst and delay: expected a number of requests";
    if (l->nodelay)
        l->delay = l->burst;
    limit_keep(sl_cmd_pool(cmd), l);
    *item = l;
    return NULL;
}

/* ---- the whole configuration ---- */

static void
limit_check(struct sl_worker *w, struct limit *l)
{
    const char *nearest = zone_nearest(l->zone_name);
    struct zone *z = l->zone = zone_find(l->zone_name);
    uint64_t cost, n_most, most;

    if (z == NULL) {
        sl_worker_config_error(
            w, l->common.place, "RateLimit: no RateLimitZone \"%s\" is defined%s%s%s",
            l->zone_name, nearest != NULL ? "; did you mean \"" : "",
            nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "");
        return;
    }
    z->is_used = 1;
    cost = z->rate.period_ms;
    if (cost == 0) /* the zone has errors of its own */
        return;
    n_most = RING_DEBT_MAX / cost - 1 - (z->store_text != NULL ? STORE_BEYOND : 0);
    if ((uint64_t)l->burst > n_most) {
        sl_worker_config_error(w, l->common.place,
                               "RateLimit: expected a burst of at most %" PRIu64
                               " at the rate of zone %s, %s; found %" PRId64,
                               n_most, z->name, z->rate_text, l->burst);
        return;
    }
    l->gcra.cost = cost;
    l->gcra.tolerance = (uint64_t)l->burst * cost;
    most = l->gcra.tolerance + cost;
    if (z->store_text != NULL) /* and what all machines may have admitted at once */
        most += STORE_BEYOND * cost;
    if (z->table.most < most)
        z->table.most = most;
    z->table.apart = (uint64_t)CLOCKS_APART_MS * z->rate.n;
}

void
limits_check(struct sl_worker *w)
{
    int i;

    for (i = 0; all != NULL && i < all->nelts; i++)
        limit_check(w, APR_ARRAY_IDX(all, i, struct limit *));
}

int
limits_tell(const apr_array_header_t *limits)
{
    int i;

    for (i = 0; limits != NULL && i < limits->nelts; i++)
        if (APR_ARRAY_IDX(limits, i, const struct limit *)->tells)
            return 1;
    return 0;
}

int
limit_init(void)
{
    count_refused = sl_counter("ratelimit_refused", "requests refused by a RateLimit");
    count_delayed = sl_counter("ratelimit_delayed", "requests a RateLimit let wait");
    count_shadowed = sl_counter("ratelimit_shadowed",
                                "requests a RateLimit with shadow would have refused");
    count_evicted =
        sl_counter("ratelimit_evicted", "keys with debts that a full zone forgot");
    count_untold = sl_counter(
        "ratelimit_untold", "requests a store was not told of, for there were too many");
    return count_refused < 0 || count_delayed < 0 || count_shadowed < 0 ||
                   count_evicted < 0 || count_untold < 0
               ? -1
               : 0;
}

/* ---- one request ---- */

struct request *
request_of(struct sl_req *r)
{
    return sl_req_data(r, &sl_module_record, sizeof(struct request));
}

/* A request that waits for its turn. */
struct turn {
    struct sl_timer timer; /* first */
    struct sl_token token;
};

static void
turn_comes(struct sl_loop *loop, struct sl_timer *timer)
{
    struct turn *t = (struct turn *)timer;

    (void)loop;
    sl_req_resume(t->token, SL_NEXT);
}

static apr_status_t
turn_forget(void *timer)
{
    sl_timer_unlink(timer);
    return APR_SUCCESS;
}

static enum sl_verdict
limit_delay(struct sl_req *r, int64_t ms)
{
    struct turn *t = apr_pcalloc(sl_req_pool(r), sizeof *t);
    struct sl_loop *loop = sl_req_loop(r);

    t->timer.fn = turn_comes;
    t->token = sl_req_suspend(r);
    apr_pool_cleanup_register(sl_req_pool(r), &t->timer, turn_forget,
                              apr_pool_cleanup_null);
    sl_timer_set(loop, &t->timer, sl_loop_now(loop) + ms);
    sl_count(loop, count_delayed, 1);
    sl_note(r, "waits %" PRId64 " ms for its turn", ms);
    return SL_WAIT;
}

/* A limit as one request meets it. */
struct charge {
    const struct limit *limit;
    uint64_t hash, now, ahead;
    uint64_t paid; /* to be taken back, or told to the store */
};

static void
limit_say_full(struct sl_req *r, struct zone *z)
{
    int64_t now = sl_loop_now(sl_req_loop(r));
    int64_t before = atomic_load_explicit(&z->full_logged_ms, memory_order_relaxed);

    sl_count(sl_req_loop(r), count_evicted, 1);
    if ((before == 0 || now - before >= LOG_EVERY_MS) &&
        atomic_compare_exchange_strong(&z->full_logged_ms, &before, now))
        sl_log(SL_NOTICE, "RATELIMIT0003",
               "zone %s is full: the oldest keys are forgotten before "
               "their time; size= gives it more",
               z->name);
}

static void
limit_say_over(struct sl_req *r, const struct charge *c)
{
    const struct limit *l = c->limit;
    const struct zone *z = l->zone;
    struct sl_span key = key_text(&z->key, r);
    int64_t n_over;

    if (!offenders_note(&z->offenders, c->hash, key, sl_loop_now(sl_req_loop(r)),
                        z->log_ms, &n_over))
        return;
    sl_req_log(r, SL_NOTICE, "RATELIMIT0002",
               "zone %s: key \"%.*s\" is over %s with burst=%" PRId64 ": %s; %" PRId64
               " requests so far",
               z->name, (int)key.n, key.at, z->rate_text, l->burst,
               l->common.shadow ? "would be refused without shadow" : "refused", n_over);
}

/* Fields of the limits a request met, until they do not fit any more. */
static void
limit_tell(struct sl_req *r, const struct charge *c, uint64_t ahead)
{
    struct request *q = request_of(r);

    if (q->n_told < TOLD_MAX)
        q->told[q->n_told++] = (struct told){c->limit->zone->name, &c->limit->zone->rate,
                                             c->limit->gcra, ahead};
}

static enum sl_verdict
limit_refuse(struct sl_req *r, const struct charge *c)
{
    const struct limit *l = c->limit;

    request_of(r)->retry_ms = rate_ms(&l->zone->rate, gcra_wait(&l->gcra, c->ahead));
    if (l->tells)
        limit_tell(r, c, c->ahead);
    sl_count(sl_req_loop(r), count_refused, 1);
    sl_note(r, "%s: over %s of zone %s: refused", l->common.place, l->zone->rate_text,
            l->zone->name);
    return sl_req_refuse(r, (int)l->common.status, &cause_rate_limited);
}

/* 1: goes on, after *delay_ms. 0: over the limit. */
static int
limit_charge(struct sl_req *r, struct charge *c, int64_t *delay_ms)
{
    const struct limit *l = c->limit;
    uint64_t free_of_delay = (uint64_t)l->delay * l->gcra.cost;
    int64_t ms;

    c->paid = 0;
    switch (table_charge(&l->zone->table, c->hash, c->now, &l->gcra, &c->ahead)) {
    case TABLE_REFUSED:
        limit_say_over(r, c);
        return 0;
    case TABLE_EVICTED:
        limit_say_full(r, l->zone);
        break;
    case TABLE_ADMITTED:
        break;
    }
    c->paid = l->gcra.cost;
    if (c->ahead > free_of_delay && !l->common.shadow) {
        ms = rate_ms(&l->zone->rate, c->ahead - free_of_delay);
        *delay_ms = ms > *delay_ms ? ms : *delay_ms;
    }
    if (l->tells)
        limit_tell(r, c, c->ahead + l->gcra.cost);
    return 1;
}

static void
refund_all(const struct charge *charges, int n)
{
    int i;

    for (i = 0; i < n; i++)
        table_refund(&charges[i].limit->zone->table, charges[i].hash, charges[i].now,
                     charges[i].paid);
}

static void
tell_stores(struct sl_req *r, const struct charge *charges, int n)
{
    struct sl_loop *loop = sl_req_loop(r);
    int i;

    for (i = 0; i < n; i++) {
        struct store *store = charges[i].limit->zone->store;

        if (store != NULL && charges[i].paid > 0 &&
            !store_tell(store, sl_loop_index(loop), charges[i].hash))
            sl_count(loop, count_untold, 1);
    }
}

/* 1: c is to be charged; 0: the limit does not hold for the request; -1: r has failed. */
static int
limit_meets(struct sl_req *r, const struct limit *l, struct charge *c)
{
    char room[KEY_ROOM];
    struct sl_span key;
    int holds = common_holds(&l->common, r);

    if (holds <= 0)
        return holds;
    key = key_bytes(&l->zone->key, r, room);
    if (key.n == 0)
        return 0;
    if (l->zone->table.buckets == NULL) {
        sl_note(r, "%s: %s of zone %s holds; not counted here", l->common.place,
                l->zone->rate_text, l->zone->name);
        return 0;
    }
    c->limit = l;
    c->hash = zone_hash(l->zone, key);
    c->now = rate_ticks(&l->zone->rate, sl_loop_now(sl_req_loop(r)));
    return 1;
}

#define CHARGES_MAX 16 /* that can be taken back */

static int
is_charged(const struct charge *charges, int n, const struct zone *z)
{
    while (n > 0 && charges[n - 1].limit->zone != z)
        n--;
    return n > 0;
}

/* Counts a request that is over: 1 when it is refused for that. */
static int
limit_is_over(struct sl_req *r, const struct charge *c)
{
    if (!c->limit->common.shadow)
        return 1;
    sl_count(sl_req_loop(r), count_shadowed, 1);
    return 0;
}

enum sl_verdict
limit_access(struct sl_req *r, const apr_array_header_t *limits)
{
    struct charge charges[CHARGES_MAX], *c;
    int64_t delay_ms = 0;
    int i, n = 0, meets;

    for (i = limits->nelts - 1; i >= 0; i--) {
        const struct limit *l = APR_ARRAY_IDX(limits, i, const struct limit *);

        c = &charges[n];
        meets = is_charged(charges, n, l->zone) ? 0 : limit_meets(r, l, c);
        if (meets < 0)
            return SL_FAIL;
        if (meets == 0)
            continue;
        if (!limit_charge(r, c, &delay_ms) && limit_is_over(r, c)) {
            refund_all(charges, n);
            return limit_refuse(r, c);
        }
        n += n < CHARGES_MAX - 1;
    }
    tell_stores(r, charges, n);
    return delay_ms > 0 ? limit_delay(r, delay_ms) : SL_NEXT;
}
