/* The zone "servers": how servers fare, shared by all generations, and how many attempts each
 * process has in flight at them, in its slot.
 *
 * A server is the same one by the names of its pool and its own; it has one number in all
 * processes (runtime/zone_index.h), so servers of one pool, made in one go, stand side by side:
 * the counts of sixteen in a line of the cache.  Under another address the same server is given
 * a new chance: failures are forgotten. */
#include "upstream/shared.h"

#include "runtime/zone_index.h"
#include "upstream/pool.h"

#include "sluice/log.h"

#include <stdio.h>
#include <stdlib.h>

#define SERVERS_ZONE "servers"
#define SERVERS_LAYOUT 1
#define SERVERS_MAX 8192

struct servers_zone {
    INDEX_TABLE(SERVERS_MAX) names;
    struct sl_server_state states[SERVERS_MAX];
};

struct servers_slot {
    atomic_uint n_active[SERVERS_MAX];
    _Atomic(unsigned char) holds[SERVERS_MAX];
};

static const struct sl_slots *slots;

static void
state_reset(struct sl_server_state *state, unsigned address)
{
    atomic_store_explicit(&state->rests_until, 0, memory_order_relaxed);
    atomic_store_explicit(&state->n_failed, 0, memory_order_relaxed);
    atomic_store_explicit(&state->address, address, memory_order_relaxed);
}

static void
state_clear(void *data, unsigned number)
{
    struct servers_zone *z = data;

    state_reset(&z->states[number], 0);
}

static unsigned
address_mark(const char *address)
{
    unsigned h = 2166136261u;

    for (; *address != '\0'; address++)
        h = (h ^ (unsigned char)*address) * 16777619u;
    return h;
}

/* 0, or -1: there is no place for it. */
static int
server_share(const struct zone_index *ix, const char *pool_name, struct sl_server *s)
{
    struct servers_zone *z = ix->slots->shared;
    struct servers_slot *mine = sl_slot(ix->slots, ix->slots->mine);
    unsigned address = address_mark(s->address);
    char *name;
    int i;

    if (asprintf(&name, "%s/%s", pool_name, s->name) < 0)
        return -1;
    i = index_claim(ix, name);
    free(name);
    if (i < 0)
        return -1;
    s->n_active = &mine->n_active[i];
    s->state = &z->states[i];
    if (atomic_load_explicit(&s->state->address, memory_order_relaxed) != address)
        state_reset(s->state, address);
    return 0;
}

void
servers_share(void)
{
    struct upstream_pool *p;
    struct zone_index ix;
    unsigned n_without = 0, i;
    int is_fresh;

    slots = sl_zone_slots(SERVERS_ZONE, SERVERS_LAYOUT, sizeof(struct servers_zone),
                          sizeof(struct servers_slot), &is_fresh);
    if (slots == NULL)
        return;
    ix = INDEX_OF(SERVERS_ZONE, slots, &((struct servers_zone *)slots->shared)->names,
                  offsetof(struct servers_slot, holds), SERVERS_MAX, state_clear, slots->shared);
    for (p = pools_first(); p != NULL; p = p->next)
        for (i = 0; i < p->pool.n_servers; i++)
            n_without += server_share(&ix, p->direct_key != NULL ? p->direct_key : p->pool.name,
                                      p->pool.servers[i]) != 0;
    if (n_without > 0)
        sl_log(SL_WARN, "SL0531", "no room in the zone " SERVERS_ZONE " for %u servers: each "
               "generation has counts of its own for them", n_without);
}

unsigned
sl_server_active_elsewhere(const struct sl_server *s)
{
    uint64_t places = sl_places_others();
    unsigned n = 0;
    size_t at;

    if (slots == NULL || s->n_active == &((const struct upstream_server *)s)->own_active)
        return 0;
    at = (size_t)((char *)s->n_active - (char *)sl_slot(slots, slots->mine));
    for (; places != 0; places &= places - 1) {
        const char *other = sl_slot(slots, (unsigned)__builtin_ctzll(places));

        n += atomic_load_explicit((const atomic_uint *)(const void *)(other + at),
                                  memory_order_relaxed);
    }
    return n;
}

unsigned
sl_server_active(const struct sl_server *s)
{
    unsigned n = atomic_load_explicit(s->n_active, memory_order_relaxed);

    return sl_places_others() == 0 ? n : n + sl_server_active_elsewhere(s);
}
