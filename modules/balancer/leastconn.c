/* The server with the fewest attempts in flight for its weight, those of other generations
 * included.
 *
 * The counts are the core's and exact across threads and processes.  Equals are taken in turn,
 * so an idle pool is used evenly.  A server is looked at only when its count is among the
 * least: counts lie side by side, servers do not. */

#include "balancer.h"

struct load {
    const atomic_uint *n_active; /* this process's */
    atomic_uint weight;
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

    if (lc->loads == NULL)
        lc->loads = apr_pcalloc(lc->pool, (pool->n_servers + 1) * sizeof(struct load));
    for (i = 0; i < pool->n_servers; i++) {
        if (lc->loads[i].n_active != pool->servers[i]->n_active) /* never while others pick */
            lc->loads[i].n_active = pool->servers[i]->n_active;
        atomic_store_explicit(&lc->loads[i].weight, pool->servers[i]->weight,
                              memory_order_relaxed);
    }
    return 0;
}

/* is_alone: no other generation has anything in flight. */
static inline int64_t
load_of(const struct leastconn *lc, const struct sl_pool *pool, unsigned i, int is_alone)
{
    unsigned n = atomic_load_explicit(lc->loads[i].n_active, memory_order_relaxed);

    return is_alone ? n : n + sl_server_active_elsewhere(pool->servers[i]);
}

/* Negative: n in flight at a are less for its weight than n_b at b.  n / w_a against
 * n_b / w_b. */
static inline int64_t
load_compare(int64_t n, const struct load *a, int64_t n_b, const struct load *b)
{
    unsigned weight = atomic_load_explicit(&a->weight, memory_order_relaxed);
    unsigned weight_b = atomic_load_explicit(&b->weight, memory_order_relaxed);

    return weight == weight_b ? n - n_b : n * weight_b - n_b * weight;
}

/* The least busy: the first and the last of them, and how many. */
struct least {
    unsigned first, last, n;
    int64_t n_active; /* of the first */
};

static inline struct least
least_find(const struct sl_choice *choice, const struct sl_pool *pool, const struct leastconn *lc,
           int is_alone)
{
    struct least l = {0, 0, 0, 0};
    unsigned i;

    for (i = 0; i < pool->n_servers; i++) {
        int64_t n = load_of(lc, pool, i, is_alone);
        int64_t order = l.n == 0 ? -1 : load_compare(n, &lc->loads[i], l.n_active,
                                                     &lc->loads[l.first]);

        if (order > 0 || !sl_choice_has(choice, pool->servers[i]))
            continue;
        if (order < 0)
            l = (struct least){i, i, 0, n};
        l.last = i;
        l.n++;
    }
    return l;
}

/* The one of the least busy whose turn it is; found without a second look when they stand side
 * by side.  Counts may change between the looks; then the first is as good. */
static struct sl_server *
leastconn_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct leastconn *lc = data;
    int is_alone = sl_places_others() == 0;
    struct least l = least_find(choice, pool, lc, is_alone);
    unsigned i, turn;

    if (l.n < 2)
        return l.n == 1 ? pool->servers[l.first] : NULL;
    turn = choice->is_dry ? atomic_load_explicit(&lc->turn, memory_order_relaxed)
                          : atomic_fetch_add_explicit(&lc->turn, 1, memory_order_relaxed);
    turn %= l.n;
    if (l.last - l.first + 1 == l.n)
        return pool->servers[l.first + turn];
    for (i = l.first; i <= l.last; i++)
        if (load_compare(load_of(lc, pool, i, is_alone), &lc->loads[i], l.n_active,
                         &lc->loads[l.first]) <= 0 &&
            sl_choice_has(choice, pool->servers[i]) && turn-- == 0)
            return pool->servers[i];
    return pool->servers[l.first];
}

const struct sl_balance_method leastconn_method = {
    .setup = leastconn_setup,
    .ready = leastconn_ready,
    .pick = leastconn_pick,
};
