/* Connections: made, read, written, closed.  See conn.h. */
#include "net/conn.h"

#include "http/request.h"
#include "net/greeting.h"
#include "runtime/counter.h"
#include "upstream/exchange.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

static void
conn_event(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct sl_conn *c = (struct sl_conn *)io;

    (void)loop;
    SL_ASSERT(c->magic == CONN_MAGIC);
    c->on_ready(c, what);
}

static void
conn_late(struct sl_loop *loop, struct sl_timer *timer)
{
    struct sl_conn *c = (struct sl_conn *)(void *)((char *)timer - offsetof(struct sl_conn, timer));

    (void)loop;
    SL_ASSERT(c->magic == CONN_MAGIC);
    c->on_ready(c, SL_TIMEOUT);
}

struct sl_conn *
conn_make(struct sl_loop *loop, int fd, int is_client)
{
    struct sl_conn *c = slab_take(&loop->conns);
    struct sl_conn **list = is_client ? &loop->clients : &loop->upstreams;

    memset(c, 0, sizeof *c);
    c->io.fd = fd;
    c->io.on_ready = conn_event;
    c->magic = CONN_MAGIC;
    c->is_client = is_client != 0;
    c->loop = loop;
    c->out_end = &c->out;
    c->timer.fn = conn_late;
    c->timer.due = INT64_MAX;
    if (loop_watch(loop, &c->io) != 0) {
        close(fd);
        slab_give(&loop->conns, c);
        return NULL;
    }
    c->next = *list;
    c->prev = list;
    if (c->next != NULL)
        c->next->prev = &c->next;
    *list = c;
    return c;
}

void
conn_pretend(struct sl_conn *c, struct sl_loop *loop, const struct listener *listener,
             const struct sl_sockaddr *peer, const struct sl_protocol *protocol)
{
    memset(c, 0, sizeof *c);
    c->magic = CONN_MAGIC;
    c->io.fd = -1;
    c->is_client = 1;
    c->loop = loop;
    c->out_end = &c->out;
    c->timer.due = INT64_MAX;
    c->listener = (struct listener *)(uintptr_t)listener;
    c->protocol = protocol;
    c->peer = *peer;
}

void
conn_same_peer(struct sl_conn *c, struct sl_conn *as)
{
    struct sl_span text = conn_peer_text(as);

    c->peer = as->peer;
    memcpy(c->peer_text, text.at, text.n + 1);
    c->n_peer_text = (uint8_t)text.n;
    c->has_peer_text = 1;
}

struct sl_span
conn_peer_text(struct sl_conn *c)
{
    if (!c->has_peer_text) {
        const void *addr = c->peer.u.sa.sa_family == AF_INET ? (const void *)&c->peer.u.in.sin_addr
                                                             : &c->peer.u.in6.sin6_addr;

        c->has_peer_text = 1;
        if (c->peer.len == 0)
            strcpy(c->peer_text, "unix:");
        else if (c->peer.u.sa.sa_family == AF_INET6 &&
                 IN6_IS_ADDR_V4MAPPED(&c->peer.u.in6.sin6_addr))
            inet_ntop(AF_INET, &c->peer.u.in6.sin6_addr.s6_addr[12], c->peer_text,
                      sizeof c->peer_text);
        else
            inet_ntop(c->peer.u.sa.sa_family, addr, c->peer_text, sizeof c->peer_text);
        c->n_peer_text = (uint8_t)strlen(c->peer_text);
    }
    return (struct sl_span){c->peer_text, c->n_peer_text};
}

int
sl_conn_fd(const struct sl_conn *c)
{
    return c->io.fd;
}

struct sl_loop *
sl_conn_loop(const struct sl_conn *c)
{
    return c->loop;
}

struct sl_span
sl_conn_peer_text(struct sl_conn *c)
{
    return conn_peer_text(c);
}

struct sl_scope *
sl_conn_scope(const struct sl_conn *c)
{
    return c->listener->scope;
}

