/* Which server gets an attempt, and what its outcome means.
 *
 * Of the servers that may be used, those of the lowest level share the requests by the pool's
 * method.  When none may be used, those that rest after failures are used all the same: resting
 * never makes a pool unusable.  A server whose rest is over is tried by a connection (knock.c), and
 * then by one request at a time.
 * A server that has just come back or was added is passed over now and then, ever less, until
 * its slowstart is over; so it is the same for every method.
 *
 * No locks: counts and states are single words, and whoever changes one first has decided. */

#include "balancer.h"
#include "queue.h"
#include "random.h"
#include "sticky.h"

#define PICKS_MAX 16         /* others may be faster to take the last place of a server */
#define WARM_LEAST_PERCENT 10
#define BUDGET_RETRY 100     /* hundredths of a retry */
#define BUDGET_MOST (100 * BUDGET_RETRY)

/* What sl_attempt_owner_data() is while the attempt tries whether a server is well again. */
static char probe_mark;

/* ---- choosing ---- */

/* The lowest level with a server that comes into question: mostly told by the first server. */
static int
level_find(struct sl_choice *choice, const struct sl_pool *pool)
{
    const struct balancer *b = pool->data;
    unsigned i, least = UINT32_MAX;

    for (i = 0; i < pool->n_servers && least != b->level_least; i++) {
        choice->level = pool->servers[i]->level;
        if (choice->level < least && sl_choice_has(choice, pool->servers[i]))
            least = choice->level;
    }
    choice->level = least;
    return least != UINT32_MAX;
}

/* Whether its time to warm up has not come to this request's share of it. */
static int
is_passed_over(struct sl_server *s, int64_t now_ms)
{
    int64_t since, warm;
    unsigned slowstart_ms = s->slowstart_ms, least = slowstart_ms / 100 * WARM_LEAST_PERCENT;

    if (slowstart_ms == 0)
        return 0;
    since = atomic_load_explicit(&s->state->warm_since, memory_order_relaxed);
    if (since == 0)
        return 0;
    warm = now_ms - since;
    if (warm < (int64_t)slowstart_ms)
        return random_below(slowstart_ms) >= (warm > least ? (unsigned)warm : least);
    atomic_store_explicit(&s->state->warm_since, 0, memory_order_relaxed);
    return 0;
}

/* Methods are not asked where there is nothing: a ring would be gone round in vain. */
static int
is_left(const struct sl_choice *choice, const struct sl_pool *pool)
{
    return choice_any(choice, pool, 0) != NULL;
}

static struct sl_server *
choose(struct sl_choice *choice, struct sl_pool *pool, int64_t now_ms)
{
    const struct balancer *b = pool->data;
    struct sl_server *s, *other;

    choice->now_ms = now_ms;
    if (!level_find(choice, pool)) {
        choice->now_ms = INT64_MAX;
        if (!level_find(choice, pool))
            return NULL;
    }
    s = b->method->pick(choice, pool, b->method_data);
    if (s == NULL || choice->is_dry || !is_passed_over(s, now_ms))
        return s;
    choice->passed = s;
    other = is_left(choice, pool) ? b->method->pick(choice, pool, b->method_data) : NULL;
    choice->passed = NULL;
    return other != NULL ? other : s;
}

/* A server that is no more than hoped to be well: whether the attempt may be its probe, or it has
 * come back meanwhile. */
static int
may_probe(struct sl_attempt *a, struct sl_server *s, uint64_t word, int64_t now_ms)
{
    struct sl_loop *loop = sl_attempt_loop(a);

    if (!health_tell(s, HEALTH_PROBE_BEGINS, "its rest is over", moment_of(loop)))
        return sl_server_may_be_used(s, now_ms);
    if (SL_HEALTH_STATE(word) == SL_HEALTH_RESTING) {
        knock(s, loop);
        return 0;
    }
    *sl_attempt_owner_data(a) = &probe_mark;
    return 1;
}

