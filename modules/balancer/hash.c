/* Method hash EXPR [bound=N]: requests of equal keys to the same server; iphash: the key is the
 * client's address.
 *
 * With bound=125 a server that has more than 1.25 times the mean in flight, for its weight, is
 * passed over: its hot keys spill to the next point of the ring (Mirrokni, Thorup, Zadimoghaddam,
 * Consistent Hashing with Bounded Loads, 2016). */

#include "balancer.h"
#include "counts.h"
#include "ring.h"

#include <stdlib.h>

#define BOUND_LEAST 101

struct hash {
    _Atomic(struct ring *) ring;
    struct retired *replaced;
    struct sl_expr *key;   /* NULL: the client's address */
    int64_t bound;         /* per cent; 0: none */
    struct counts counts;
    _Atomic(uint64_t) usable;   /* where bounded */
    apr_pool_t *pool;
};

/* ---- the ring in force ---- */

static void
ring_free(struct retired *r)
{
    free(r);
}

/* Who picks goes on with the ring it found. */
static int
hash_ready(struct sl_pool *pool, void *data)
{
    struct hash *h = data;
    struct ring *ring = ring_make(pool), *old;

    if (ring == NULL)
        return -1;
    old = atomic_exchange_explicit(&h->ring, ring, memory_order_acq_rel);
    retired_add(&h->replaced, old != NULL ? &old->retired : NULL, ring_free);
    atomic_store_explicit(&h->usable, 0, memory_order_relaxed);
    counts_find(&h->counts, h->pool, pool);
    return 0;
}

static apr_status_t
hash_forget(void *data)
{
    struct hash *h = data;

    retired_free_all(&h->replaced, ring_free);
    free(atomic_exchange(&h->ring, NULL));
    return APR_SUCCESS;
}

static struct hash *
hash_new(apr_pool_t *pool)
{
    struct hash *h = apr_pcalloc(pool, sizeof(*h));

    h->pool = pool;
    apr_pool_cleanup_register(pool, h, hash_forget, apr_pool_cleanup_null);
    return h;
}

static const struct sl_option hash_options[] = {
    {"bound", SL_SLOT_NUMBER, offsetof(struct hash, bound), "off", NULL,
     "Most in flight at a server, in per cent of the mean"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
hash_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    struct hash *h = hash_new(sl_cmd_pool(cmd));
    const char *text = sl_cmd_arg(cmd, 1), *err = NULL;

    (void)pool;
    if (text == NULL) {
        sl_cmd_cure(cmd, "Method hash %%{path}");
        return "hash needs an expression, the key";
    }
    h->key = sl_expr_compile(sl_cmd_pool(cmd), text, SL_PHASE_ROUTED, &err);
    if (h->key != NULL)
        err = sl_cmd_options(cmd, 2, hash_options, h);
    if (err == NULL && h->bound > 0 && h->bound < BOUND_LEAST)
        err = "expected bound= of 101 or more, per cent of the mean";
    *data = h;
    return err;
}

static const char *
iphash_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    (void)pool;
    *data = hash_new(sl_cmd_pool(cmd));
    return sl_cmd_argc(cmd) > 1 ? "iphash takes no arguments" : NULL;
}

/* ---- picking ---- */

/* The address without its port; of IPv6 the half that stays when a client takes another. */
static struct sl_span
address_key(const struct sl_sockaddr *a)
{
    if (a->len != 0 && a->u.sa.sa_family == AF_INET)
        return (struct sl_span){(const char *)&a->u.in.sin_addr, 4};
    if (a->len != 0 && a->u.sa.sa_family == AF_INET6)
        return (struct sl_span){(const char *)&a->u.in6.sin6_addr, 8};
    return SL_SPAN("");
}

static uint32_t
hash_of_request(const struct hash *h, struct sl_req *r)
{
    struct sl_span key;

    if (r == NULL)
        return 0;
    key = h->key != NULL ? sl_expr_text(h->key, r) : address_key(sl_req_client(r));
    return (uint32_t)(ring_hash(key.at, key.n, 0) >> 32);
}

