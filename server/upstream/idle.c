/* Idle connections to servers: kept per server and thread, last in, first out, so that the
 * few in use stay warm and the rest time out.
 *
 * An idle connection is in exactly one list.  Nothing here reads: one that becomes readable
 * has ended or misbehaves, and its protocol closes it.
 *
 * Connections that carry several attempts at a time are in the same list, idle or not, from the
 * moment they are made to their end. */
#include "upstream/exchange.h"

#define PEER_EARLY_MS 500 /* at least so much sooner than the peer */

static struct idle_list *
idle_list_of(struct sl_conn *c)
{
    return &c->server->idle[c->loop->index];
}

/* The first leads to an address that the server does not have any more, as may others. */
static struct sl_conn * __attribute__((noinline))
idle_take_other(struct upstream_server *s, struct sl_loop *loop)
{
    struct sl_conn *c = s->idle[loop->index].first;

    sl_conn_close(&c);
    return idle_take(s, loop);
}

struct sl_conn *
idle_take(struct upstream_server *s, struct sl_loop *loop)
{
    struct sl_conn *c = s->idle[loop->index].first;

    if (c == NULL)
        return NULL;
    if (c->epoch != server_epoch(s))
        return idle_take_other(s, loop);
    idle_remove(c);
    return c;
}

int
idle_is_quiet(struct sl_conn *c)
{
    char byte;

    c->io.ready |= SL_READABLE;
    return sl_conn_read(c, &byte, 1) == SL_IO_AGAIN;
}

void
idle_remove(struct sl_conn *c)
{
    *c->idle_prev = c->idle_next;
    if (c->idle_next != NULL)
        c->idle_next->idle_prev = c->idle_prev;
    c->idle_prev = NULL;
    c->idle_next = NULL;
    idle_list_of(c)->n--;
}

static void
idle_link(struct sl_conn *c)
{
    struct idle_list *list = idle_list_of(c);

    c->idle_next = list->first;
    c->idle_prev = &list->first;
    if (c->idle_next != NULL)
        c->idle_next->idle_prev = &c->idle_next;
    list->first = c;
    list->n++;
}

/* Up to a tenth sooner than life= says, so that those opened together do not end together. */
void
idle_begin_life(struct sl_conn *c)
{
    int64_t life_ms = c->server->pub.pool->keepalive_life_ms;
    uint64_t random;

    c->peer_keeps_ms = -1;
    if (life_ms < 0)
        return;
    sl_random_bytes(&random, sizeof random);
    c->retires_at = c->loop->now_ms + life_ms - (int64_t)(random % ((uint64_t)life_ms / 10 + 1));
}

/* Sooner than the peer closes it, which a request would meet. */
static int64_t
peer_patience_ms(int64_t ms)
{
    int64_t early = ms / 10 > PEER_EARLY_MS ? ms / 10 : PEER_EARLY_MS;

    return ms > early ? ms - early : 0;
}

/* The shorter; -1: no limit. */
static int64_t
shorter_ms(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

int64_t
idle_patience_ms(const struct sl_conn *c)
{
    const struct sl_pool *pool = c->server->pub.pool;
    int64_t ms = pool->keepalive > 0 ? pool->keepalive_idle_ms : 0, left;

    if (c->peer_keeps_ms >= 0)
        ms = shorter_ms(ms, peer_patience_ms(c->peer_keeps_ms));
    if (c->retires_at == 0)
        return ms;
    left = c->retires_at - c->loop->now_ms;
    return shorter_ms(ms, left > 0 ? left : 0);
}

int
idle_put(struct sl_conn *c)
{
    const struct sl_pool *pool = c->server->pub.pool;
    int64_t ms = idle_patience_ms(c);

    if (ms == 0 || (int64_t)idle_list_of(c)->n >= pool->keepalive || c->loop->is_stopping)
        return 0;
    idle_link(c);
    conn_due(c, ms);
    return 1;
}

void
idle_share(struct sl_conn *c)
{
    idle_link(c);
}

/* Too old for more; what is on it goes on. */
static int
is_retired(const struct sl_conn *c)
{
    return c->retires_at != 0 && c->retires_at <= c->loop->now_ms;
}

struct sl_conn *
idle_with_room(struct upstream_server *s, struct sl_loop *loop)
{
    struct sl_conn *c = s->idle[loop->index].first;

    while (c != NULL && (c->upstream_protocol == NULL || c->epoch != server_epoch(s) ||
                         is_retired(c) ||
                         !c->upstream_protocol->room(c)))
        c = c->idle_next;
    return c;
}

struct sl_conn *
idle_connecting(struct upstream_server *s, struct sl_loop *loop)
{
    struct sl_conn *c = s->idle[loop->index].first;

    while (c != NULL && (c->upstream_protocol != NULL || c->epoch != server_epoch(s)))
        c = c->idle_next;
    return c;
}
