/* Weighted round robin as one rotation for the whole worker.
 *
 * The order of one full cycle is worked out once, spread as evenly as the weights allow
 * (weights 3, 1, 1 give a b a c a, not a a a b c).  A request takes the next turn by one
 * atomic addition, so over a whole number of cycles the shares are exact, however many
 * threads take part.  Backups have a rotation of their own.
 *
 * A turn of a server that does not come into question is passed on by taking another turn:
 * its share is spread over all others instead of falling to its neighbour in the cycle. */

#include "balancer.h"

#include <apr_strings.h>

#define CYCLE_MAX 4096 /* turns; weights that need more are scaled down */

struct rotation {
    unsigned n; /* turns in a cycle; 0: it has no servers */
    struct sl_server **turns;
    _Alignas(64) _Atomic(uint64_t) turn; /* the cache line all threads write to */
};

struct roundrobin {
    apr_pool_t *pool;
    struct rotation *primary, *backup;
};

/* A server while the cycle is worked out. */
struct share {
    struct sl_server *server;
    int64_t weight;
    int64_t credit;
};

static unsigned
gcd(unsigned a, unsigned b)
{
    while (b != 0) {
        unsigned rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* The weights in lowest terms, and small enough for CYCLE_MAX; returns their sum. */
static int64_t
shares_reduce(struct share *shares, unsigned n)
{
    int64_t sum = 0, scaled = 0;
    unsigned i, divisor = 0;

    for (i = 0; i < n; i++)
        divisor = gcd(shares[i].server->weight, divisor);
    for (i = 0; i < n; i++)
        sum += shares[i].weight = shares[i].server->weight / divisor;
    if (sum <= CYCLE_MAX)
        return sum;
    for (i = 0; i < n; i++) {
        shares[i].weight = shares[i].weight * CYCLE_MAX / sum;
        if (shares[i].weight == 0)
            shares[i].weight = 1;
        scaled += shares[i].weight;
    }
    return scaled;
}

/* Each turn everyone earns its weight; the richest has the turn and pays the sum. */
static struct sl_server *
shares_next(struct share *shares, unsigned n, int64_t sum)
{
    struct share *best = &shares[0];
    unsigned i;

    for (i = 0; i < n; i++) {
        shares[i].credit += shares[i].weight;
        if (shares[i].credit > best->credit)
            best = &shares[i];
    }
    best->credit -= sum;
    return best->server;
}

static struct rotation *
rotation_alloc(apr_pool_t *pool)
{
    uintptr_t at = (uintptr_t)apr_pcalloc(pool, sizeof(struct rotation) + 63);

    return (struct rotation *)((at + 63) & ~(uintptr_t)63);
}

static struct rotation *
rotation_make(apr_pool_t *p, const struct sl_pool *pool, int is_backup)
{
    struct rotation *rotation = rotation_alloc(p);
    struct share *shares = apr_pcalloc(p, (pool->n_servers + 1) * sizeof(struct share));
    int64_t sum;
    unsigned i, n = 0;

    for (i = 0; i < pool->n_servers; i++)
        if (is_backup == ((pool->servers[i]->flags & SL_SERVER_BACKUP) != 0))
            shares[n++].server = pool->servers[i];
    if (n == 0)
        return rotation;
    sum = shares_reduce(shares, n);
    rotation->turns = apr_palloc(p, (apr_size_t)sum * sizeof(struct sl_server *));
    for (rotation->n = 0; rotation->n < (unsigned)sum; rotation->n++)
        rotation->turns[rotation->n] = shares_next(shares, n, sum);
    return rotation;
}

static const char *
roundrobin_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    struct roundrobin *rr = apr_pcalloc(sl_cmd_pool(cmd), sizeof(*rr));

    (void)pool;
    if (sl_cmd_argc(cmd) > 1)
        return "roundrobin takes no arguments";
    rr->pool = sl_cmd_pool(cmd);
    *data = rr;
    return NULL;
}

static int
roundrobin_ready(struct sl_pool *pool, void *data)
{
    struct roundrobin *rr = data;

    if (rr->primary != NULL)
        return 0;
    rr->primary = rotation_make(rr->pool, pool, 0);
    rr->backup = rotation_make(rr->pool, pool, 1);
    return 0;
}

/* Turn number i from now on; taken, unless this is a dry run. */
static struct sl_server *
rotation_turn(struct rotation *r, unsigned i, int is_dry)
{
    uint64_t turn = is_dry ? atomic_load_explicit(&r->turn, memory_order_relaxed) + i
                           : atomic_fetch_add_explicit(&r->turn, 1, memory_order_relaxed);

    return r->turns[turn % r->n];
}

/* Other threads take turns too, so a whole cycle of ours may miss the one that is left:
 * then the servers are gone through in order. */
static struct sl_server *
roundrobin_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct roundrobin *rr = data;
    int is_backup = choice->tier == SL_TIER_BACKUP || choice->tier == SL_TIER_RESTING_BACKUP;
    struct rotation *r = is_backup ? rr->backup : rr->primary;
    struct sl_server *s;
    unsigned i;

    for (i = 0; i < r->n; i++) {
        s = rotation_turn(r, i, choice->is_dry);
        if (sl_choice_has(choice, s))
            return s;
    }
    for (i = 0; i < pool->n_servers; i++)
        if (sl_choice_has(choice, pool->servers[i]))
            return pool->servers[i];
    return NULL;
}

const struct sl_balance_method roundrobin_method = {
    .setup = roundrobin_setup,
    .ready = roundrobin_ready,
    .pick = roundrobin_pick,
};