/* How much fits the bound, were the new one spread over all: a server of this weight has room
 * while its attempts * whole < part * weight. */
struct room {
    uint64_t part, whole;
    int is_alone; /* no other generation has anything in flight */
};

static uint64_t
usable_weight(const struct sl_choice *choice, const struct sl_pool *pool)
{
    uint64_t weight = 0;
    unsigned i;

    for (i = 0; i < pool->n_servers; i++)
        if (pool->servers[i]->level == choice->level
            && sl_server_may_be_used(pool->servers[i], choice->now_ms))
            weight += pool->servers[i]->weight;
    return weight;
}

/* Which servers may be used is looked up once a millisecond; `usable` says when, for which level
 * and their weight. */
static uint64_t
usable_weight_of_now(struct hash *h, const struct sl_choice *choice, const struct sl_pool *pool)
{
    uint64_t stamp = (uint64_t)choice->now_ms << 32 | (uint64_t)(choice->level & 255) << 24;
    uint64_t known = atomic_load_explicit(&h->usable, memory_order_relaxed);

    if (known >> 24 == stamp >> 24)
        return known & 0xffffff;
    known = usable_weight(choice, pool);
    atomic_store_explicit(&h->usable, stamp | (known & 0xffffff), memory_order_relaxed);
    return known;
}

static struct room
room_count(struct hash *h, const struct sl_choice *choice, const struct sl_pool *pool)
{
    uint64_t n = 1 + counts_sum(&h->counts, pool->n_servers);
    int is_alone = sl_places_others() == 0;
    unsigned i;

    for (i = 0; !is_alone && i < pool->n_servers; i++)
        n += sl_server_active_elsewhere(pool->servers[i]);
    return (struct room){(uint64_t)h->bound * n, 100 * usable_weight_of_now(h, choice, pool),
                         is_alone};
}

/* n + 1 <= ceil(bound * mean * weight), without a division.  Many servers are passed over where
 * a key is hot: this looks at nothing else of them. */
static inline int
is_within(const struct hash *h, const struct room *room, const struct ring *ring, unsigned i,
          const struct sl_pool *pool)
{
    uint64_t n = counts_get(&h->counts, i);

    if (!room->is_alone)
        n += sl_server_active_elsewhere(pool->servers[i]);
    return n * room->whole < room->part * ring->weights[i];
}

static struct sl_server *
hash_walk(const struct hash *h, const struct ring *ring, const struct sl_choice *choice,
          struct sl_pool *pool, const struct room *room)
{
    unsigned i, at = ring_find(ring, hash_of_request(h, sl_attempt_req(choice->attempt)));

    for (i = 0; i < ring->n_points; i++, at = at + 1 < ring->n_points ? at + 1 : 0) {
        unsigned server = ring->points[at].server;

        if ((room == NULL || is_within(h, room, ring, server, pool))
            && sl_choice_has(choice, pool->servers[server]))
            return pool->servers[server];
    }
    return NULL;
}

static struct sl_server *
hash_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct hash *h = data;
    const struct ring *ring = atomic_load_explicit(&h->ring, memory_order_acquire);
    struct sl_server *s = NULL;
    struct room room;

    if (h->bound > 0) {
        room = room_count(h, choice, pool);
        s = hash_walk(h, ring, choice, pool, &room);
    }
    if (s == NULL)
        s = hash_walk(h, ring, choice, pool, NULL);
    return s != NULL ? s : choice_any(choice, pool, 0); /* one that has just come is on no ring yet */
}

const struct sl_balance_method hash_method = {
    .setup = hash_setup,
    .ready = hash_ready,
    .pick = hash_pick,
};

const struct sl_balance_method iphash_method = {
    .setup = iphash_setup,
    .ready = hash_ready,
    .pick = hash_pick,
};
