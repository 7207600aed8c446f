/* Pools and their servers: made while the configuration is read, immutable afterwards but
 * for counts, addresses and idle connections.
 *
 * All pools are in one list, since one process has one configuration: what must be done
 * to every server (idle lists, look-ups) finds them there.  A pool leaves the list with the
 * memory it was made of. */

#include "upstream/seats.h"

#include <apr_strings.h>

#define KEEPALIVE_DEFAULT 256
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

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    for (i = 0; i < p->pool.n_servers; i++)
        server_forget_name(upstream_server(p->pool.servers[i]));
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

static struct upstream_server *
server_make(apr_pool_t *pool, struct sl_pool *p, const char *name, const char *address)
{
    struct upstream_server *s = aligned_calloc(pool, sizeof(*s));

    s->pub.address = apr_pstrdup(pool, address);
    s->pub.name = name != NULL ? apr_pstrdup(pool, name) : s->pub.address;
    s->pub.pool = p;
    s->pub.weight = s->pub.configured_weight = 1;
    s->pub.n_active = &s->own_active;
    s->pub.state = &s->own_state;
    pool_append(pool, (struct upstream_pool *)p, &s->pub);
    return s;
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
    s = server_make(pool, p, name, address);
    s->port = parts.port;
    if (parts.is_name) {
        s->host = apr_pstrdup(pool, parts.host);
        server_watch_name(pool, s);
    } else {
        atomic_init(&s->addresses, address_set_fixed(pool, &parts.address));
    }
    return &s->pub;
}

/* ---- seats ---- */

/* "_http._tcp.app.test" -> "app.test": the host that is meant, for Host and certificates (RFC
 * 2782: the targets are the name server's word). */
static const char *
service_host(const char *name)
{
    while (name[0] == '_' && strchr(name, '.') != NULL)
        name = strchr(name, '.') + 1;
    return name;
}

/* What the target of a line says: a phrase, or the host, and the address its servers show. */
static const char *
target_parse(apr_pool_t *pool, const struct sl_seats *seats, struct address_parts *parts,
             const char **address)
{
    int is_service = strncmp(seats->target, "srv:", 4) == 0;
    const char *err = address_parse(seats->target + (is_service ? 4 : 0),
                                    is_service ? 1 : seats->default_port, parts);

    if (err != NULL)
        return err;
    if (!parts->is_name)
        return "expected a name: an address has nothing to resolve";
    if (is_service && (parts->host[0] != '_' || strstr(parts->host, "._") == NULL))
        return "expected a name of SRV records, such as _http._tcp.example.com";
    if (is_service && parts->port != 1)
        return "expected no port: SRV records have their own";
    *address = is_service ? apr_pstrdup(pool, service_host(parts->host)) : seats->target;
    return NULL;
}

static struct seat_line *
seat_line_make(apr_pool_t *pool, const struct sl_pool *p, const struct sl_seats *seats)
{
    struct seat_line *line = apr_pcalloc(pool, sizeof(*line));

    line->name = seats->name != NULL ? apr_pstrdup(pool, seats->name) : NULL;
    line->target = seats->target != NULL ? apr_pstrdup(pool, seats->target) : NULL;
    line->is_service = line->target != NULL && strncmp(line->target, "srv:", 4) == 0;
    line->first = p->n_servers;
    line->n = seats->n;
    return line;
}

static const char *
seat_first_name(apr_pool_t *pool, const struct seat_line *line, unsigned i)
{
    const char *name = line->name != NULL ? line->name : line->target != NULL ? line->target : "";

    return i == 0 && line->target != NULL ? name : apr_psprintf(pool, "%s#%u", name, i);
}

struct sl_server *
sl_pool_add_seats(apr_pool_t *pool, struct sl_pool *p, const struct sl_seats *seats,
                  const char **err)
{
    struct seat_line *line = seat_line_make(pool, p, seats);
    struct address_parts parts;
    struct upstream_server *s;
    const char *address = "";
    unsigned i;

    *err = line->target != NULL ? target_parse(pool, seats, &parts, &address) : NULL;
    if (*err == NULL && line->name != NULL && strlen(line->name) > SEAT_NAME_OF_LINE)
        *err = "expected a name of at most 40 letters, for addresses are added to it";
    if (*err != NULL)
        return NULL;
    for (i = 0; i < line->n; i++) {
        s = server_make(pool, p, seat_first_name(pool, line, i), address);
        s->line = line;
        s->record = apr_pcalloc(pool, sizeof(*s->record));
        s->pub.flags = SL_SERVER_SEAT | (i == 0 && line->target != NULL ? 0 : SL_SERVER_GONE);
        if (i > 0 || line->target == NULL)
            continue;
        s->host = apr_pstrdup(pool, parts.host);
        s->port = parts.port;
        server_watch_name(pool, s);
    }
    return p->servers[line->first];
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
server_n_addresses(const struct upstream_server *s)
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
