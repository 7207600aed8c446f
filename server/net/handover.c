/* See handover.h. */
#include "net/handover.h"

#include "channel.h"
#include "net/listener.h"
#include "worker_threads.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAKE_TURN 256

/* What a transport knows, or a PROXY header has said, does not go over with the descriptor. */
static int
conn_is_bare(const struct sl_conn *c)
{
    return c->transport == NULL && !c->listener->conf->wants_proxy_header;
}

int
conn_may_stay(const struct sl_conn *c)
{
    struct sl_worker *w = c->loop->worker;

    return atomic_load_explicit(&w->leaving, memory_order_relaxed) == LEAVING_NOT ||
           (conn_is_bare(c) && atomic_load_explicit(&w->handover, memory_order_relaxed) >= 0);
}

/* The descriptor stays open in the other process: it has to leave this epoll set first. */
static void
conn_send_away(struct sl_conn *c, int to)
{
    const struct listen_conf *conf = c->listener->conf;
    struct message m;
    char text[64];

    message_make(&m, MSG_CONN, listener_address(conf, text, sizeof text));
    m.family = conf->family;
    m.port = conf->port;
    if (channel_send(to, &m, c->io.fd) == 0) {
        loop_unwatch(c->loop, &c->io);
        sl_conn_close(&c);
    } else if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
        atomic_store(&c->loop->worker->handover, -1); /* the other one is gone */
}

void
conn_leave(struct sl_conn *c)
{
    struct sl_worker *w = c->loop->worker;
    int leaving = atomic_load(&w->leaving), to = atomic_load(&w->handover);

    if (leaving == LEAVING_NOT)
        return;
    if (leaving == LEAVING_FOR_GOOD)
        conn_end(&c);
    else if (conn_is_bare(c) && to >= 0)
        conn_send_away(c, to);
    else if (c->loop->now_ms >= atomic_load(&w->drain_idle_until))
        conn_end(&c);
}

/* ---- taking ---- */

static struct listener *
listener_of(struct sl_worker *w, const struct message *m)
{
    unsigned i;

    for (i = 0; i < w->n_listeners; i++) {
        const struct listen_conf *conf = w->listeners[i].conf;
        char text[64];

        if (conf->family == m->family && conf->port == m->port &&
            strcmp(listener_address(conf, text, sizeof text), m->text) == 0)
            return &w->listeners[i];
    }
    return NULL;
}

static void
take_one(struct sl_loop *loop, const struct message *m, int fd)
{
    struct listener *l = listener_of(loop->worker, m);
    struct sl_sockaddr peer = {.len = sizeof peer.u};

    if (l == NULL || getpeername(fd, &peer.u.sa, &peer.len) != 0) {
        close(fd); /* nobody listens there any more, or the client has gone */
        return;
    }
    if (m->family == AF_UNIX)
        peer.len = 0;
    accept_one(loop, l, fd, &peer);
}

static void
take_ready(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct sl_worker *w = loop->worker;
    struct message m;
    int i, fd, rc;

    (void)what;
    for (i = 0; i < TAKE_TURN; i++) {
        rc = channel_receive(io->fd, &m, &fd);
        if (rc == 1) {
            if (fd >= 0) /* else it is closed: this process has no descriptor left */
                take_one(loop, &m, fd);
            continue;
        }
        if (rc < 0 && errno == EAGAIN)
            break;
        loop_unwatch(loop, io);
        close(io->fd);
        w->n_takes--;
        break;
    }
    worker_drain_look(loop); /* what came while it leaves goes on to the next */
}

void
handover_take(struct sl_worker *w, int fd)
{
    struct io *io;

    if (fd < 0)
        return;
    io = apr_pcalloc(w->pool, sizeof *io);
    io->fd = fd;
    io->on_ready = take_ready;
    w->n_takes++;
    loop_watch_listener(w->loops[0], io);
}
