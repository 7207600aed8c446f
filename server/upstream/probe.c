/* Connections that carry no exchange: a module opens one to see how a server fares.  From the
 * socket to the word that it is open, or is not, as connect.c does for exchanges. */
#include "net/proxy_header.h"
#include "upstream/exchange.h"

#include <errno.h>

/* In the connection's space until it is open. */
struct probe {
    void (*ready)(struct sl_conn *c, unsigned what);
    int send_proxy; /* as in struct sl_pool */
};

_Static_assert(sizeof(struct probe) <= CONN_SPACE, "kept in the connection");

static struct probe *
probe_of(struct sl_conn *c)
{
    return (struct probe *)(void *)c->space;
}

/* For nobody but the server itself.  A fresh socket takes it whole. */
static int
send_proxy_header(struct sl_conn *c)
{
    const struct sl_sockaddr nobody = {.len = 0};
    char bytes[PROXY_HEADER_WRITES + 1];
    size_t n = proxy_header_write(bytes, probe_of(c)->send_proxy, &nobody, &nobody);

    return send(c->io.fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n ? 0 : -1;
}

/* The last of the core's part, whatever came of it. */
static void
probe_tell(struct sl_conn *c, unsigned what)
{
    c->on_ready = probe_of(c)->ready;
    c->on_ready(c, what);
}

static void
probe_shakes_hands(struct sl_conn *c, unsigned what)
{
    int rc = what & SL_TIMEOUT ? 0 : c->transport->handshake(c);

    if (what & SL_TIMEOUT)
        probe_tell(c, SL_TIMEOUT);
    else if (rc != 0)
        probe_tell(c, rc == 1 ? SL_WRITABLE : SL_HANGUP);
}

static void
probe_connected(struct sl_conn *c, unsigned what)
{
    int error = 0;
    socklen_t n = sizeof error;

    if (what & SL_TIMEOUT) {
        probe_tell(c, SL_TIMEOUT);
        return;
    }
    if ((c->io.ready & (SL_WRITABLE | SL_HANGUP)) == 0)
        return;
    getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &error, &n);
    if (error != 0 || (c->io.ready & SL_WRITABLE) == 0 ||
        (probe_of(c)->send_proxy != 0 && send_proxy_header(c) != 0)) {
        probe_tell(c, SL_HANGUP);
        return;
    }
    if (c->transport == NULL || c->transport->handshake == NULL) {
        probe_tell(c, SL_WRITABLE);
        return;
    }
    c->on_ready = probe_shakes_hands;
    probe_shakes_hands(c, what);
}

/* The server's address, with another port if one is asked for. */
static int
probe_address(struct upstream_server *s, int port, struct upstream_address *to)
{
    const struct upstream_address *at = server_address(s);

    if (at == NULL)
        return -1;
    *to = *at;
    if (port > 0 && to->family == AF_INET)
        to->addr.u.in.sin_port = htons((uint16_t)port);
    if (port > 0 && to->family == AF_INET6)
        to->addr.u.in6.sin6_port = htons((uint16_t)port);
    return 0;
}

/* As soon as it closes, nothing is left of it: thousands of checks leave no TIME_WAIT behind. */
static void
leave_nothing(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

struct sl_conn *
sl_server_open(struct sl_loop *loop, struct sl_server *server, int port,
               void (*ready)(struct sl_conn *c, unsigned what), void *data, const char **why)
{
    struct upstream_server *s = upstream_server(server);
    struct upstream_address to;
    struct sl_conn *c;
    int fd, is_done = 0;

    *why = "its name has no address yet";
    if (probe_address(s, port, &to) != 0)
        return NULL;
    fd = server_socket(&to, &is_done);
    *why = fd < 0 && (errno == ECONNREFUSED || errno == ENOENT) ? "connection refused"
                                                                : "no connection can be made";
    c = fd >= 0 ? conn_make(loop, fd, 0) : NULL;
    if (c == NULL)
        return NULL;
    leave_nothing(fd);
    c->server = s;
    c->transport = server->pool->transport;
    c->protocol_data = data;
    c->on_ready = probe_connected;
    probe_of(c)->ready = ready;
    probe_of(c)->send_proxy = port == 0 ? server->pool->send_proxy : 0;
    if (c->transport != NULL && c->transport->open(c, 0) != 0) {
        *why = "its transport does not begin";
        sl_conn_close(&c);
        return NULL;
    }
    if (is_done) /* told in the next turn: the caller has not seen the connection yet */
        c->io.ready |= SL_WRITABLE;
    if (is_done)
        loop_queue(loop, &c->io);
    return c;
}