/* Counts the attempt; 0 when it has to look again: the server is full, or still to be probed. */
static int
claim(struct sl_attempt *a, struct sl_server *s, int64_t now_ms)
{
    uint64_t word = atomic_load_explicit(&s->state->health, memory_order_relaxed);

    if (!sl_server_take(s))
        return 0;
    if (SL_HEALTH_STATE(word) == SL_HEALTH_UP || SL_HEALTH_UNTIL(word) > now_ms
        || may_probe(a, s, word, now_ms))
        return 1;
    atomic_fetch_sub_explicit(s->n_active, 1, memory_order_seq_cst);
    return 0;
}

static struct sl_server *
pick(struct sl_attempt *a, struct sl_pool *pool, int is_dry)
{
    struct sl_choice choice = {.attempt = a, .is_dry = is_dry};
    int64_t now_ms = sl_loop_now(sl_attempt_loop(a));
    struct sl_server *s;
    unsigned i;

    for (i = 0; i < PICKS_MAX; i++) {
        s = choose(&choice, pool, now_ms);
        if (s == NULL)
            return NULL;
        if (is_dry ? sl_server_take(s) : claim(a, s, now_ms))
            return s;
    }
    return NULL;
}

/* For explain: those that are passed over, and why. */
static void
note_others(struct sl_req *r, const struct sl_pool *pool, const struct sl_server *picked)
{
    const struct balancer *b = pool->data;
    unsigned i;

    for (i = 0; i < pool->n_servers; i++) {
        const struct sl_server *s = pool->servers[i];
        const char *word = condition_word(s);

        if (sl_server_is_gone(s))
            continue;
        if (s == picked && (s->flags & SL_SERVER_CHECKED))
            sl_note(r, "server %s: is checked by %s every %ld ms", s->name,
                    b->check.is_tcp ? "tcp" : b->check.uri, (long)b->check.interval_ms);
        else if (s != picked && strcmp(word, "up") != 0)
            sl_note(r, "server %s: %s", s->name, word);
        else if (s != picked && sl_server_is_full(s))
            sl_note(r, "server %s: has its %u requests in flight", s->name, s->maxconn);
        else if (picked != NULL && s->level > picked->level)
            sl_note(r, "server %s: waits for others to fail", s->name);
    }
}

static struct sl_server *
share_select(struct sl_attempt *a, struct sl_pool *pool)
{
    const struct balancer *b = pool->data;
    struct sl_req *r = sl_attempt_req(a);
    int is_dry = r != NULL && sl_req_is_dry(r);
    struct queue *queue = is_dry ? NULL : b->queue;
    void *waiter = *sl_attempt_owner_data(a);
    struct sl_server *s = NULL;

    if (queue != NULL && !queue_admits(queue, a))
        return NULL;
    if (b->sticky != NULL && r != NULL)
        s = sticky_select(b->sticky, pool, a);
    if (s != NULL && !(is_dry ? sl_server_take(s) : claim(a, s, sl_loop_now(sl_attempt_loop(a)))))
        s = NULL;
    if (s == NULL)
        s = pick(a, pool, is_dry);
    if (r != NULL && sl_req_is_noting(r))
        note_others(r, pool, s);
    if (queue != NULL && s == NULL)
        queue_leave_place(queue);
    else if (queue != NULL)
        queue_served(a, waiter);
    return s;
}

/* ---- another try ---- */

/* Spends a retry of the budget, if there is one left. */
static int
budget_spend(struct balancer *b)
{
    int64_t left;

    if (b->retry_budget < 0)
        return 1;
    left = atomic_fetch_sub_explicit(&b->budget, BUDGET_RETRY, memory_order_relaxed);
    if (left >= BUDGET_RETRY)
        return 1;
    atomic_fetch_add_explicit(&b->budget, BUDGET_RETRY, memory_order_relaxed);
    return 0;
}

