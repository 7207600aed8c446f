/* Pools and their servers: made while the configuration is read, immutable afterwards but
 * for counts, addresses and idle connections.
 *
 * All pools are in one list, since one process has one configuration: what must be done
 * to every server (idle lists, look-ups) finds them there.  A pool leaves the list with the
 * memory it was made of. */

#include "upstream/pool.h"

#include <apr_strings.h>

#define KEEPALIVE_DEFAULT 64
#define KEEPALIVE_IDLE_MS 60000

static struct upstream_pool *all_pools;

struct upstream_pool *
pools_first(void)
{
    return all_pools;
}

struct sl_pool *
sl_pool_next(const struct sl_pool *after)
{
    const struct upstream_pool *p = (const struct upstream_pool *)(const void *)after;
    struct upstream_pool *next = p != NULL ? p->next : all_pools;

    return next != NULL ? &next->pool : NULL;
}

static apr_status_t
pool_forget(void *data)
{
    struct upstream_pool *p = data;
    struct upstream_pool **at = &all_pools;
    unsigned i;

    pools_lock();
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    for (i = 0; i < p->pool.n_servers; i++)
        server_forget_name(upstream_server(p->pool.servers[i]));
    pools_unlock();
    return APR_SUCCESS;
}

/* Memory that begins a cache line: what one thread writes is not what another reads. */
static void *
aligned_calloc(apr_pool_t *pool, size_t size)
{
    uintptr_t at = (uintptr_t)apr_pcalloc(pool, size + POOL_CACHE_LINE - 1);

    return (void *)((at + POOL_CACHE_LINE - 1) & ~(uintptr_t)(POOL_CACHE_LINE - 1));
}

struct sl_pool *
sl_pool_make(apr_pool_t *pool, const char *name)
{
    struct upstream_pool *p = apr_pcalloc(pool, sizeof(*p));

    p->pool.name = apr_pstrdup(pool, name);
    p->pool.keepalive = KEEPALIVE_DEFAULT;
    p->pool.keepalive_idle_ms = KEEPALIVE_IDLE_MS;
    p->pool.keepalive_life_ms = -1;
    p->next = all_pools;
    all_pools = p;
    apr_pool_cleanup_register(pool, p, pool_forget, apr_pool_cleanup_null);
    return &p->pool;
}

/* The array doubles; the one it outgrew stays in the pool, as configuration time may. */
static void
pool_append(apr_pool_t *pool, struct upstream_pool *p, struct sl_server *server)
{
    struct sl_server **servers;

    if (p->pool.n_servers == p->n_room) {
        p->n_room = p->n_room == 0 ? 4 : 2 * p->n_room;
        servers = apr_pcalloc(pool, p->n_room * sizeof(struct sl_server *));
        if (p->pool.n_servers > 0)
            memcpy(servers, p->pool.servers, p->pool.n_servers * sizeof(struct sl_server *));
        p->pool.servers = servers;
    }
    server->index = p->pool.n_servers;
    p->pool.servers[p->pool.n_servers++] = server;
}

static struct address_set *
address_set_fixed(apr_pool_t *pool, const struct upstream_address *a)
{
    struct address_set *set = apr_pcalloc(pool, sizeof(*set) + sizeof(set->at[0]));

    set->n = 1;
    set->at[0] = *a;
    return set;
}

struct sl_server *
sl_pool_add(apr_pool_t *pool, struct sl_pool *p, const char *name, const char *address,
            int default_port, const char **err)
{
    struct address_parts parts;
    struct upstream_server *s;

    *err = address_parse(address, default_port, &parts);
    if (*err != NULL)
        return NULL;
    s = aligned_calloc(pool, sizeof(*s));
    s->pub.address = apr_pstrdup(pool, address);
    s->pub.name = name != NULL ? apr_pstrdup(pool, name) : s->pub.address;
    s->pub.pool = p;
    s->pub.weight = s->pub.configured_weight = 1;
    s->pub.n_active = &s->own_active;
    s->pub.state = &s->own_state;
    s->port = parts.port;
    if (parts.is_name) {
        s->host = apr_pstrdup(pool, parts.host);
        server_watch_name(pool, s);
    } else {
        atomic_init(&s->addresses, address_set_fixed(pool, &parts.address));
    }
    pool_append(pool, (struct upstream_pool *)p, &s->pub);
    return &s->pub;
}

/* The same server whatever the case of its name and whether its default port is written. */
static const char *
direct_key(apr_pool_t *pool, const struct sl_scheme *scheme, const char *address,
           const char **err)
{
    struct address_parts parts;

    *err = address_parse(address, scheme->default_port, &parts);
    if (*err != NULL)
        return NULL;
    if (parts.port == 0)
        return apr_pstrdup(pool, address);
    return apr_psprintf(pool, "%s://%s:%d", scheme->name, parts.host, parts.port);
}

struct sl_pool *
pool_direct(apr_pool_t *pool, const struct sl_scheme *scheme, const char *address,
            const char **err)
{
    struct upstream_pool *p;
    struct sl_pool *made;
    const char *key = direct_key(pool, scheme, address, err);

    if (key == NULL)
        return NULL;
    for (p = all_pools; p != NULL; p = p->next)
        if (p->direct_key != NULL && strcmp(p->direct_key, key) == 0)
            return &p->pool;
    made = sl_pool_make(pool, address);
    made->protocol = scheme->protocol;
    made->transport = scheme->transport;
    ((struct upstream_pool *)made)->direct_key = key;
    sl_pool_add(pool, made, NULL, address, scheme->default_port, err);
    return made;
}

void
pools_threads_init(apr_pool_t *pool, unsigned n_threads)
{
    struct upstream_pool *p;
    unsigned i;

    for (p = all_pools; p != NULL; p = p->next)
        for (i = 0; i < p->pool.n_servers; i++)
            upstream_server(p->pool.servers[i])->idle =
                aligned_calloc(pool, n_threads * sizeof(struct idle_list));
}

const struct upstream_address *
server_address(struct upstream_server *s)
{
    const struct address_set *set = atomic_load_explicit(&s->addresses, memory_order_acquire);
    unsigned first = atomic_load_explicit(&s->first, memory_order_relaxed);

    return set != NULL ? &set->at[first % set->n] : NULL;
}

unsigned
server_n_addresses(struct upstream_server *s)
{
    const struct address_set *set = atomic_load_explicit(&s->addresses, memory_order_acquire);

    return set != NULL ? set->n : 0;
}

void
server_address_failed(struct upstream_server *s, const struct upstream_address *a)
{
    const struct address_set *set = atomic_load_explicit(&s->addresses, memory_order_acquire);
    unsigned first = atomic_load_explicit(&s->first, memory_order_relaxed);

    if (set != NULL && a == &set->at[first % set->n])
        atomic_compare_exchange_strong_explicit(&s->first, &first, (first + 1) % set->n,
                                                memory_order_relaxed, memory_order_relaxed);
}
