/* Turns: every server of a level as often as its weight says, in an order that spreads each as
 * evenly as the weights allow (weights 3, 1, 1 give a b a c a, not a a a b c).
 *
 * Made when weights are known, and again when the operator changes one; those that pick go on
 * with the turns they found. */
#ifndef BALANCER_TURNS_H
#define BALANCER_TURNS_H

#include "retired.h"

#include "sluice/module.h"

#include <stdatomic.h>

#define TURNS_CYCLE 4096 /* weights that need more turns are scaled down */

struct turns {
    unsigned level;
    unsigned n;
    struct sl_server **at;
    _Alignas(64) _Atomic(uint64_t) next; /* the cache line all threads write to */
};

struct turns_set {
    struct retired retired; /* first */
    unsigned n_levels;
    struct turns levels[]; /* the lowest first */
};

/* Of one pool; zeroed at first. */
struct turns_of {
    _Atomic(struct turns_set *) now;
    struct retired *replaced;
};

/* 0, or -1: no memory. */
int turns_make(struct turns_of *t, const struct sl_pool *pool);
void turns_free(struct turns_of *t);

/* Those of a level; NULL: it has no servers.  Good for a minute. */
static inline struct turns *
turns_of_level(const struct turns_of *t, unsigned level)
{
    struct turns_set *set = atomic_load_explicit(&t->now, memory_order_acquire);
    unsigned i;

    for (i = 0; i < set->n_levels; i++)
        if (set->levels[i].level == level)
            return &set->levels[i];
    return NULL;
}

#endif
