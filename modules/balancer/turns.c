#include "turns.h"

#include <stdlib.h>

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

/* The weights in lowest terms, and small enough for TURNS_CYCLE; returns their sum. */
static int64_t
shares_reduce(struct share *shares, unsigned n)
{
    int64_t sum = 0, scaled = 0;
    unsigned i, divisor = 0;

    for (i = 0; i < n; i++)
        divisor = gcd((unsigned)shares[i].weight, divisor);
    for (i = 0; i < n; i++)
        sum += shares[i].weight /= divisor;
    if (sum <= TURNS_CYCLE)
        return sum;
    for (i = 0; i < n; i++) {
        shares[i].weight = shares[i].weight * TURNS_CYCLE / sum;
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

static unsigned
shares_of_level(struct share *shares, const struct sl_pool *pool, unsigned level)
{
    unsigned i, n = 0;

    for (i = 0; i < pool->n_servers; i++)
        if (pool->servers[i]->level == level && !sl_server_is_gone(pool->servers[i]))
            shares[n++] = (struct share){pool->servers[i], pool->servers[i]->weight, 0};
    return n;
}

static int
level_make(struct turns *turns, struct share *shares, const struct sl_pool *pool, unsigned level)
{
    unsigned i, n = shares_of_level(shares, pool, level);
    int64_t sum = shares_reduce(shares, n);

    turns->at = malloc((size_t)sum * sizeof(struct sl_server *));
    if (turns->at == NULL)
        return -1;
    turns->level = level;
    turns->n = (unsigned)sum;
    for (i = 0; i < turns->n; i++)
        turns->at[i] = shares_next(shares, n, sum);
    return 0;
}

/* The next level above `above`, -1: there is none. */
static int
level_next(const struct sl_pool *pool, int above)
{
    int next = -1;
    unsigned i;

    for (i = 0; i < pool->n_servers; i++)
        if (!sl_server_is_gone(pool->servers[i]) && (int)pool->servers[i]->level > above
            && (next < 0 || (int)pool->servers[i]->level < next))
            next = (int)pool->servers[i]->level;
    return next;
}

static unsigned
n_levels(const struct sl_pool *pool)
{
    unsigned n = 0;
    int level = -1;

    while ((level = level_next(pool, level)) >= 0)
        n++;
    return n;
}

static void
set_free(struct retired *r)
{
    struct turns_set *set = (struct turns_set *)(void *)r;
    unsigned i;

    for (i = 0; i < set->n_levels; i++)
        free(set->levels[i].at);
    free(set);
}

static struct turns_set *
set_make(const struct sl_pool *pool)
{
    unsigned n = n_levels(pool);
    size_t size = (sizeof(struct turns_set) + n * sizeof(struct turns) + 63) & ~(size_t)63;
    struct turns_set *set = aligned_alloc(64, size);
    struct share *shares = calloc(pool->n_servers + 1, sizeof(struct share));
    int level = -1, rc = set == NULL || shares == NULL ? -1 : 0;

    if (set != NULL)
        memset(set, 0, size);
    while (rc == 0 && (level = level_next(pool, level)) >= 0)
        rc = level_make(&set->levels[set->n_levels++], shares, pool, (unsigned)level);
    free(shares);
    if (rc == 0)
        return set;
    if (set != NULL)
        set_free(&set->retired);
    return NULL;
}

int
turns_make(struct turns_of *t, const struct sl_pool *pool)
{
    struct turns_set *set = set_make(pool), *old;

    if (set == NULL)
        return -1;
    old = atomic_exchange_explicit(&t->now, set, memory_order_acq_rel);
    retired_add(&t->replaced, old != NULL ? &old->retired : NULL, set_free);
    return 0;
}

void
turns_free(struct turns_of *t)
{
    struct turns_set *set = atomic_exchange(&t->now, NULL);

    retired_free_all(&t->replaced, set_free);
    if (set != NULL)
        set_free(&set->retired);
}
