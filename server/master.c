/* Master: small and privileged, loads no module, reads no configuration.
 *
 * It opens what the worker asks for and keeps it: when a worker dies, the next one gets the
 * same descriptors, and clients have waited in the backlog meanwhile.  One thread, one
 * poll(): the signals and the channel. */
#include "master.h"

#include "channel.h"
#include "net/listener.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LISTENERS_MAX 256
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000
#define CALM_MS 10000 /* a worker that lived this long crashed by chance */

struct kept_listener {
    int family, port, fd;
    char address[108];
};

struct master {
    char **argv;
    int n_argv;
    pid_t worker;
    int channel;
    int signals;
    int is_ready;    /* a worker has served once */
    int is_stopping;
    int64_t stop_ms;
    int64_t started_at; /* ms: the worker's start */
    int64_t start_at;   /* ms: when the next one is due; 0: not */
    int64_t kill_at;    /* ms: when patience ends; 0: never */
    int backoff_ms;
    char pid_file[CHANNEL_TEXT];
    struct kept_listener listeners[LISTENERS_MAX];
    int n_listeners;
};

static int64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- listeners ---- */

static struct kept_listener *
listener_find(struct master *ma, const struct message *m)
{
    int i;

    for (i = 0; i < ma->n_listeners; i++) {
        struct kept_listener *l = &ma->listeners[i];

        if (l->family == m->family && l->port == m->port && strcmp(l->address, m->text) == 0)
            return l;
    }
    return NULL;
}

static struct kept_listener *
listener_add(struct master *ma, const struct message *m, char *why, size_t n)
{
    struct kept_listener *l = &ma->listeners[ma->n_listeners];

    if (ma->n_listeners == LISTENERS_MAX || m->n_text >= sizeof l->address) {
        snprintf(why, n, "too many listeners, or too long an address");
        return NULL;
    }
    l->fd = listener_open(m->family, m->text, m->port, m->backlog, why, n);
    if (l->fd < 0)
        return NULL;
    l->family = m->family;
    l->port = m->port;
    memcpy(l->address, m->text, m->n_text + 1);
    ma->n_listeners++;
    return l;
}

static void
listener_answer(struct master *ma, const struct message *asked)
{
    char why[256] = "";
    struct kept_listener *l = listener_find(ma, asked);
    struct message m;

    if (l == NULL)
        l = listener_add(ma, asked, why, sizeof why);
    message_make(&m, MSG_LISTENER, l == NULL ? why : NULL);
    channel_send(ma->channel, &m, l != NULL ? l->fd : -1);
}

static void
listeners_close(struct master *ma)
{
    int i;

    for (i = 0; i < ma->n_listeners; i++) {
        close(ma->listeners[i].fd);
        if (ma->listeners[i].family == AF_UNIX)
            unlink(ma->listeners[i].address);
    }
}

/* ---- the worker ---- */

static void
pid_file_write(const struct master *ma)
{
    FILE *f;

    if (ma->pid_file[0] == '\0')
        return;
    f = fopen(ma->pid_file, "we");
    if (f == NULL) {
        sl_log(SL_ERROR, "SL0240", "PidFile %s: %s", ma->pid_file, strerror(errno));
        return;
    }
    fprintf(f, "%d\n", (int)getpid());
    fclose(f);
}

/* The worker's memory lies in huge pages where the kernel gives them on request, to spare
 * misses of the TLB with many clients.  What the user has set stays. */
_Noreturn static void
worker_exec(const struct master *ma, int channel)
{
    char number[16];
    char **argv = calloc((size_t)ma->n_argv + 3, sizeof *argv);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 0);
    if (argv != NULL && fcntl(channel, F_SETFD, 0) == 0) {
        memcpy(argv, ma->argv, (size_t)ma->n_argv * sizeof *argv);
        snprintf(number, sizeof number, "%d", channel);
        argv[ma->n_argv] = (char *)(uintptr_t)"--worker";
        argv[ma->n_argv + 1] = number;
        execv("/proc/self/exe", argv);
    }
    fprintf(stderr, "sluice: the worker cannot be started: %s\n", strerror(errno));
    _exit(127);
}

static int
worker_spawn(struct master *ma)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    ma->started_at = now_ms();
    ma->start_at = 0;
    ma->worker = fork();
    if (ma->worker == 0)
        worker_exec(ma, pair[1]);
    close(pair[1]);
    ma->channel = pair[0];
    return ma->worker > 0 ? 0 : -1;
}

static void
worker_message(struct master *ma, const struct message *m)
{
    switch ((enum message_kind)m->kind) {
    case MSG_LISTEN:
        listener_answer(ma, m);
        return;
    case MSG_SETTINGS:
        ma->stop_ms = m->number;
        memcpy(ma->pid_file, m->text, sizeof ma->pid_file);
        return;
    case MSG_READY:
        if (!ma->is_ready)
            pid_file_write(ma);
        ma->is_ready = 1;
        sl_log(SL_NOTICE, "SL0200", "ready, worker %d", (int)ma->worker);
        return;
    case MSG_HELLO:
    case MSG_LISTENER:
    case MSG_DRAIN:
    case MSG_STOP:
        return;
    }
}

