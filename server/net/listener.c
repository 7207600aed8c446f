/* Listening sockets and accepting.
 *
 * Level-triggered and shared by all threads: whoever is woken takes at most 16, so that
 * others get their part.  How many are tried follows what came of late, since an accept that
 * finds nobody costs nearly as much as one that does; who is left waits for the next turn.
 * When descriptors run out, or MaxConnections is reached, accepting pauses: clients wait in
 * the backlog instead of being reset. */
#include "net/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ACCEPT_TURN 16
#define FULL_TURNS 4 /* before more are tried */
#define PAUSE_MS 100

/* A socket file nobody answers on is left over from a crash. */
static int
unix_is_stale(const struct sockaddr_un *un)
{
    struct stat st;
    int fd, rc;

    if (lstat(un->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return 0;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return 0;
    rc = connect(fd, (const struct sockaddr *)un, sizeof *un);
    close(fd);
    return rc != 0 && errno == ECONNREFUSED;
}

static int
bind_unix(int fd, const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    mode_t mask;
    int rc;

    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    if (unix_is_stale(&un))
        unlink(un.sun_path);
    mask = umask(0111); /* 0666 from the beginning: a chmod() could be led elsewhere */
    rc = bind(fd, (struct sockaddr *)&un, sizeof un);
    umask(mask);
    return rc;
}

static int
bind_inet(int fd, int family, const char *address, int port)
{
    struct sl_sockaddr a = {.len = sizeof a.u.in6};
    int one = 1, off = 0;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* inherited by what it accepts */
    if (family == AF_INET) {
        a.u.in.sin_family = AF_INET;
        a.u.in.sin_port = htons((uint16_t)port);
        a.len = sizeof a.u.in;
        inet_pton(AF_INET, address, &a.u.in.sin_addr);
    } else {
        a.u.in6.sin6_family = AF_INET6;
        a.u.in6.sin6_port = htons((uint16_t)port);
        inet_pton(AF_INET6, address, &a.u.in6.sin6_addr);
        if (strcmp(address, "::") == 0)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        else
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    }
    return bind(fd, &a.u.sa, a.len);
}

int
listener_open(int family, const char *address, int port, int backlog, char *why, size_t n)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;

    if (fd < 0 && family == AF_INET6 && strcmp(address, "::") == 0) /* a host without IPv6 */
        return listener_open(AF_INET, "0.0.0.0", port, backlog, why, n);
    rc = fd < 0 ? -1 : family == AF_UNIX ? bind_unix(fd, address)
                                         : bind_inet(fd, family, address, port);
    if (rc == 0 && listen(fd, backlog) == 0)
        return fd;
    snprintf(why, n, "%s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

void
listener_defer(const struct listener *l)
{
    int seconds = 1;
    unsigned i;

    for (i = 0; i < l->n_protocols; i++)
        if (l->protocols[i]->sniff == NULL)
            seconds = 0;
    if (l->conf->family != AF_UNIX)
        setsockopt(l->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
}

const char *
listener_address(const struct listen_conf *l, char *to, size_t n)
{
    if (l->family == AF_UNIX)
        return l->path;
    return inet_ntop(l->family, l->family == AF_INET ? (const void *)&l->addr.u.in.sin_addr
                                                     : &l->addr.u.in6.sin6_addr,
                     to, (socklen_t)n);
}

/* ---- accepting ---- */

struct handed {
    struct sl_mail mail;
    struct listener *listener;
    int fd;
    struct sl_sockaddr peer;
};

static void
handed_arrives(struct sl_loop *loop, struct sl_mail *mail)
{
    struct handed *h = (struct handed *)mail;

    atomic_fetch_sub_explicit(&loop->n_conns, 1, memory_order_relaxed);
    conn_accepted(loop, h->listener, h->fd, &h->peer);
    free(h);
}

/* The thread with clearly fewer connections, else this one. */
static struct sl_loop *
loop_less_busy(struct sl_loop *loop)
{
    const struct sl_worker *w = loop->worker;
    int mine = atomic_load_explicit(&loop->n_conns, memory_order_relaxed), least = mine;
    struct sl_loop *best = loop;
    unsigned i;

    for (i = 0; i < w->n_threads; i++) {
        int n = atomic_load_explicit(&w->loops[i]->n_conns, memory_order_relaxed);

        if (n < least) {
            least = n;
            best = w->loops[i];
        }
    }
    return mine - least > 8 + mine / 8 ? best : loop;
}

void
accept_one(struct sl_loop *loop, struct listener *l, int fd, const struct sl_sockaddr *peer)
{
    struct sl_worker *w = loop->worker;
    int is_leaving = atomic_load_explicit(&w->leaving, memory_order_relaxed) != LEAVING_NOT;
    struct sl_loop *to = w->n_threads > 1 && !is_leaving ? loop_less_busy(loop) : loop;
    struct handed *h;

    if (to == loop || (h = malloc(sizeof *h)) == NULL) {
        conn_accepted(loop, l, fd, peer);
        return;
    }
    *h = (struct handed){{NULL, handed_arrives}, l, fd, *peer};
    atomic_fetch_add_explicit(&to->n_conns, 1, memory_order_relaxed); /* on its way counts */
    sl_loop_post(to, &h->mail);
}

static void
acceptor_pause(struct sl_loop *loop, struct acceptor *a, int64_t ms)
{
    if (!a->is_paused)
        loop_unwatch(loop, &a->io);
    a->is_paused = 1;
    sl_timer_set(loop, &a->timer, loop->now_ms + ms);
}

static int
is_full(const struct sl_worker *w)
{
    return w->max_conns > 0 &&
           atomic_load_explicit(&w->n_conns, memory_order_relaxed) >= w->max_conns;
}

static void
acceptor_resume(struct sl_loop *loop, struct sl_timer *timer)
{
    struct acceptor *a = (struct acceptor *)(void *)((char *)timer -
                                                     offsetof(struct acceptor, timer));

    if (a->is_stopped)
        return;
    if (is_full(loop->worker)) {
        sl_timer_set(loop, &a->timer, loop->now_ms + PAUSE_MS);
        return;
    }
    a->is_paused = 0;
    loop_watch_listener(loop, &a->io);
}

static void
accept_failed(struct sl_loop *loop, struct acceptor *a, int error)
{
    static atomic_llong said_ms;
    long long last = atomic_load(&said_ms);

    if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
        return;
    if (loop->now_ms - last > 10000 && atomic_compare_exchange_strong(&said_ms, &last, loop->now_ms))
        sl_log(SL_WARN, "SL0210", "Listen %s: %s; accepting pauses, clients wait",
               a->listener->conf->text, strerror(error));
    acceptor_pause(loop, a, PAUSE_MS);
}

static void
acceptor_learn(struct acceptor *a, unsigned n_taken)
{
    if (n_taken < a->batch) {
        a->batch = (uint8_t)(n_taken > 0 ? n_taken : 1);
        a->n_full = 0;
    } else if (++a->n_full == FULL_TURNS) {
        a->batch = (uint8_t)(a->batch < ACCEPT_TURN ? 2 * a->batch : ACCEPT_TURN);
        a->n_full = 0;
    }
}

static void
acceptor_ready(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct acceptor *a = (struct acceptor *)io;
    unsigned i;
    int fd;

    (void)what;
    for (i = 0; i < a->batch; i++) {
        struct sl_sockaddr peer = {.len = sizeof peer.u};

        if (is_full(loop->worker)) {
            acceptor_pause(loop, a, PAUSE_MS);
            return;
        }
        fd = accept4(io->fd, &peer.u.sa, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                accept_failed(loop, a, errno);
            break;
        }
        if (a->listener->conf->family == AF_UNIX)
            peer.len = 0;
        accept_one(loop, a->listener, fd, &peer);
    }
    acceptor_learn(a, i);
}

void
acceptor_start(struct sl_loop *loop, struct acceptor *a, struct listener *l)
{
    a->listener = l;
    a->is_stopped = a->is_paused = 0;
    a->batch = 1;
    a->n_full = 0;
    a->io.fd = l->fd;
    a->io.on_ready = acceptor_ready;
    a->timer.fn = acceptor_resume;
    loop_watch_listener(loop, &a->io);
}

void
acceptor_stop(struct sl_loop *loop, struct acceptor *a)
{
    if (a->is_stopped)
        return;
    a->is_stopped = 1;
    if (!a->is_paused)
        loop_unwatch(loop, &a->io);
    sl_timer_unlink(&a->timer);
}
