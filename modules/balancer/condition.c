/* How servers fare, from what their attempts came to.  The state of one is the same in every
 * generation: what one has learnt of a server, the next one knows.
 *
 * Failures take a server out when there are several in a row, or many among the last ones; it
 * rests for 1 s, then 2, 4, 8, at most 10 s, and is tried by one request.  A server is not taken
 * out when too small a part of the pool would be left: a bad server is better than one that
 * breaks down under the load of all. */

#include "balancer.h"
#include "window.h"

#include <stdio.h>

#define PANIC_TOLD_MS 10000 /* at most once in this time and pool */

static const struct balancer *
balancer_of(const struct sl_server *s)
{
    return s->pool->data;
}

unsigned
cause_class(const struct sl_cause *cause)
{
    if (cause == &sl_cause_connect_failed || cause == &sl_cause_unresolved ||
        cause == &sl_cause_handshake_failed)
        return RETRY_CONNECT;
    if (cause == &sl_cause_connect_timeout)
        return RETRY_CONNECT | RETRY_TIMEOUT;
    if (cause == &sl_cause_send_failed || cause == &sl_cause_no_response ||
        cause == &sl_cause_bad_response || cause == &sl_cause_truncated)
        return RETRY_ERROR;
    if (cause == &sl_cause_upstream_send_timeout || cause == &sl_cause_first_timeout)
        return RETRY_TIMEOUT;
    return 0;
}

/* Whether it speaks against the server: the client's going does not. */
static int
cause_is_servers(const struct sl_cause *cause)
{
    return cause_class(cause) != 0 || cause == &sl_cause_bad_response_chunk ||
           cause == &sl_cause_idle_timeout;
}

/* ---- what is told ---- */

static unsigned
n_members(const struct sl_pool *pool)
{
    unsigned i, n = 0;

    for (i = 0; i < pool->n_servers; i++)
        n += !sl_server_is_gone(pool->servers[i]);
    return n;
}

static unsigned
n_out(const struct sl_pool *pool)
{
    unsigned i, n = 0;

    for (i = 0; i < pool->n_servers; i++)
        n += !sl_server_is_gone(pool->servers[i])
             && SL_HEALTH_STATE(atomic_load_explicit(&pool->servers[i]->state->health,
                                                  memory_order_relaxed)) != SL_HEALTH_UP;
    return n;
}

/* Leaves of the evidence what fits. */
static void
keep_event(struct sl_server *s, const char *what, const char *evidence, int64_t wall_us)
{
    char text[SL_EVENT_TEXT];

    snprintf(text, sizeof text, "%s: %s", what, evidence);
    sl_server_note(s, wall_us, text);
}

static void
tell_change(struct sl_server *s, uint64_t word, const char *evidence, struct moment at)
{
    const struct sl_pool *pool = s->pool;
    unsigned n = n_out(pool), n_all = n_members(pool);
    const char *all = n == n_all ? "; none is left" : "";
    int64_t rest = SL_HEALTH_UNTIL(word) - at.now_ms;

    switch (SL_HEALTH_STATE(word)) {
    case SL_HEALTH_UP:
        keep_event(s, "up", evidence, at.wall_us);
        sl_log(SL_NOTICE, "BALANCER0011", "pool %s: server %s is back: %s; %u of %u are out",
               pool->name, s->name, evidence, n, n_all);
        return;
    case SL_HEALTH_RESTING:
        if (rest <= 0) /* a probe was lost: the next request is another one */
            return;
        keep_event(s, "rests", evidence, at.wall_us);
        sl_log(SL_WARN, "BALANCER0010", "pool %s: server %s rests for %lld s: %s; %u of %u are "
               "out%s", pool->name, s->name, (long long)(rest + 500) / 1000, evidence, n,
               n_all, all);
        return;
    case SL_HEALTH_PROBED:
        keep_event(s, "probed", evidence, at.wall_us);
        return;
    case SL_HEALTH_DOWN:
        keep_event(s, "down", evidence, at.wall_us);
        sl_log(SL_WARN, "BALANCER0012", "pool %s: server %s is down: %s; %u of %u are out%s",
               pool->name, s->name, evidence, n, n_all, all);
        return;
    }
}

const char *
condition_word(const struct sl_server *s)
{
    static const char *const words[] = {"up", "resting", "probed", "down"};
    uint64_t word = atomic_load_explicit(&s->state->health, memory_order_relaxed);

    if (sl_server_is_gone(s))
        return "leaving";
    if (SL_HEALTH_ADMIN(word) == SL_ADMIN_OFF)
        return "disabled";
    return sl_server_is_wanted(s, word) ? words[SL_HEALTH_STATE(word)] : "drained";
}

/* ---- the driver of the states ---- */

int
health_tell(struct sl_server *s, enum health_event event, const char *evidence, struct moment at)
{
    uint64_t old = atomic_load_explicit(&s->state->health, memory_order_relaxed), word;

    do {
        word = health_next(old, event, &balancer_of(s)->rules, at.now_ms);
        if (word == old)
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(&s->state->health, &old, word,
                                                    memory_order_relaxed, memory_order_relaxed));
    if (SL_HEALTH_STATE(word) == SL_HEALTH_STATE(old))
        return 1;
    if (SL_HEALTH_STATE(word) == SL_HEALTH_UP) {
        atomic_store_explicit(&s->state->n_failed, 0, memory_order_relaxed);
        window_clear(s->state->window);
        atomic_store_explicit(&s->state->warm_since, s->slowstart_ms > 0 ? at.now_ms : 0,
                              memory_order_relaxed);
    }
    tell_change(s, word, evidence, at);
    return 1;
}

