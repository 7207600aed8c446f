/* A connection: a descriptor, the transport that moves its bytes, the protocol that reads
 * them.  Clients' and servers' are the same object, cut from the loop's slab.
 *
 * It stays small: an idle one has no buffer and no pool, and what the built-in protocols
 * keep per connection lies in `space`, in the same cache lines.  An object lives until the
 * turn it was closed in is over, so no event of the same batch finds it freed. */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "event/loop.h"
#include "net/buf.h"
#include "worker.h"

#define CONN_SPACE 112 /* bytes a built-in protocol may keep here */
#define CONN_MAGIC 0x51c0a7e3u

/* Bytes that wait to be written. */
struct piece {
    struct piece *next;
    struct sl_buf *buf; /* held */
    const char *at;
    size_t n;
};

/* In the order of use: what a request touches lies in the first lines of the cache, and what
 * protocols keep begins with one. */
struct sl_conn {
    struct io io;
    unsigned magic;
    uint8_t is_client;
    uint8_t has_peer_text;
    uint8_t n_peer_text;
    uint8_t ends; /* what is being sent is the last */
    struct sl_loop *loop;
    const struct sl_transport *transport; /* NULL: the plain socket */
    void (*on_ready)(struct sl_conn *c, unsigned what); /* the protocol's */
    struct piece *out;                                  /* not yet written */
    struct sl_timer timer;
    struct listener *listener;                            /* clients */
    struct upstream_server *server;                       /* servers */
    const struct sl_upstream_protocol *upstream_protocol; /* servers */
    struct sl_conn *idle_next, **idle_prev; /* a server's idle ones */
    int64_t retires_at;                     /* servers: ms; too old to be kept then; 0: never */
    int64_t peer_keeps_ms; /* servers: how long the peer keeps it idle; -1: it does not say */
    unsigned epoch;        /* servers: of the set its address is from */
    unsigned n_attempts;   /* servers: on one that carries several at a time */
    struct sl_exchange *waiting; /* servers: for it to open, the first is who began it */
    struct piece **out_end;
    apr_pool_t *pool;
    _Alignas(8) char space[CONN_SPACE];
    struct sl_sockaddr peer;
    char peer_text[46];
    const struct sl_protocol *protocol; /* clients */
    void *protocol_data;
    void *transport_data;
    struct sl_conn *next, **prev; /* all of the loop */
};

_Static_assert(offsetof(struct sl_conn, space) % 64 == 0, "of a line of the cache");

/* Takes the descriptor over and watches it.  NULL (descriptor closed) on failure. */
struct sl_conn *conn_make(struct sl_loop *loop, int fd, int is_client);
/* One that leads nowhere, for requests that come from nobody, zeroed and made as if it had come in
 * at `listener` from `peer`.  The caller's memory; nothing of it needs to be closed. */
void conn_pretend(struct sl_conn *c, struct sl_loop *loop, const struct listener *listener,
                  const struct sl_sockaddr *peer, const struct sl_protocol *protocol);
struct sl_span conn_peer_text(struct sl_conn *c);
/* c's peer is that of another, whose text, once made, serves both. */
void conn_same_peer(struct sl_conn *c, struct sl_conn *as);

/* Writes iov at once as far as it goes and queues the rest: `head` is copied, data held or
 * copied.  SL_FLOW_ROOM: nothing is queued.  */
enum sl_flow conn_send(struct sl_conn *c, struct sl_span head, struct sl_data data,
                       struct sl_span tail);
/* The same of one part, not empty. */
enum sl_flow conn_send_one(struct sl_conn *c, struct sl_span head);
/* Goes on with what is queued. */
enum sl_flow conn_flush(struct sl_conn *c);

static inline int
conn_is_writing(const struct sl_conn *c)
{
    return c->out != NULL;
}

/* No more will be written; the peer sees the end. */
void conn_shutdown(struct sl_conn *c);
/* Closes it when all is written, so that the peer can tell from a cut. */
void conn_end(struct sl_conn **c);
/* Bytes the transport holds, or the socket may hold: reading is worth a try. */
static inline int
conn_may_read(struct sl_conn *c)
{
    return (c->io.ready & SL_READABLE) != 0 ||
           (c->transport != NULL && c->transport->pending(c) > 0);
}
int conn_can_splice(struct sl_conn *c);

/* The peer closed or reset: 0 no, 1 it will send no more, -1 it is gone. */
int conn_peer_state(struct sl_conn *c);

static inline void
conn_due(struct sl_conn *c, int64_t ms)
{
    sl_timer_set(c->loop, &c->timer, ms < 0 ? INT64_MAX : c->loop->now_ms + ms);
}

#endif
