/* Names of hosts in one hash table: names as they are, "*.suffix" as ".suffix".
 *
 * The hash runs from a name's end to its beginning.  So one pass over a request's host has,
 * at each dot, the hash of the suffix that begins there, and at last that of the name. */
#include "route.h"

#define HASH_START 2166136261u
#define HASH_FACTOR 16777619u

struct route_hosts_slot {
    struct sl_span name; /* at NULL: free */
    uint32_t hash;
    void *value;
};

static uint32_t
hash_add(uint32_t hash, char c)
{
    return (hash ^ (unsigned char)c) * HASH_FACTOR;
}

static uint32_t
hash_name(struct sl_span name)
{
    uint32_t hash = HASH_START;
    size_t i;

    for (i = name.n; i-- > 0;)
        hash = hash_add(hash, name.at[i]);
    return hash;
}

/* The slot of a name, or the free one where it would be.  The table is never full. */
static struct route_hosts_slot *
hosts_slot(const struct route_hosts *hosts, struct sl_span name, uint32_t hash)
{
    unsigned mask = hosts->room - 1, i = (hash ^ hash >> 15) & mask;

    while (hosts->slots[i].name.at != NULL &&
           (hosts->slots[i].hash != hash || !sl_span_eq(hosts->slots[i].name, name)))
        i = (i + 1) & mask;
    return &hosts->slots[i];
}

static void
hosts_grow(apr_pool_t *pool, struct route_hosts *hosts)
{
    struct route_hosts old = *hosts;
    unsigned i;

    hosts->room = old.room == 0 ? 16 : old.room * 2;
    hosts->slots = apr_pcalloc(pool, hosts->room * sizeof(*hosts->slots));
    for (i = 0; i < old.room; i++)
        if (old.slots[i].name.at != NULL)
            *hosts_slot(hosts, old.slots[i].name, old.slots[i].hash) = old.slots[i];
}

void *
route_hosts_put(apr_pool_t *pool, struct route_hosts *hosts, struct sl_span name, void *value)
{
    struct route_hosts_slot *slot;
    uint32_t hash;
    int is_suffix = name.n > 1 && name.at[0] == '*';

    if (sl_span_eq(name, SL_SPAN("*"))) {
        void *before = hosts->any;

        hosts->any = before != NULL ? before : value;
        return before;
    }
    if (hosts->n * 2 >= hosts->room)
        hosts_grow(pool, hosts);
    if (is_suffix)
        name = route_span_from(name, 1);
    hash = hash_name(name);
    slot = hosts_slot(hosts, name, hash);
    if (slot->name.at != NULL)
        return slot->value;
    *slot = (struct route_hosts_slot){{sl_span_dup(pool, name), name.n}, hash, value};
    hosts->n++;
    hosts->n_suffixes += (unsigned)is_suffix;
    return NULL;
}

void *
route_hosts_find(const struct route_hosts *hosts, struct sl_span name, struct sl_span *by)
{
    void *found = hosts->any;
    uint32_t hash = HASH_START;
    const struct route_hosts_slot *slot;
    size_t i;

    *by = SL_SPAN("*");
    if (name.n > 0 && name.at[name.n - 1] == '.') /* RFC 1034, 3.1: the root, written out */
        name.n--;
    if (hosts->n == 0 || name.n == 0)
        return found;
    for (i = name.n - 1; i > 0; i--) {
        hash = hash_add(hash, name.at[i]);
        if (name.at[i] != '.' || hosts->n_suffixes == 0)
            continue;
        slot = hosts_slot(hosts, route_span_from(name, i), hash);
        if (slot->name.at != NULL) {
            found = slot->value; /* longer than the one before */
            *by = slot->name;
        }
    }
    slot = hosts_slot(hosts, name, hash_add(hash, name.at[0]));
    if (slot->name.at == NULL || name.at[0] == '.')
        return found;
    *by = slot->name;
    return slot->value;
}