static void
channel_close(struct master *ma)
{
    if (ma->channel >= 0)
        close(ma->channel);
    ma->channel = -1;
}

static void
channel_event(struct master *ma)
{
    struct message m;
    int fd, rc = channel_receive(ma->channel, &m, &fd);

    if (fd >= 0)
        close(fd);
    if (rc == 1)
        worker_message(ma, &m);
    else
        channel_close(ma);
}

/* What the worker left: 1 when the master has nothing more to do. */
static int
worker_ended(struct master *ma, int status, int *rc)
{
    int is_crash = WIFSIGNALED(status);

    channel_close(ma);
    ma->worker = 0;
    if (ma->is_stopping || !ma->is_ready) {
        *rc = ma->is_stopping && !is_crash ? 0 : 1;
        return 1;
    }
    ma->backoff_ms = now_ms() - ma->started_at > CALM_MS ? BACKOFF_FIRST_MS
                     : ma->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : ma->backoff_ms * 2;
    sl_log(SL_ERROR, "SL0202", "the worker ended by %s %d; the next one starts in %d ms",
           is_crash ? "signal" : "exit", is_crash ? WTERMSIG(status) : WEXITSTATUS(status),
           ma->backoff_ms);
    ma->start_at = now_ms() + ma->backoff_ms;
    return 0;
}

/* ---- signals ---- */

static void
stop(struct master *ma)
{
    struct message m;

    message_make(&m, ma->is_stopping ? MSG_STOP : MSG_DRAIN, NULL);
    if (ma->channel >= 0)
        channel_send(ma->channel, &m, -1);
    if (!ma->is_stopping && ma->is_ready)
        sl_log(SL_NOTICE, "SL0203", "stopping");
    ma->is_stopping = 1;
    ma->kill_at = now_ms() + ma->stop_ms + 5000;
}

static int
signal_event(struct master *ma, int *rc)
{
    struct signalfd_siginfo info;
    int status;

    if (read(ma->signals, &info, sizeof info) != (ssize_t)sizeof info)
        return 0;
    switch (info.ssi_signo) {
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        stop(ma);
        *rc = 0;
        return ma->worker == 0;
    case SIGHUP:
        sl_log(SL_WARN, "SL0204", "this version cannot reload: nothing was changed");
        return 0;
    case SIGCHLD:
        return ma->worker > 0 && waitpid(ma->worker, &status, WNOHANG) == ma->worker &&
               worker_ended(ma, status, rc);
    default: /* open set */
        return 0;
    }
}

static int
signals_open(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int
wait_ms(const struct master *ma)
{
    int64_t at = ma->start_at > 0 ? ma->start_at : ma->kill_at, left;

    if (at == 0)
        return -1;
    left = at - now_ms();
    return left > 0 ? (int)left : 0;
}

static void
times_run(struct master *ma)
{
    int64_t now = now_ms();

    if (ma->start_at > 0 && now >= ma->start_at && worker_spawn(ma) != 0)
        ma->start_at = now + BACKOFF_MAX_MS;
    if (ma->kill_at > 0 && now >= ma->kill_at && ma->worker > 0) {
        sl_log(SL_ERROR, "SL0206", "the worker does not stop: it is killed");
        kill(ma->worker, SIGKILL);
        ma->kill_at = now + 1000;
    }
}

int
master_main(char **worker_argv, int n_argv)
{
    static struct master ma;
    int rc = 1, is_over = 0;

    ma.argv = worker_argv;
    ma.n_argv = n_argv;
    ma.channel = -1;
    ma.backoff_ms = BACKOFF_FIRST_MS;
    ma.signals = signals_open();
    signal(SIGPIPE, SIG_IGN);
    if (ma.signals < 0 || worker_spawn(&ma) != 0) {
        fprintf(stderr, "sluice: cannot start: %s\n", strerror(errno));
        return 1;
    }
    while (!is_over) {
        struct pollfd fds[2] = {{ma.signals, POLLIN, 0}, {ma.channel, POLLIN, 0}};

        poll(fds, 2, wait_ms(&ma));
        if (fds[1].revents != 0 && ma.channel >= 0)
            channel_event(&ma);
        if (fds[0].revents != 0)
            is_over = signal_event(&ma, &rc);
        times_run(&ma);
    }
    listeners_close(&ma);
    if (ma.pid_file[0] != '\0' && ma.is_ready)
        unlink(ma.pid_file);
    if (ma.is_ready && rc == 0)
        sl_log(SL_NOTICE, "SL0207", "stopped");
    return rc;
}