/* Every request earns its part. */
static void
budget_earn(struct balancer *b)
{
    if (atomic_load_explicit(&b->budget, memory_order_relaxed) < BUDGET_MOST)
        atomic_fetch_add_explicit(&b->budget, b->retry_budget, memory_order_relaxed);
}

static int
may_retry(struct sl_attempt *a, struct balancer *b)
{
    const struct sl_req *r = sl_attempt_req(a);

    if (sl_attempt_number(a) >= b->retry_max)
        return 0;
    if (b->retry_deadline_ms >= 0 && r != NULL
        && sl_req_elapsed_us(r) / 1000 >= b->retry_deadline_ms)
        return 0;
    return budget_spend(b);
}

static int
share_retry(struct sl_attempt *a, struct sl_pool *pool, const struct sl_cause *cause)
{
    struct balancer *b = pool->data;

    return (b->retry_on & cause_class(cause)) != 0 && may_retry(a, b);
}

static int
has_other(struct sl_attempt *a, const struct sl_pool *pool)
{
    int64_t now_ms = sl_loop_now(sl_attempt_loop(a));
    unsigned i;

    for (i = 0; i < pool->n_servers; i++)
        if (pool->servers[i] != sl_attempt_server(a) && !sl_attempt_tried(a, pool->servers[i])
            && sl_server_may_be_used(pool->servers[i], now_ms))
            return 1;
    return 0;
}

static int
share_answered(struct sl_attempt *a, struct sl_pool *pool, int status, int is_repeatable)
{
    struct balancer *b = pool->data;

    if (is_repeatable && sl_statuses_have(&b->retry_statuses, status) && has_other(a, pool)
        && may_retry(a, b))
        return 1;
    if (b->sticky != NULL)
        sticky_answer(b->sticky, a);
    return 0;
}

/* ---- outcomes ---- */

/* It went well, as the one before, and nobody counts a ratio: nothing is learnt. */
static int
is_as_usual(const struct sl_server *s, const struct balancer *b, const struct sl_cause *cause)
{
    return cause == NULL && b->eject.ratio <= 0
           && atomic_load_explicit(&s->state->n_failed, memory_order_relaxed) == 0;
}

static void
share_done(struct sl_attempt *a, struct sl_server *server, const struct sl_cause *cause)
{
    struct balancer *b = server->pool->data;
    struct sl_loop *loop = sl_attempt_loop(a);
    int64_t first_us = sl_attempt_first_us(a);
    void **mark = sl_attempt_owner_data(a);

    if (b->method->responded != NULL && first_us >= 0)
        b->method->responded(server, b->method_data, first_us, sl_loop_now(loop));
    if (b->retry_budget > 0 && sl_attempt_number(a) == 0)
        budget_earn(b);
    if (*mark == &probe_mark || !is_as_usual(server, b, cause))
        condition_attempt(server, cause, first_us >= 0 ? sl_attempt_status(a) : 0,
                          *mark == &probe_mark, moment_of(loop));
    *mark = NULL;
    if (b->queue != NULL)
        queue_room(b->queue);
}

static const struct sl_cause *
share_wait(struct sl_attempt *a, struct sl_pool *pool)
{
    const struct balancer *b = pool->data;

    return queue_wait(b->queue, a, pool);
}

static void
share_leave(struct sl_attempt *a, struct sl_pool *pool)
{
    const struct balancer *b = pool->data;

    queue_leave(b->queue, a);
}

void
share_own(struct balancer *b)
{
    static const struct sl_statuses none;
    int is_asked = b->sticky != NULL
                   || memcmp(&b->retry_statuses, &none, sizeof none) != 0;

    b->owner = (struct sl_pool_owner){
        .select = share_select,
        .retry = share_retry,
        .done = share_done,
        .answered = is_asked ? share_answered : NULL,
        .wait = b->queue != NULL ? share_wait : NULL,
        .leave = b->queue != NULL ? share_leave : NULL,
        .changed = members_changed,
    };
    b->pool->owner = &b->owner;
}
