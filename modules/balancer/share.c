/* Which server gets an attempt, and what its outcome means for the next ones.
 *
 * A server that refuses, resets or says nothing rests: 1 s, then 2, 4, 8, at most 10 s.
 * After that it is tried like any other; a success makes it whole, a failure lets it rest
 * again.  Outcomes that arrive while it rests belong to attempts made before and change
 * nothing, so a burst of failures counts once and one late answer does not end the rest.
 *
 * Resting never makes a pool unusable: when nothing better is left, those that rest are
 * used all the same.  No locks; whoever changes rests_until first has decided.  All this is the
 * same in every generation: what one has learnt of a server, the next one knows. */

#include "balancer.h"

#define REST_FIRST_MS 1000
#define REST_MAX_MS 10000

/* Which tier a server belongs to; SL_TIER_NONE: it must not be used. */
static enum sl_tier
server_tier(const struct sl_server *s, int64_t now_ms)
{
    int is_backup = (s->flags & SL_SERVER_BACKUP) != 0;

    if (sl_server_may_be_used(s, now_ms))
        return is_backup ? SL_TIER_BACKUP : SL_TIER_PRIMARY;
    if (sl_server_may_be_used(s, INT64_MAX))
        return is_backup ? SL_TIER_RESTING_BACKUP : SL_TIER_RESTING;
    return SL_TIER_NONE;
}

/* The best tier with a server this exchange has not tried; mostly told by the first. */
static enum sl_tier
best_tier(const struct sl_attempt *a, const struct sl_pool *pool, int64_t now_ms)
{
    enum sl_tier best = SL_TIER_NONE, tier;
    unsigned i;

    for (i = 0; i < pool->n_servers && best != SL_TIER_PRIMARY; i++) {
        tier = server_tier(pool->servers[i], now_ms);
        if (tier < best && !sl_attempt_tried(a, pool->servers[i]))
            best = tier;
    }
    return best;
}

static struct sl_server *
share_select(struct sl_attempt *a, struct sl_pool *pool)
{
    const struct balancer *b = pool->data;
    const struct sl_req *r = sl_attempt_req(a);
    struct sl_choice choice = {.attempt = a,
                               .now_ms = sl_loop_now(sl_attempt_loop(a)),
                               .is_dry = r != NULL && sl_req_is_dry(r)};

    choice.tier = best_tier(a, pool, choice.now_ms);
    return choice.tier != SL_TIER_NONE ? b->method->pick(&choice, pool, b->method_data) : NULL;
}

static unsigned
cause_retry_class(const struct sl_cause *cause)
{
    if (cause == &sl_cause_connect_failed || cause == &sl_cause_unresolved ||
        cause == &sl_cause_handshake_failed)
        return RETRY_CONNECT;
    if (cause == &sl_cause_connect_timeout)
        return RETRY_CONNECT | RETRY_TIMEOUT;
    if (cause == &sl_cause_send_failed || cause == &sl_cause_no_response)
        return RETRY_ERROR;
    if (cause == &sl_cause_upstream_send_timeout || cause == &sl_cause_first_timeout)
        return RETRY_TIMEOUT;
    return 0;
}

static int
share_retry(struct sl_attempt *a, struct sl_pool *pool, const struct sl_cause *cause)
{
    const struct balancer *b = pool->data;

    return sl_attempt_number(a) < b->retry_max
           && (b->retry_on & cause_retry_class(cause)) != 0;
}

/* A slow answer is no reason to rest: one slow page must not take a server out. */
static int
cause_calls_for_rest(const struct sl_cause *cause)
{
    return (cause_retry_class(cause) & (RETRY_CONNECT | RETRY_ERROR)) != 0;
}

static int64_t
rest_ms(unsigned n_failed)
{
    int64_t ms = n_failed < 4 ? (int64_t)REST_FIRST_MS << n_failed : REST_MAX_MS;

    return ms < REST_MAX_MS ? ms : REST_MAX_MS;
}

static unsigned
n_resting(const struct sl_pool *pool, int64_t now_ms)
{
    unsigned i, n = 0;

    for (i = 0; i < pool->n_servers; i++)
        n += atomic_load_explicit(&pool->servers[i]->state->rests_until, memory_order_relaxed) > now_ms;
    return n;
}

static void
server_rest(struct sl_server *s, int64_t now_ms, const struct sl_cause *cause)
{
    int64_t until = atomic_load_explicit(&s->state->rests_until, memory_order_relaxed);
    unsigned n_failed = atomic_load_explicit(&s->state->n_failed, memory_order_relaxed);
    int64_t ms = rest_ms(n_failed);
    unsigned n;

    if (until > now_ms
        || !atomic_compare_exchange_strong_explicit(&s->state->rests_until, &until, now_ms + ms,
                                                    memory_order_relaxed, memory_order_relaxed))
        return;
    atomic_fetch_add_explicit(&s->state->n_failed, 1, memory_order_relaxed);
    n = n_resting(s->pool, now_ms);
    sl_log(SL_WARN, "BALANCER0010", "pool %s: server %s rests for %lld s: %s; %u of %u rest%s",
           s->pool->name, s->name, (long long)(ms / 1000), cause->text, n, s->pool->n_servers,
           n == s->pool->n_servers ? ", so they are used all the same" : "");
}

/* The common case is one load. */
static void
server_worked(struct sl_server *s, int64_t now_ms)
{
    if (atomic_load_explicit(&s->state->n_failed, memory_order_relaxed) == 0
        || atomic_load_explicit(&s->state->rests_until, memory_order_relaxed) > now_ms
        || atomic_exchange_explicit(&s->state->n_failed, 0, memory_order_relaxed) == 0)
        return;
    sl_log(SL_NOTICE, "BALANCER0011", "pool %s: server %s is back; %u of %u rest",
           s->pool->name, s->name, n_resting(s->pool, now_ms), s->pool->n_servers);
}

static void
share_done(struct sl_attempt *a, struct sl_server *server, const struct sl_cause *cause)
{
    int64_t now_ms = sl_loop_now(sl_attempt_loop(a));

    if (cause == NULL)
        server_worked(server, now_ms);
    else if (cause_calls_for_rest(cause))
        server_rest(server, now_ms, cause);
}

const struct sl_pool_owner share_owner = {
    .select = share_select,
    .retry = share_retry,
    .done = share_done,
};