/* ---- attempts ---- */

/* By weight, whether enough of the pool would be left without the server. */
static int
others_suffice(const struct sl_server *s, const struct balancer *b, int64_t now_ms)
{
    const struct sl_pool *pool = s->pool;
    uint64_t left = 0, all = 0;
    unsigned i;

    for (i = 0; i < pool->n_servers; i++) {
        unsigned weight = pool->servers[i]->weight;

        if (sl_server_is_gone(pool->servers[i]))
            continue;
        all += weight;
        if (pool->servers[i] != s && sl_server_may_be_used(pool->servers[i], now_ms))
            left += weight;
    }
    return left * 100 >= all * (uint64_t)b->eject.panic && left > 0;
}

static void
tell_panic(const struct sl_server *s, struct balancer *b, const char *evidence, int64_t now_ms)
{
    int64_t told = atomic_load_explicit(&b->panic_told_at, memory_order_relaxed);

    if ((told == 0 || now_ms - told >= PANIC_TOLD_MS) &&
        atomic_compare_exchange_strong(&b->panic_told_at, &told, now_ms))
        sl_log(SL_WARN, "BALANCER0013", "pool %s: server %s stays in use: %s; without it less than "
               "%lld %% of the pool would be left", s->pool->name, s->name, evidence,
               (long long)b->eject.panic);
}

static void
eject(struct sl_server *s, const char *evidence, struct moment at)
{
    struct balancer *b = s->pool->data;

    atomic_store_explicit(&s->state->n_failed, 0, memory_order_relaxed);
    window_clear(s->state->window);
    if (SL_HEALTH_STATE(atomic_load_explicit(&s->state->health, memory_order_relaxed))
        != SL_HEALTH_UP)
        return;
    if (others_suffice(s, b, at.now_ms))
        health_tell(s, HEALTH_EJECTED, evidence, at);
    else
        tell_panic(s, b, evidence, at.now_ms);
}

/* Failures in a row; the common case is one load. */
static void
count_in_row(struct sl_server *s, const struct balancer *b, const struct sl_cause *cause,
             struct moment at)
{
    char evidence[SL_EVENT_TEXT];
    unsigned n;

    if (cause == NULL) {
        if (atomic_load_explicit(&s->state->n_failed, memory_order_relaxed) != 0)
            atomic_store_explicit(&s->state->n_failed, 0, memory_order_relaxed);
        return;
    }
    n = atomic_fetch_add_explicit(&s->state->n_failed, 1, memory_order_relaxed) + 1;
    if (b->eject.errors < 0 || n < (unsigned)b->eject.errors)
        return;
    snprintf(evidence, sizeof evidence, "%s (%u in a row)", cause->text, n);
    eject(s, n > 1 ? evidence : cause->text, at);
}

/* Only where a ratio is configured. */
static void
count_in_window(struct sl_server *s, const struct balancer *b, int has_failed, struct moment at)
{
    int64_t part_ms = b->eject.window_ms / SL_WINDOW_PARTS;
    char evidence[SL_EVENT_TEXT];
    struct window_sum sum;

    window_count(s->state->window, part_ms, at.now_ms, has_failed);
    if (!has_failed)
        return;
    sum = window_sum(s->state->window, part_ms, at.now_ms);
    if (sum.n < (uint64_t)b->eject.samples
        || (uint64_t)sum.n_failed * 100 < (uint64_t)sum.n * (uint64_t)b->eject.ratio)
        return;
    snprintf(evidence, sizeof evidence, "%u of its last %u attempts failed or had a 5xx",
             sum.n_failed, sum.n);
    eject(s, evidence, at);
}

/* What a probe told. */
static void
probe_over(struct sl_server *s, const struct sl_cause *cause, int is_bad, int status,
           struct moment at)
{
    char evidence[SL_EVENT_TEXT];

    snprintf(evidence, sizeof evidence, "status %d", status);
    if (is_bad)
        health_tell(s, HEALTH_PROBE_FAILED, cause != NULL ? cause->text : evidence, at);
    else if (status == 0)
        health_tell(s, HEALTH_PROBE_LOST, "the client of its probe left", at);
    else
        health_tell(s, HEALTH_PROBE_OK, "a request went well", at);
}

void
condition_attempt(struct sl_server *s, const struct sl_cause *cause, int status, int is_probe,
                  struct moment at)
{
    const struct balancer *b = balancer_of(s);
    int is_failure = cause != NULL && cause_is_servers(cause);
    int is_bad = is_failure || (b->eject.ratio > 0 && status >= 500);

    if (is_probe) {
        probe_over(s, is_failure ? cause : NULL, is_bad, status, at);
        return;
    }
    if (!is_failure && status == 0)
        return;
    count_in_row(s, b, is_failure ? cause : NULL, at);
    if (b->eject.ratio > 0)
        count_in_window(s, b, is_bad, at);
}
