/* From a server to an open connection: which of its addresses, the socket, the word that it is
 * there.  What follows is decided in exchange.c: send, another address, another server. */
#include "upstream/exchange.h"

#include "http/http1.h"
#include "net/proxy_header.h"
#include "runtime/counter.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* A server is down when none of its addresses can be reached. */
int
exchange_has_address(struct sl_exchange *ex, const struct sl_cause *cause)
{
    if (ex->a.server == NULL ||
        (cause != &sl_cause_connect_failed && cause != &sl_cause_connect_timeout))
        return 0;
    return ++ex->n_unreachable < server_n_addresses(ex->a.server);
}

/* ---- those who wait for it ---- */

static void
ex_wait(struct sl_exchange *ex, struct sl_conn *c)
{
    struct sl_exchange **last = &c->waiting;

    while (*last != NULL)
        last = &(*last)->next_waiting;
    ex->a.conn = c;
    ex->next_waiting = NULL;
    ex->is_waiting = 1;
    *last = ex;
}

void
exchange_stop_waiting(struct sl_exchange *ex, struct sl_conn *c)
{
    struct sl_exchange **at = &c->waiting;

    while (*at != ex)
        at = &(*at)->next_waiting;
    *at = ex->next_waiting;
    ex->is_waiting = 0;
    if (c->waiting == NULL && c->upstream_protocol == NULL && !c->io.is_dead)
        sl_conn_close(&c);
}

/* It came to nothing; the last of those who waited closes it. */
static void
conn_failed(struct sl_conn *c, const struct sl_cause *cause)
{
    if (c->idle_prev != NULL)
        idle_remove(c);
    while (c->waiting != NULL)
        exchange_attempt_failed(c->waiting, cause);
}

/* Open, and its transport is agreed on all there is.  Whom the protocol has no room for goes on
 * to another connection; one at least it takes. */
static void
conn_usable(struct sl_conn *c)
{
    struct sl_exchange *ex = c->waiting;
    int is_first = 1;

    sl_count(c->loop, COUNT_SERVER_CONNECTIONS, 1);
    idle_begin_life(c);
    c->upstream_protocol = ex->pool->protocol != NULL ? ex->pool->protocol : &http1_upstream;
    c->on_ready = c->upstream_protocol->ready;
    c->upstream_protocol->open(c);
    for (; (ex = c->waiting) != NULL; is_first = 0) {
        exchange_stop_waiting(ex, c);
        if (!is_first && (c->io.is_dead || !c->upstream_protocol->room(c))) {
            ex->a.conn = NULL;
            exchange_connect(ex);
            continue;
        }
        c->n_attempts += ex->shares;
        exchange_send(ex);
    }
}

static void
conn_shakes_hands(struct sl_conn *c, unsigned what)
{
    if (what & SL_TIMEOUT) {
        sl_attempt_late(&c->waiting->a);
        return;
    }
    switch (c->transport->handshake(c)) {
    case 0:
        return;
    case 1:
        conn_usable(c);
        return;
    default:
        conn_failed(c, &sl_cause_handshake_failed);
        return;
    }
}

/* For whom the connection is.  A fresh socket takes it whole. */
static int
ex_send_proxy_header(struct sl_exchange *ex, int fd)
{
    struct sl_sockaddr nobody = {.len = 0}, at = {.len = sizeof at.u};
    const struct sl_sockaddr *from = ex->r != NULL ? sl_req_client(ex->r) : NULL;
    struct sl_conn *client = ex->r != NULL ? ex->r->conn : NULL;
    char bytes[PROXY_HEADER_WRITES + 1];
    size_t n;

    if (client == NULL || getsockname(client->io.fd, &at.u.sa, &at.len) != 0 ||
        (at.u.sa.sa_family != AF_INET && at.u.sa.sa_family != AF_INET6))
        at.len = 0;
    n = proxy_header_write(bytes, ex->pool->send_proxy, from != NULL ? from : &nobody, &at);
    return send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n ? 0 : -1;
}

