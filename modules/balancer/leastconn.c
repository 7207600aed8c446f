/* The server with the fewest attempts in flight for its weight, those of other generations
 * included.
 *
 * The counts are the core's and exact across threads and processes.  Equals are taken in turn,
 * so an idle pool is used evenly.  A server is looked at only when its count is among the
 * least: counts lie side by side, servers do not. */

#include "balancer.h"

struct load {
    const atomic_uint *n_active; /* this process's */
    unsigned weight;
};

struct leastconn {
    apr_pool_t *pool;
    struct load *loads; /* by index of the server */
    atomic_uint turn;
};

static const char *
leastconn_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    struct leastconn *lc = apr_pcalloc(sl_cmd_pool(cmd), sizeof(struct leastconn));

    (void)pool;
    if (sl_cmd_argc(cmd) > 1)
        return "leastconn takes no arguments";
    lc->pool = sl_cmd_pool(cmd);
    *data = lc;
    return NULL;
}

static int
leastconn_ready(struct sl_pool *pool, void *data)
{
    struct leastconn *lc = data;
    unsigned i;

    lc->loads = apr_pcalloc(lc->pool, (pool->n_servers + 1) * sizeof(struct load));
    for (i = 0; i < pool->n_servers; i++)
        lc->loads[i] = (struct load){pool->servers[i]->n_active, pool->servers[i]->weight};
    return 0;
}

/* is_alone: no other generation has anything in flight. */
static int64_t
load_of(const struct leastconn *lc, const struct sl_pool *pool, unsigned i, int is_alone)
{
    unsigned n = atomic_load_explicit(lc->loads[i].n_active, memory_order_relaxed);

    return is_alone ? n : n + sl_server_active_elsewhere(pool->servers[i]);
}

/* Finds the least busy and how many are equal to it, then the one of these whose turn it
 * is.  n_a / weight_a is compared with n_b / weight_b.  Counts may change between the two
 * looks; then the first found is as good. */
static struct sl_server *
leastconn_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct leastconn *lc = data;
    struct sl_server *best = NULL;
    int64_t n_best = 0, w_best = 1, n, order;
    unsigned i, turn, n_equal = 0;
    int is_alone = sl_places_others() == 0;

    for (i = 0; i < pool->n_servers; i++) {
        n = load_of(lc, pool, i, is_alone);
        order = best != NULL ? n * w_best - n_best * lc->loads[i].weight : -1;
        if (order > 0 || !sl_choice_has(choice, pool->servers[i]))
            continue;
        if (order < 0) {
            best = pool->servers[i];
            n_best = n;
            w_best = lc->loads[i].weight;
            n_equal = 0;
        }
        n_equal++;
    }
    if (n_equal < 2)
        return best;
    turn = atomic_fetch_add_explicit(&lc->turn, 1, memory_order_relaxed) % n_equal;
    for (i = 0; i < pool->n_servers; i++) {
        n = load_of(lc, pool, i, is_alone);
        if (n * w_best - n_best * lc->loads[i].weight <= 0 &&
            sl_choice_has(choice, pool->servers[i]) && turn-- == 0)
            return pool->servers[i];
    }
    return best;
}

const struct sl_balance_method leastconn_method = {
    .setup = leastconn_setup,
    .ready = leastconn_ready,
    .pick = leastconn_pick,
};
