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

/* Open, and its transport is agreed on all there is. */
static void
ex_usable(struct sl_conn *c)
{
    struct sl_exchange *ex = c->protocol_data;

    sl_count(ex->loop, COUNT_SERVER_CONNECTIONS, 1);
    c->protocol_data = NULL;
    c->upstream_protocol = ex->pool->protocol != NULL ? ex->pool->protocol : &http1_upstream;
    c->on_ready = c->upstream_protocol->ready;
    c->upstream_protocol->open(c);
    exchange_send(ex);
}

static void
ex_shakes_hands(struct sl_conn *c, unsigned what)
{
    struct sl_exchange *ex = c->protocol_data;

    if (what & SL_TIMEOUT) {
        sl_attempt_late(&ex->a);
        return;
    }
    switch (c->transport->handshake(c)) {
    case 0:
        return;
    case 1:
        ex_usable(c);
        return;
    default:
        exchange_attempt_failed(ex, &sl_cause_handshake_failed);
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
ex_connected(struct sl_conn *c, unsigned what)
{
    struct sl_exchange *ex = c->protocol_data;
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
        exchange_attempt_failed(ex, &sl_cause_connect_failed);
        return;
    }
    if (ex->pool->send_proxy != 0 && ex_send_proxy_header(ex, c->io.fd) != 0) {
        exchange_attempt_failed(ex, &sl_cause_connect_failed);
        return;
    }
    if (c->transport == NULL || c->transport->handshake == NULL) {
        ex_usable(c);
        return;
    }
    c->on_ready = ex_shakes_hands;
    ex_shakes_hands(c, what);
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

void
exchange_connect(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;
    const struct upstream_address *to = server_address(a->server);
    struct sl_conn *c;
    int fd, is_done = 0;

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
    a->conn = c;
    a->address = to;
    c->server = a->server;
    c->transport = ex->pool->transport;
    c->protocol_data = ex;
    c->on_ready = ex_connected;
    if (c->transport != NULL && c->transport->open(c, 0) != 0) {
        exchange_attempt_failed(ex, &sl_cause_connect_failed);
        return;
    }
    exchange_goto(ex, EX_CONNECT, ex->conf->connect_ms);
    if (is_done) {
        c->io.ready |= SL_WRITABLE;
        ex_connected(c, SL_WRITABLE);
    }
}
