/* The attempts in flight of this process at a pool's servers, by their index.  The counts are the
 * core's; those of one pool mostly lie in a row, so that all of them are in few cache lines. */
#ifndef BALANCER_COUNTS_H
#define BALANCER_COUNTS_H

#include "sluice/module.h"

#include <apr_pools.h>

struct counts {
    const atomic_uint **at;
    const atomic_uint *row; /* all of them, where they lie in a row; else NULL */
};

/* Where they are.  They have their place when requests run: of what is called later only weights
 * have changed. */
static inline void
counts_find(struct counts *c, apr_pool_t *memory, const struct sl_pool *pool)
{
    unsigned i, n = pool->n_servers;

    if (n == 0 || (c->at != NULL && c->at[0] == pool->servers[0]->n_active))
        return;
    c->at = apr_pcalloc(memory, n * sizeof(*c->at));
    c->row = pool->servers[0]->n_active;
    for (i = 0; i < n; i++) {
        c->at[i] = pool->servers[i]->n_active;
        if (c->row != NULL && c->at[i] != c->row + i)
            c->row = NULL;
    }
}

static inline unsigned
counts_get(const struct counts *c, unsigned i)
{
    return atomic_load_explicit(c->row != NULL ? &c->row[i] : c->at[i], memory_order_relaxed);
}

/* Two counts as one word: what half of it an addition carries over is never there, for there are
 * not so many attempts. */
typedef uint64_t __attribute__((may_alias)) counts_pair;

static inline uint64_t
pair_get(const atomic_uint *row, size_t i)
{
    return __atomic_load_n((const counts_pair *)(const void *)&row[i], __ATOMIC_RELAXED);
}

/* Of the first n; four pairs at a time. */
static inline uint64_t
counts_sum(const struct counts *c, unsigned n)
{
    uint64_t sum = 0, pairs = 0;
    size_t i = 0;

    if (c->row != NULL) {
        if (n > 0 && (uintptr_t)c->row % sizeof(counts_pair) != 0)
            sum = counts_get(c, (unsigned)i++);
        for (; i + 8 <= n; i += 8)
            pairs += pair_get(c->row, i) + pair_get(c->row, i + 2) + pair_get(c->row, i + 4)
                     + pair_get(c->row, i + 6);
        sum += (uint32_t)pairs + (pairs >> 32);
    }
    for (; i < n; i++)
        sum += counts_get(c, (unsigned)i);
    return sum;
}

#endif