static void
conn_connected(struct sl_conn *c, unsigned what)
{
    struct sl_exchange *ex = c->waiting;
    int error = 0;
    socklen_t n = sizeof error;

    if (what & SL_TIMEOUT) {
        server_address_failed(c->server, ex->a.address);
        sl_attempt_late(&ex->a);
        return;
    }
    if ((c->io.ready & (SL_WRITABLE | SL_HANGUP)) == 0)
        return;
    getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &error, &n);
    if (error != 0 || (c->io.ready & SL_WRITABLE) == 0) {
        server_address_failed(c->server, ex->a.address);
        conn_failed(c, &sl_cause_connect_failed);
        return;
    }
    if (ex->pool->send_proxy != 0 && ex_send_proxy_header(ex, c->io.fd) != 0) {
        conn_failed(c, &sl_cause_connect_failed);
        return;
    }
    if (c->transport == NULL || c->transport->handshake == NULL) {
        conn_usable(c);
        return;
    }
    c->on_ready = conn_shakes_hands;
    conn_shakes_hands(c, what);
}

void
exchange_late(struct sl_loop *loop, struct sl_timer *timer)
{
    struct sl_exchange *ex =
        (struct sl_exchange *)(void *)((char *)timer - offsetof(struct sl_exchange, timer));

    (void)loop;
    if (ex->is_waiting && ex->a.conn->on_ready == conn_connected)
        server_address_failed(ex->a.server, ex->a.address);
    sl_attempt_late(&ex->a);
}

/* No fault of the server's: this process has no descriptor, memory or port left. */
static int
is_own_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
           error == EADDRNOTAVAIL;
}

int
server_socket(const struct upstream_address *to, int *is_done)
{
    int one = 1, rc, fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (to->family == AF_UNIX)
        rc = connect(fd, (const struct sockaddr *)&to->un, sizeof to->un);
    else {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        rc = connect(fd, &to->addr.u.sa, to->addr.len);
    }
    *is_done = rc == 0;
    if (rc == 0 || errno == EINPROGRESS)
        return fd;
    rc = errno;
    close(fd);
    errno = rc;
    return -1;
}

/* 1: another connects to the same server, and it waits with them. */
static int
ex_joins(struct sl_exchange *ex)
{
    struct sl_conn *c = ex->shares ? idle_connecting(ex->a.server, ex->loop) : NULL;

    if (c == NULL)
        return 0;
    ex->a.address = c->waiting->a.address;
    ex_wait(ex, c);
    exchange_goto(ex, EX_CONNECT, ex->conf->connect_ms);
    return 1;
}

void
exchange_connect(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;
    unsigned epoch = server_epoch(a->server);
    const struct upstream_address *to = server_address(a->server);
    struct sl_conn *c;
    int fd, is_done = 0;

    if (ex_joins(ex))
        return;
    if (to == NULL) {
        exchange_attempt_failed(ex, &sl_cause_unresolved);
        return;
    }
    fd = server_socket(to, &is_done);
    c = fd >= 0 ? conn_make(ex->loop, fd, 0) : NULL;
    if (c == NULL && is_own_shortage(errno)) {
        exchange_attempt_failed(ex, &sl_cause_internal);
        return;
    }
    if (c == NULL) {
        server_address_failed(a->server, to);
        exchange_attempt_failed(ex, &sl_cause_connect_failed);
        return;
    }
    ex_wait(ex, c);
    a->address = to;
    c->server = a->server;
    c->epoch = epoch;
    c->transport = ex->pool->transport;
    c->on_ready = conn_connected;
    if (ex->shares && ex->pool->send_proxy == 0)
        idle_share(c);
    if (c->transport != NULL && c->transport->open(c, 0) != 0) {
        exchange_attempt_failed(ex, &sl_cause_connect_failed);
        return;
    }
    exchange_goto(ex, EX_CONNECT, ex->conf->connect_ms);
    if (is_done) {
        c->io.ready |= SL_WRITABLE;
        conn_connected(c, SL_WRITABLE);
    }
}
