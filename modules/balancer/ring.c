#include "ring.h"

#include <stdlib.h>

#define POINTS_EACH 160 /* of a server of weight 1, while weights are small */
#define POINTS_MOST 1280

/* Eight bytes at a time, each mixed as by the finish of MurmurHash3: names differ in their last
 * byte, points must not lie side by side for it.  Bytes in the order of memory, so machines of
 * the other order place keys elsewhere. */
static uint64_t
mix(uint64_t h)
{
    h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
    return h ^ h >> 29;
}

uint64_t
ring_hash(const void *bytes, size_t n, uint64_t seed)
{
    const char *at = bytes;
    uint64_t h = seed ^ n * UINT64_C(0x9e3779b97f4a7c15), part;

    for (; n >= sizeof part; at += sizeof part, n -= sizeof part) {
        memcpy(&part, at, sizeof part);
        h = mix(h ^ part);
    }
    part = 0;
    memcpy(&part, at, n);
    h = mix(h ^ part) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

/* A server's points must not depend on the others: the largest weight only says how fine the
 * weights are. */
static unsigned
points_each(const struct sl_pool *pool)
{
    unsigned i, most = 1;

    for (i = 0; i < pool->n_servers; i++)
        if (!sl_server_is_gone(pool->servers[i]) && pool->servers[i]->weight > most)
            most = pool->servers[i]->weight;
    return most <= POINTS_MOST / POINTS_EACH ? POINTS_EACH : most <= 32 ? 40 : 5;
}

static int
point_compare(const void *a, const void *b)
{
    const struct ring_point *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->server < y->server ? -1 : x->server > y->server;
}

/* Its weight, which may change meanwhile. */
static unsigned
points_add(struct ring *ring, const struct sl_server *s, unsigned each)
{
    uint64_t name = ring_hash(s->name, strlen(s->name), 0);
    unsigned i, weight = s->weight, n = weight * each;

    for (i = 0; i < n; i++)
        ring->points[ring->n_points++] =
            (struct ring_point){(uint32_t)(ring_hash(&i, sizeof i, name) >> 32), s->index};
    return weight;
}

static void
table_make(struct ring *ring)
{
    uint32_t slot;
    unsigned i = 0;

    for (slot = 0; slot < 1u << RING_TABLE_BITS; slot++) {
        while (i < ring->n_points && ring->points[i].hash >> (32 - RING_TABLE_BITS) < slot)
            i++;
        ring->begins[slot] = i;
    }
}

struct ring *
ring_make(const struct sl_pool *pool)
{
    unsigned i, n = 0, each = points_each(pool);
    struct ring *ring;

    for (i = 0; i < pool->n_servers; i++)
        if (!sl_server_is_gone(pool->servers[i]))
            n += pool->servers[i]->weight * each;
    ring = calloc(1, sizeof(*ring) + n * sizeof(struct ring_point)
                         + pool->n_servers * sizeof(*ring->weights));
    if (ring == NULL)
        return NULL;
    ring->n_servers = pool->n_servers;
    ring->weights = (uint32_t *)(void *)&ring->points[n];
    for (i = 0; i < pool->n_servers; i++)
        if (!sl_server_is_gone(pool->servers[i]))
            ring->weights[i] = points_add(ring, pool->servers[i], each);
    qsort(ring->points, ring->n_points, sizeof(struct ring_point), point_compare);
    table_make(ring);
    return ring;
}
