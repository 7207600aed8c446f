/* Idle connections to servers: kept per server and thread, last in, first out, so that the
 * few in use stay warm and the rest time out.
 *
 * An idle connection is in exactly one list.  Nothing here reads: one that becomes readable
 * has ended or misbehaves, and its protocol closes it.
 *
 * Connections that carry several attempts at a time are in the same list, idle or not, from the
 * moment they are made to their end. */
#include "upstream/exchange.h"

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

int
idle_put(struct sl_conn *c)
{
    const struct sl_pool *pool = c->server->pub.pool;

    if ((int64_t)idle_list_of(c)->n >= pool->keepalive || c->loop->is_stopping)
        return 0;
    idle_link(c);
    conn_due(c, pool->keepalive_idle_ms);
    return 1;
}

void
idle_share(struct sl_conn *c)
{
    idle_link(c);
}

struct sl_conn *
idle_with_room(struct upstream_server *s, struct sl_loop *loop)
{
    struct sl_conn *c = s->idle[loop->index].first;

    while (c != NULL && (c->upstream_protocol == NULL || c->epoch != server_epoch(s) ||
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
