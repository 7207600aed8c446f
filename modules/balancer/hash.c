/* Method hash EXPR [bound=N]: requests of equal keys to the same server; iphash: the key is the
 * client's address.
 *
 * With bound=125 a server that has more than 1.25 times the mean in flight, for its weight, is
 * passed over: its hot keys spill to the next point of the ring (Mirrokni, Thorup, Zadimoghaddam,
 * Consistent Hashing with Bounded Loads, 2016). */

#include "balancer.h"
#include "ring.h"

#include <stdlib.h>

#define BOUND_LEAST 101

struct hash {
    _Atomic(struct ring *) ring;
    struct retired *replaced;
    struct sl_expr *key;   /* NULL: the client's address */
    int64_t bound;         /* per cent; 0: none */
    const atomic_uint **counts; /* by index of the server: of this process */
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
    unsigned i;

    if (ring == NULL)
        return -1;
    old = atomic_exchange_explicit(&h->ring, ring, memory_order_acq_rel);
    retired_add(&h->replaced, old != NULL ? &old->retired : NULL, ring_free);
    atomic_store_explicit(&h->usable, 0, memory_order_relaxed);
    if (h->counts == NULL)
        h->counts = apr_pcalloc(h->pool, (pool->n_servers + 1) * sizeof(*h->counts));
    for (i = 0; i < pool->n_servers; i++)
        if (h->counts[i] != pool->servers[i]->n_active) /* never while others pick */
            h->counts[i] = pool->servers[i]->n_active;
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

/* For each unit of weight as many as fit the bound, were the new one spread over all. */
struct room {
    uint64_t n_active, weight;
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
    struct room room = {1, usable_weight_of_now(h, choice, pool)};
    unsigned i, n = 1;

    for (i = 0; i < pool->n_servers; i++)
        n += atomic_load_explicit(h->counts[i], memory_order_relaxed);
    room.n_active = n;
    if (sl_places_others() != 0)
        for (i = 0; i < pool->n_servers; i++)
            room.n_active += sl_server_active_elsewhere(pool->servers[i]);
    return room;
}

/* n + 1 <= ceil(bound * mean * weight) */
static int
is_within(const struct hash *h, const struct room *room, const struct sl_server *s)
{
    uint64_t part = (uint64_t)h->bound * room->n_active * s->weight;

    return sl_server_active(s) < (part + 100 * room->weight - 1) / (100 * room->weight);
}

static struct sl_server *
hash_walk(const struct hash *h, const struct sl_choice *choice, struct sl_pool *pool,
          const struct room *room)
{
    const struct ring *ring = atomic_load_explicit(&h->ring, memory_order_acquire);
    unsigned i, at = ring_find(ring, hash_of_request(h, sl_attempt_req(choice->attempt)));

    for (i = 0; i < ring->n_points; i++, at = at + 1 < ring->n_points ? at + 1 : 0) {
        struct sl_server *s = pool->servers[ring->points[at].server];

        if (sl_choice_has(choice, s) && (room == NULL || is_within(h, room, s)))
            return s;
    }
    return NULL;
}

static struct sl_server *
hash_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct hash *h = data;
    struct sl_server *s = NULL;
    struct room room;

    if (h->bound > 0) {
        room = room_count(h, choice, pool);
        s = hash_walk(h, choice, pool, &room);
    }
    if (s == NULL)
        s = hash_walk(h, choice, pool, NULL);
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
