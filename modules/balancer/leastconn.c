/* The server with the fewest attempts in flight for its weight.
 *
 * The counts are the core's and exact across threads.  Equals are taken in turn, so an
 * idle pool is used evenly. */

#include "balancer.h"

struct leastconn {
    atomic_uint turn;
};

static const char *
leastconn_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    (void)pool;
    if (sl_cmd_argc(cmd) > 1)
        return "leastconn takes no arguments";
    *data = apr_pcalloc(sl_cmd_pool(cmd), sizeof(struct leastconn));
    return NULL;
}

static int
leastconn_ready(struct sl_pool *pool, void *data)
{
    (void)pool;
    (void)data;
    return 0;
}

/* Negative: a is less busy than b for its weight.  n_a / w_a against n_b / w_b. */
static int64_t
load_compare(const struct sl_server *a, const struct sl_server *b, int64_t n_b)
{
    int64_t n_a = atomic_load_explicit(&a->n_active, memory_order_relaxed);

    return n_a * b->weight - n_b * a->weight;
}

/* Finds the least busy and how many are equal to it, then the one of these whose turn it
 * is.  Counts may change between the two looks; then the first found is as good. */
static struct sl_server *
leastconn_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct leastconn *lc = data;
    struct sl_server *best = NULL, *s;
    int64_t n_best = 0, order;
    unsigned i, turn, n_equal = 0;

    for (i = 0; i < pool->n_servers; i++) {
        s = pool->servers[i];
        if (!sl_choice_has(choice, s))
            continue;
        order = best != NULL ? load_compare(s, best, n_best) : -1;
        if (order < 0) {
            best = s;
            n_best = atomic_load_explicit(&s->n_active, memory_order_relaxed);
            n_equal = 0;
        }
        n_equal += order <= 0;
    }
    if (n_equal < 2)
        return best;
    turn = choice->is_dry ? atomic_load_explicit(&lc->turn, memory_order_relaxed)
                          : atomic_fetch_add_explicit(&lc->turn, 1, memory_order_relaxed);
    turn %= n_equal;
    for (i = 0; i < pool->n_servers; i++) {
        s = pool->servers[i];
        if (sl_choice_has(choice, s) && load_compare(s, best, n_best) <= 0 && turn-- == 0)
            return s;
    }
    return best;
}

const struct sl_balance_method leastconn_method = {
    .setup = leastconn_setup,
    .ready = leastconn_ready,
    .pick = leastconn_pick,
};
