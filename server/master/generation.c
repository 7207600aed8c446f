/* See generation.h. */
#include "master/generation.h"

#include "runtime/append.h"
#include "runtime/clock.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define STOP_GRACE_MS 5000

const char *
generation_state_name(enum generation_state state)
{
    static const char *const names[] = {"starting", "serving", "standby", "draining"};

    return names[state];
}

struct generation *
generation_new(const char *program, unsigned id, unsigned place)
{
    struct generation *g = calloc(1, sizeof *g);

    if (g == NULL)
        return NULL;
    g->id = id;
    g->place = place;
    g->channel = g->snapshot = -1;
    g->version = CHANNEL_VERSION;
    g->generations_max = 16;
    g->program = open(program, O_RDONLY | O_CLOEXEC);
    if (g->program >= 0)
        return g;
    free(g);
    return NULL;
}

void
generation_free(struct generation **gp, struct listeners *ls)
{
    struct generation *g = *gp;
    int i;

    *gp = NULL;
    generation_close_channel(g);
    listeners_release(ls, g);
    modules_release(g);
    close(g->program);
    if (g->snapshot >= 0)
        close(g->snapshot);
    for (i = 0; i < FILES_MAX; i++)
        free(g->files[i]);
    free(g);
}

void
generation_close_channel(struct generation *g)
{
    if (g->channel >= 0)
        close(g->channel);
    g->channel = -1;
}

/* The worker's memory lies in huge pages where the kernel gives them on request, to spare
 * misses of the TLB with many clients, and what it frees stays at hand of its thread in numbers
 * that fit some dozen requests at once.  What the user has set stays. */
#define TUNABLES "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=128"

_Noreturn static void
worker_exec(const struct generation *g, char **worker_argv, int n_argv, int channel)
{
    char number[16];
    char **argv = calloc((size_t)n_argv + 3, sizeof *argv);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setenv("GLIBC_TUNABLES", TUNABLES, 0);
    if (argv != NULL && fcntl(channel, F_SETFD, 0) == 0) {
        extern char **environ;

        memcpy(argv, worker_argv, (size_t)n_argv * sizeof *argv);
        snprintf(number, sizeof number, "%d", channel);
        argv[n_argv] = (char *)(uintptr_t)"--worker";
        argv[n_argv + 1] = number;
        fexecve(g->program, argv, environ);
    }
    fprintf(stderr, "sluice: the worker cannot be started: %s\n", strerror(errno));
    _exit(127);
}

int
generation_send(const struct generation *g, struct message *m, int fd)
{
    m->version = g->version;
    errno = EPIPE; /* its end was seen */
    return g->channel >= 0 ? channel_send(g->channel, m, fd) : -1;
}

int
generation_try(const struct generation *g, struct message *m, int fd)
{
    m->version = g->version;
    return g->channel >= 0 ? channel_try(g->channel, m, fd) : -1;
}

int
generation_start(struct generation *g, char **argv, int n_argv)
{
    struct timeval patience = {1, 0}; /* a worker that does not read holds nobody up */
    int pair[2];

    g->start_at = 0;
    g->is_ready = 0;
    g->started_at = monotonic_ms();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    g->pid = fork();
    if (g->pid == 0)
        worker_exec(g, argv, n_argv, pair[1]);
    close(pair[1]);
    g->channel = pair[0];
    setsockopt(g->channel, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (g->pid < 0) {
        g->pid = 0;
        generation_close_channel(g);
        return -1;
    }
    if (modules_give(g) != 0 ||
        generation_say(g, g->snapshot >= 0 ? MSG_SNAPSHOT : MSG_FRESH, g->place, g->snapshot) != 0)
        kill(g->pid, SIGKILL); /* it heard nothing: its end tells the rest */
    return 0;
}

int
generation_say(const struct generation *g, enum message_kind kind, int64_t number, int fd)
{
    struct message m;

    message_make(&m, kind, NULL);
    m.number = number;
    return generation_send(g, &m, fd);
}

void
generation_drain(struct generation *from, const struct generation *to, int64_t ms,
                 struct listeners *ls)
{
    int pair[2] = {-1, -1};

    if (!from->is_ready) {
        generation_close_channel(from);
        ms = 0;
    }
    if (to != NULL && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                                 pair) == 0)
        generation_say(to, MSG_TAKE, 0, pair[1]);
    generation_say(from, MSG_DRAIN, ms, pair[0]);
    if (pair[0] >= 0) {
        close(pair[0]);
        close(pair[1]);
    }
    from->state = GENERATION_DRAINING;
    from->start_at = 0;
    from->kill_at = ms < 0 ? 0 : monotonic_ms() + ms + STOP_GRACE_MS;
    listeners_release(ls, from);
    modules_release(from);
}

/* ---- files ---- */

void
generation_keep_file(struct generation *g, const struct message *m)
{
    if (m->number < 0 || m->number >= FILES_MAX)
        return;
    free(g->files[m->number]);
    g->files[m->number] = strdup(m->text);
}

int
generation_reopen(struct generation *g)
{
    int i, n_failed = 0, is_heard = 1, error = 0;

    g->is_reopen_due = !g->is_ready;
    for (i = 0; i < FILES_MAX && g->is_ready && is_heard; i++) {
        int fd;

        if (g->files[i] == NULL)
            continue;
        fd = append_open(g->files[i]);
        if (fd < 0) {
            sl_log(SL_ERROR, "SL0241", "%s cannot be opened again: %s", g->files[i],
                   strerror(errno));
            n_failed++;
            continue;
        }
        is_heard = generation_say(g, MSG_FILE, i, fd) == 0;
        error = errno;
        close(fd);
    }
    if (!is_heard && (error == EPIPE || error == ECONNRESET)) /* it has just ended: it needs none */
        return n_failed;
    if (!is_heard) { /* it hangs: each more would take its time */
        sl_log(SL_ERROR, "SL0246", "generation %u does not hear that its files are opened again",
               g->id);
        n_failed++;
    }
    return n_failed;
}