const char *
sl_conn_protocol_name(const struct sl_conn *c, unsigned i)
{
    const struct sl_upstream_protocol *spoken = c->is_client ? NULL : c->server->pub.pool->protocol;

    if (c->is_client)
        return i < c->listener->n_protocols ? c->listener->protocols[i]->name : NULL;
    return i > 0 ? NULL : spoken != NULL ? spoken->name : "http/1.1";
}

struct sl_server *
sl_conn_server(const struct sl_conn *c)
{
    return &c->server->pub;
}

const struct sl_transport *
sl_conn_transport(const struct sl_conn *c)
{
    return c->transport;
}

void **
sl_conn_transport_data(struct sl_conn *c)
{
    return &c->transport_data;
}

void **
sl_conn_protocol_data(struct sl_conn *c)
{
    return &c->protocol_data;
}

int
sl_conn_ends(const struct sl_conn *c)
{
    return c->ends;
}

apr_pool_t *
sl_conn_pool(struct sl_conn *c)
{
    if (c->pool == NULL)
        c->pool = loop_pool_take(c->loop);
    return c->pool;
}

/* A short count means the socket is empty, unless the peer has closed: then one reads on
 * to the end, for no further edge will come. */
ssize_t
sl_conn_raw_read(struct sl_conn *c, void *to, size_t n)
{
    ssize_t k;

    if ((c->io.ready & SL_READABLE) == 0)
        return SL_IO_AGAIN;
    do
        k = recv(c->io.fd, to, n, 0);
    while (k < 0 && errno == EINTR);
    if (k < 0) {
        c->io.ready &= (uint8_t)~SL_READABLE;
        return errno == EAGAIN ? SL_IO_AGAIN : SL_IO_ERROR;
    }
    if ((size_t)k < n && (c->io.ready & SL_HANGUP) == 0)
        c->io.ready &= (uint8_t)~SL_READABLE;
    return k;
}

static ssize_t
send_parts(int fd, const struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};

    return sendmsg(fd, &msg, MSG_NOSIGNAL);
}

