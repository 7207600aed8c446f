/* A ring of points, each a server's: a key belongs to the first point behind its hash.
 *
 * A server's points depend on its name and weight alone, so one that comes or goes moves the
 * keys that become or were its own and no others; and while one cannot be used, each of its keys
 * goes to the next point, of which server chance has decided.
 *
 * A table by the upper bits of the hash says where to begin, so a look-up is a step or two. */
#ifndef BALANCER_RING_H
#define BALANCER_RING_H

#include "retired.h"

#include "sluice/module.h"

#define RING_TABLE_BITS 14

struct ring_point {
    uint32_t hash;
    uint32_t server; /* its index */
};

struct ring {
    struct retired retired; /* first */
    unsigned n_points;
    unsigned n_servers;
    uint32_t *weights; /* of the servers, by index; behind the points */
    uint32_t begins[1 << RING_TABLE_BITS]; /* the first point behind these upper bits */
    struct ring_point points[];
};

/* malloc()ed; NULL: no memory. */
struct ring *ring_make(const struct sl_pool *pool);

/* The point a hash belongs to. */
static inline unsigned
ring_find(const struct ring *ring, uint32_t hash)
{
    unsigned i = ring->begins[hash >> (32 - RING_TABLE_BITS)];

    while (i < ring->n_points && ring->points[i].hash < hash)
        i++;
    return i < ring->n_points ? i : 0;
}

/* Of the bytes of a key; the same in every process. */
uint64_t ring_hash(const void *bytes, size_t n, uint64_t seed);

#endif
