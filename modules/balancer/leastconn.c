/* The server with the fewest attempts in flight for its weight.
 *
 * The counts are the core's and exact across threads.  Equals are taken in turn: each look
 * begins one server further, so an idle pool is used evenly. */

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

static struct sl_server *
leastconn_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct leastconn *lc = data;
    unsigned first = atomic_fetch_add_explicit(&lc->turn, 1, memory_order_relaxed);
    struct sl_server *best = NULL, *s;
    uint64_t n, n_best = 0;
    unsigned i;

    for (i = 0; i < pool->n_servers; i++) {
        s = pool->servers[(first % pool->n_servers + i) % pool->n_servers];
        if (!sl_choice_has(choice, s))
            continue;
        n = atomic_load_explicit(&s->n_active, memory_order_relaxed);
        if (best == NULL || n * best->weight < n_best * s->weight) { /* n/w < n_best/w_best */
            best = s;
            n_best = n;
        }
    }
    return best;
}

const struct sl_balance_method leastconn_method = {
    .setup = leastconn_setup,
    .ready = leastconn_ready,
    .pick = leastconn_pick,
};