ssize_t
sl_conn_raw_writev(struct sl_conn *c, const struct iovec *iov, int n)
{
    ssize_t k;

    do
        k = n == 1 ? send(c->io.fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
                   : send_parts(c->io.fd, iov, n);
    while (k < 0 && errno == EINTR);
    if (k < 0) {
        c->io.ready &= (uint8_t)~SL_WRITABLE;
        return errno == EAGAIN ? SL_IO_AGAIN : SL_IO_ERROR;
    }
    return k;
}

ssize_t
sl_conn_read(struct sl_conn *c, void *to, size_t n)
{
    return c->transport == NULL ? sl_conn_raw_read(c, to, n) : c->transport->read(c, to, n);
}

ssize_t
sl_conn_writev(struct sl_conn *c, const struct iovec *iov, int n)
{
    return c->transport == NULL ? sl_conn_raw_writev(c, iov, n)
                                : c->transport->writev(c, iov, n);
}

int
conn_can_splice(struct sl_conn *c)
{
    return c->transport == NULL || c->transport->can_splice(c);
}

static void
conn_queue_piece(struct sl_conn *c, struct sl_buf *buf, const char *at, size_t n)
{
    struct piece *p = slab_take(&c->loop->pieces);

    *p = (struct piece){NULL, buf, at, n};
    *c->out_end = p;
    c->out_end = &p->next;
}

/* Copies bytes behind what is queued, filling up the last buffer when it is ours alone. */
static void
conn_queue_copy(struct sl_conn *c, const char *at, size_t n)
{
    while (n > 0) {
        struct sl_buf *b = buf_take(c->loop, n > BUF_SMALL ? BUF_LARGE : BUF_SMALL);
        size_t k = n < buf_room(b) ? n : buf_room(b);

        memcpy(b->bytes, at, k);
        b->end = (unsigned)k;
        conn_queue_piece(c, b, b->bytes, k);
        at += k;
        n -= k;
    }
}

static void
conn_queue_data(struct sl_conn *c, struct sl_data d)
{
    if (d.n == 0)
        return;
    if (d.buf == NULL) {
        conn_queue_copy(c, d.at, d.n);
        return;
    }
    sl_buf_hold(d.buf);
    conn_queue_piece(c, d.buf, d.at, d.n);
}

static size_t
min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* What is behind the first `done` bytes waits. */
static enum sl_flow __attribute__((noinline))
conn_queue_rest(struct sl_conn *c, struct sl_span head, struct sl_data data, struct sl_span tail,
                size_t done)
{
    size_t k;

    c->ends = 0; /* what is queued may be written in parts */
    k = min_size(done, head.n);
    conn_queue_copy(c, head.at + k, head.n - k);
    done -= k;
    k = min_size(done, data.n);
    conn_queue_data(c, (struct sl_data){data.at + k, data.n - k, data.buf});
    done -= k;
    conn_queue_copy(c, tail.at + done, tail.n - done);
    /* A socket that took a part is full; a transport may just have had enough for once. */
    return c->transport == NULL ? SL_FLOW_FULL : conn_flush(c);
}

enum sl_flow
conn_send(struct sl_conn *c, struct sl_span head, struct sl_data data, struct sl_span tail)
{
    struct iovec iov[3];
    size_t done = 0;
    int n = 0;
    ssize_t wrote;

    if (c->out == NULL) {
        if (head.n > 0)
            iov[n++] = (struct iovec){(void *)(uintptr_t)head.at, head.n};
        if (data.n > 0)
            iov[n++] = (struct iovec){(void *)(uintptr_t)data.at, data.n};
        if (tail.n > 0)
            iov[n++] = (struct iovec){(void *)(uintptr_t)tail.at, tail.n};
        if (n == 0)
            return SL_FLOW_ROOM;
        wrote = sl_conn_writev(c, iov, n);
        if (wrote == SL_IO_ERROR)
            return SL_FLOW_GONE;
        if (wrote > 0)
            done = (size_t)wrote;
        if (done == head.n + data.n + tail.n)
            return SL_FLOW_ROOM;
    }
    return conn_queue_rest(c, head, data, tail, done);
}

enum sl_flow
conn_send_one(struct sl_conn *c, struct sl_span head)
{
    struct iovec iov = {(void *)(uintptr_t)head.at, head.n};
    ssize_t wrote = c->out == NULL ? sl_conn_writev(c, &iov, 1) : 0;

    if (wrote == (ssize_t)head.n)
        return SL_FLOW_ROOM;
    if (wrote == SL_IO_ERROR)
        return SL_FLOW_GONE;
    return conn_queue_rest(c, head, (struct sl_data){NULL, 0, NULL}, SL_SPAN(""),
                           wrote > 0 ? (size_t)wrote : 0);
}

static void
conn_piece_done(struct sl_conn *c)
{
    struct piece *p = c->out;

    c->out = p->next;
    if (c->out == NULL)
        c->out_end = &c->out;
    sl_buf_drop(&p->buf);
    slab_give(&c->loop->pieces, p);
}

enum sl_flow
conn_flush(struct sl_conn *c)
{
    while (c->out != NULL) {
        struct iovec iov[16];
        struct piece *p;
        int n = 0;
        ssize_t wrote;

        for (p = c->out; p != NULL && n < 16; p = p->next)
            iov[n++] = (struct iovec){(void *)(uintptr_t)p->at, p->n};
        wrote = sl_conn_writev(c, iov, n);
        if (wrote == SL_IO_ERROR)
            return SL_FLOW_GONE;
        if (wrote == SL_IO_AGAIN)
            return SL_FLOW_FULL;
        while (wrote > 0) {
            size_t k = min_size((size_t)wrote, c->out->n);

            c->out->at += k;
            c->out->n -= k;
            wrote -= (ssize_t)k;
            if (c->out->n == 0)
                conn_piece_done(c);
        }
    }
    return SL_FLOW_ROOM;
}

void
conn_shutdown(struct sl_conn *c)
{
    if (c->transport != NULL)
        c->transport->shutdown(c);
    else
        shutdown(c->io.fd, SHUT_WR);
}

/* The end of all that was to be said: a transport tells its peer, so that it is no cut. */
void
conn_end(struct sl_conn **cp)
{
    if ((*cp)->transport != NULL)
        (*cp)->transport->shutdown(*cp);
    sl_conn_close(cp);
}

int
conn_peer_state(struct sl_conn *c)
{
    /* Of TCP a hang-up is a reset; on a Unix socket it may be a goodbye behind the last bytes. */
    short reset = (short)(c->peer.len > 0 ? POLLERR | POLLHUP : POLLERR);
    struct pollfd p = {c->io.fd, 0, 0};
    char byte;
    ssize_t k;

    if ((c->io.ready & SL_HANGUP) == 0)
        return 0;
    if (poll(&p, 1, 0) > 0 && (p.revents & reset)) /* recv() gives what came before it first */
        return -1;
    k = recv(c->io.fd, &byte, 1, MSG_PEEK);
    if (k > 0)
        return 0;
    if (k == 0)
        return 1;
    return errno == EAGAIN ? 0 : -1;
}

void
sl_conn_timeout(struct sl_conn *c, int64_t ms)
{
    conn_due(c, ms);
}

void
sl_conn_again(struct sl_conn *c)
{
    loop_queue(c->loop, &c->io);
}

void
sl_conn_limits(const struct sl_conn *c, struct sl_client_terms *to)
{
    to->limit_head = (int64_t)c->listener->limits.head;
    to->limit_fields = c->listener->limits.n_fields;
}

void
sl_scope_terms(const struct sl_scope *scope, struct sl_client_terms *to)
{
    const struct core_conf *core = scope->core;

    *to = (struct sl_client_terms){
        .header_ms = core->header_ms,
        .body_ms = core->body_ms,
        .send_ms = core->send_ms,
        .keepalive_ms = core->keepalive_ms,
        .min_rate = core->min_rate,
        .keepalive_requests = core->keepalive_requests,
        .limit_head = core->limit_head,
        .limit_fields = core->limit_fields,
    };
}

/* What the protocol keeps for it goes first, while the connection is whole. */
static void
conn_forget_protocol(struct sl_conn *c)
{
    if (c->is_client)
        greeting_forget(c);
    if (c->protocol != NULL)
        c->protocol->closed(c);
    if (c->upstream_protocol != NULL)
        c->upstream_protocol->closed(c);
    if (c->is_client)
        hooks_run_conn(c, SL_HOOK_CLOSE_CONNECTION);
}

void
sl_conn_close(struct sl_conn **cp)
{
    struct sl_conn *c = *cp;
    struct sl_loop *loop = c->loop;

    *cp = NULL;
    SL_ASSERT(c->magic == CONN_MAGIC);
    if (c->idle_prev != NULL)
        idle_remove(c);
    conn_forget_protocol(c);
    c->magic = ~CONN_MAGIC;
    if (c->transport != NULL)
        c->transport->close(c);
    sl_timer_unlink(&c->timer);
    while (c->out != NULL)
        conn_piece_done(c);
    *c->prev = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    close(c->io.fd);
    c->io.fd = -1;
    if (c->is_client) {
        atomic_fetch_sub_explicit(&loop->n_conns, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&loop->worker->n_conns, 1, memory_order_relaxed);
    }
    if (c->pool != NULL)
        loop_pool_give(loop, &c->pool);
    loop_bury(loop, &c->io);
}

/* After the turn: nobody can hold an event for it any more. */
static void
conn_release(struct sl_loop *loop, struct io *io)
{
    slab_give(&loop->conns, io);
}

void
conn_thread_init(struct sl_loop *loop)
{
    loop->conns.size = slab_lines(sizeof(struct sl_conn));
    loop->pieces.size = (sizeof(struct piece) + 15) & ~(size_t)15;
    loop_on_release(loop, conn_release);
    serving_thread_init(loop);
}
