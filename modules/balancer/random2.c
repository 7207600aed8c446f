/* Two servers at random, by their weights, and of these the one that is less busy (random2) or
 * answers sooner (ewma).
 *
 * Nearly as even as a look at all of them, for two looks; and no herd runs to the one that all
 * threads saw idle at the same time.
 *
 * How soon a server answers is a mean over its last responses, from the start of the attempt to
 * the head, kept for all threads and generations.  It fades while the server gets nothing, and a
 * few requests go anywhere: one that was slow is seen to be fast again. */

#include "balancer.h"
#include "random.h"
#include "turns.h"

#define TRIES 8            /* for a server that comes into question, before all are looked at */
#define FADE_MS 1000       /* half of what was measured is forgotten */
#define EXPLORE 32         /* one request of so many goes to the first drawn, whatever it costs */
#define MEAN_SHIFT 3       /* a response counts for an eighth */
#define STAMP_UNIT_MS 16
#define FIRST_US_MAX 600000000 /* ten minutes */

static apr_status_t
turns_forget(void *data)
{
    turns_free(data);
    return APR_SUCCESS;
}

static const char *
random2_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    struct turns_of *turns = apr_pcalloc(sl_cmd_pool(cmd), sizeof(*turns));

    (void)pool;
    if (sl_cmd_argc(cmd) > 1)
        return "the method takes no arguments";
    apr_pool_cleanup_register(sl_cmd_pool(cmd), turns, turns_forget, apr_pool_cleanup_null);
    *data = turns;
    return NULL;
}

static int
random2_ready(struct sl_pool *pool, void *data)
{
    return turns_make(data, pool);
}

/* One that comes into question and is not `other`; NULL: bad luck, or there is none. */
static struct sl_server *
draw(const struct sl_choice *choice, const struct turns *t, const struct sl_server *other)
{
    unsigned i;

    for (i = 0; i < TRIES; i++) {
        struct sl_server *s = t->at[random_below(t->n)];

        if (s != other && sl_choice_has(choice, s))
            return s;
    }
    return NULL;
}

/* What an attempt would cost at the server: less is better. */
typedef uint64_t cost_f(const struct sl_server *s, int64_t now_ms);

static struct sl_server *
better_of_two(const struct sl_choice *choice, struct sl_pool *pool, void *data, cost_f *cost)
{
    const struct turns *t = turns_of_level(data, choice->level);
    struct sl_server *a = t != NULL ? draw(choice, t, NULL) : NULL, *b;
    int64_t now_ms = sl_loop_now(sl_attempt_loop(choice->attempt));

    if (a == NULL)
        a = choice_any(choice, pool, random_below(pool->n_servers));
    b = a != NULL && t != NULL && t->n > 1 ? draw(choice, t, a) : NULL;
    return b != NULL && cost(b, now_ms) < cost(a, now_ms) ? b : a;
}

/* Weight by weight: 3 in flight at weight 1 are as 6 at weight 2. */
static uint64_t
cost_in_flight(const struct sl_server *s, int64_t now_ms)
{
    (void)now_ms;
    return ((uint64_t)sl_server_active(s) << 16) / s->weight;
}

static struct sl_server *
random2_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    return better_of_two(choice, pool, data, cost_in_flight);
}

/* ---- ewma: state.response is a stamp above and the mean in us below ---- */

static uint32_t
stamp_of(int64_t now_ms)
{
    return (uint32_t)(now_ms / STAMP_UNIT_MS);
}

/* The mean, faded by the time nothing came. */
static uint64_t
mean_us(uint64_t response, int64_t now_ms)
{
    uint32_t units = stamp_of(now_ms) - (uint32_t)(response >> 32);
    unsigned halves = units < INT32_MAX ? units / (FADE_MS / STAMP_UNIT_MS) : 0;

    return halves < 32 ? (response & UINT32_MAX) >> halves : 0;
}

static uint64_t
cost_of_response(const struct sl_server *s, int64_t now_ms)
{
    uint64_t response = atomic_load_explicit(&s->state->response, memory_order_relaxed);

    return (mean_us(response, now_ms) + 1) * (sl_server_active(s) + 1);
}

/* All are equal: the first drawn is taken. */
static uint64_t
cost_of_none(const struct sl_server *s, int64_t now_ms)
{
    (void)s;
    (void)now_ms;
    return 0;
}

static struct sl_server *
ewma_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    int explores = random_below(EXPLORE) == 0;

    return better_of_two(choice, pool, data, explores ? cost_of_none : cost_of_response);
}

/* When two threads come at the same time, one of the two responses is lost: it is a mean. */
static void
ewma_responded(struct sl_server *s, void *data, int64_t first_us, int64_t now_ms)
{
    uint64_t old = atomic_load_explicit(&s->state->response, memory_order_relaxed);
    int64_t mean = (int64_t)mean_us(old, now_ms);
    int64_t us = first_us < FIRST_US_MAX ? first_us : FIRST_US_MAX;
    uint64_t word;

    (void)data;
    mean = old == 0 ? us : mean + (us - mean) / (1 << MEAN_SHIFT);
    word = (uint64_t)stamp_of(now_ms) << 32 | (uint64_t)(mean > 0 ? mean : 0);
    atomic_compare_exchange_strong_explicit(&s->state->response, &old, word, memory_order_relaxed,
                                            memory_order_relaxed);
}

const struct sl_balance_method random2_method = {
    .setup = random2_setup,
    .ready = random2_ready,
    .pick = random2_pick,
};

const struct sl_balance_method ewma_method = {
    .setup = random2_setup,
    .ready = random2_ready,
    .pick = ewma_pick,
    .responded = ewma_responded,
};
