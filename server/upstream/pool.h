/* What the core keeps of pools and servers behind the public structs: addresses, idle
 * connections per thread, and the list of all pools.
 *
 * Pools and servers are made while the configuration is read and live as long as it does.
 * A server's addresses are an immutable set that any thread may read; a look-up replaces
 * the whole set, and the old one lives on for ten minutes, longer than any turn of a loop.
 * Its idle connections are one list a thread, touched by that thread alone. */
#ifndef UPSTREAM_POOL_H
#define UPSTREAM_POOL_H

#include "sluice/upstream.h"
#include "upstream/address.h"

#include <stdatomic.h>

#define POOL_CACHE_LINE 64

struct address_set {
    struct address_set *next; /* of the retired ones */
    int64_t retired_at;       /* ms, monotonic */
    unsigned n;               /* 1 or more */
    const char *name, *address; /* a seat's: behind the rest; else NULL */
    struct upstream_address at[];
};

/* Idle connections of one server on one thread, linked by sl_conn.idle_next and idle_prev.
 * The exchange code keeps both members right. */
struct idle_list {
    _Alignas(POOL_CACHE_LINE) struct sl_conn *first; /* the one used last */
    unsigned n;
};

struct upstream_server {
    struct sl_server pub; /* first: a struct sl_server * is one of these */
    atomic_uint own_active;           /* where pub points unless servers_share() finds a place */
    unsigned number;                  /* in the zone, with a place there */
    struct sl_server_state own_state;
    _Atomic(struct address_set *) addresses; /* NULL: not resolved yet */
    atomic_uint epoch;                       /* of the set: connections of another are not kept */
    struct address_set *retired;             /* resolve.c's: sets that were, newest first */
    atomic_uint first;                       /* the address that worked last */
    struct idle_list *idle;                  /* by loop index; NULL before pools_threads_init() */
    const char *host;                        /* a name to look up; NULL: a fixed address */
    int port;
    struct lookup *lookup; /* resolve.c's; NULL: a fixed address */
    struct seat_line *line; /* seats.c's; NULL: no seat */
    struct seat_record *record; /* a seat's: in the zone, or its own */
    uint64_t seen;              /* the version of the record that holds here */
};

struct upstream_pool {
    struct sl_pool pool; /* first */
    struct upstream_pool *next; /* of all pools */
    unsigned n_room;
    const char *direct_key; /* ProxyPass http://HOST: shared by all targets of this key */
};

static inline struct upstream_server *
upstream_server(struct sl_server *server)
{
    return (struct upstream_server *)server;
}

static inline struct idle_list *
server_idle(struct upstream_server *s, unsigned loop_index)
{
    return &s->idle[loop_index];
}

/* Read before the address is: a connection of another epoch may lead elsewhere. */
static inline unsigned
server_epoch(const struct upstream_server *s)
{
    return atomic_load_explicit(&s->epoch, memory_order_acquire);
}

/* The address to connect to: the one that worked last.  NULL: the name has no address yet.
 * Any thread. */
const struct upstream_address *server_address(struct upstream_server *s);
unsigned server_n_addresses(const struct upstream_server *s);
/* No connection came about: others begin with the next address. */
void server_address_failed(struct upstream_server *s, const struct upstream_address *a);

/* A socket that connects to the address: *is_done, it has.  -1 with errno. */
int server_socket(const struct upstream_address *to, int *is_done);

/* The list of all pools; NULL at its end. */
struct upstream_pool *pools_first(void);

/* A pool of one server, shared by all who ask with the same scheme and address.  NULL and
 * a phrase in *err. */
struct sl_pool *pool_direct(apr_pool_t *pool, const struct sl_scheme *scheme,
                            const char *address, const char **err);

/* Once the number of threads is known and before requests run: makes the idle lists. */
void pools_threads_init(apr_pool_t *pool, unsigned n_threads);

/* Before the loops run: asks for every name, and waits for the answers, but not longer than
 * timeout_ms; what comes later still counts.  From then on addresses are kept fresh on `loop`. */
void pools_resolve(struct sl_loop *loop, int timeout_ms);

/* Between pool.c, resolve.c and seats.c. */
void server_watch_name(apr_pool_t *pool, struct upstream_server *s);
void server_forget_name(struct upstream_server *s);
/* Takes the set over; publish: unless it is the same but for the order. */
void set_publish(struct upstream_server *s, struct address_set *set);
void set_replace(struct upstream_server *s, struct address_set *set);

#endif
