/* Master: small and privileged, loads no module, reads no configuration.
 *
 * A generation starts, is accepted and serves; the one before it drains:
 *
 *   starting -> serving -> (standby ->) draining -> gone
 *           \-> refused: nothing has changed
 *
 * One thread, one poll(): the signals, the control socket and its clients, the workers' channels.
 * Here is the turn and what it meets; what the operator says is in commands.c, what a reload does
 * in reload.c, what the operator finds outside in operator.c. */
#include "master/master.h"

#include "config/snapshot.h"
#include "master/clients.h"
#include "master/control.h"
#include "master/files.h"
#include "master/notify.h"
#include "master/overrides.h"
#include "master/state.h"
#include "privileges.h"
#include "runtime/clock.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 5000
#define CALM_MS 1000 /* a worker that lived this long is replaced at once */
#define POLLED_MAX 128
#define REPORT_MAX 65536

/* ---- the generations there are ---- */

struct generation *
generations_add(struct master *ma)
{
    int place = zones_place_take(&ma->zones);
    struct generation *g;

    if (place < 0) {
        errno = EUSERS;
        return NULL;
    }
    g = generation_new(ma->program, ma->last_id + 1, (unsigned)place);
    if (g == NULL) {
        zones_place_give(&ma->zones, (unsigned)place);
        return NULL;
    }
    ma->last_id++;
    g->next = ma->generations;
    ma->generations = g;
    return g;
}

void
generations_remove(struct master *ma, struct generation *g)
{
    struct generation **at = &ma->generations;

    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    if (ma->serving == g)
        ma->serving = NULL;
    if (ma->standby == g) {
        ma->standby = NULL;
        ma->confirm_at = 0;
    }
    zones_release(&ma->zones, g);
    generation_free(&g, &ma->listeners);
}

void
generations_print(const struct master *ma, int client)
{
    const struct generation *g;

    control_print(client, "%-4s %-9s %-8s %s\n", "id", "state", "process", "started");
    for (g = ma->generations; g != NULL; g = g->next)
        control_print(client, "%-4u %-9s %-8d %llds ago\n", g->id, generation_state_name(g->state),
                      (int)g->pid, (long long)(monotonic_ms() - g->started_at) / 1000);
}

/* ---- what workers say ---- */

static void
first_ready(struct master *ma, struct generation *g)
{
    ma->serving = g;
    g->state = GENERATION_SERVING;
    operator_apply(ma, g);
    sl_log(SL_NOTICE, "SL0200", "ready, worker %d", (int)g->pid);
    notify_systemd("READY=1");
    operator_ready(ma);
}

static void
worker_ready(struct master *ma, struct generation *g)
{
    g->is_ready = 1;
    if (g->is_reopen_due)
        generation_reopen(g);
    zones_filled(&ma->zones, g);
    files_ready(&ma->files, g);
    if (ma->is_stopping) /* it has been told to go */
        return;
    if (g == ma->reload.g)
        reload_accept(ma, g);
    else if (ma->serving == NULL)
        first_ready(ma, g);
    else if (g == ma->serving) {
        sl_log(SL_NOTICE, "SL0213", "generation %u serves again, worker %d", g->id, (int)g->pid);
        reload_redirect(ma);
    }
    else if (g == ma->standby) /* it crashed, and was replaced while it stands by */
        generation_say(g, MSG_STANDBY, 0, -1);
    else
        reload_redirect(ma);
}

static void
worker_refused(struct master *ma, const struct generation *g, int fd)
{
    static char text[REPORT_MAX];
    ssize_t n = fd >= 0 ? pread(fd, text, sizeof text - 1, 0) : 0;

    text[n > 0 ? n : 0] = '\0';
    if (g == ma->reload.g)
        reload_refuse(ma, text);
    else if (ma->serving != NULL && !ma->is_stopping) /* whoever starts the first one sees it */
        sl_log(SL_ERROR, "SL0266", "generation %u cannot start again: %.*s", g->id,
               (int)strcspn(text, "\n"), text);
}

/* Whoever has dropped its privileges gets no more by way of the master. */
static int
is_too_late(const struct generation *g, const struct message *m)
{
    return g->is_ready && m->kind != MSG_QUIET && m->kind != MSG_KEEP;
}

/* Takes fd over. */
static void
worker_message(struct master *ma, struct generation *g, const struct message *m, int fd)
{
    if (is_too_late(g, m)) {
        sl_log(SL_ERROR, "SL0255", "worker %d asks for something after its start: refused",
               (int)g->pid);
        if (fd >= 0)
            close(fd);
        return;
    }
    switch ((enum message_kind)m->kind) {
    case MSG_LISTEN:
        listeners_answer(&ma->listeners, g, m);
        break;
    case MSG_SETTINGS:
        g->stop_ms = m->number;
        g->generations_max = m->port;
        memcpy(g->pid_file, m->text, sizeof g->pid_file);
        operator_prepare(ma, g, OUTSIDE_PID_FILE, g->pid_file);
        break;
    case MSG_CONTROL:
        memcpy(g->control, m->text, sizeof g->control);
        operator_prepare(ma, g, OUTSIDE_CONTROL, g->control);
        break;
    case MSG_LOG:
        memcpy(g->error_log, m->text, sizeof g->error_log);
        g->log_format = (int)m->number;
        break;
    case MSG_FILE:
        generation_keep_file(g, m);
        break;
    case MSG_STATE_DIR:
        memcpy(g->state_dir, m->text, sizeof g->state_dir);
        if (g->version >= CHANNEL_STATE)
            operator_prepare(ma, g, OUTSIDE_STATE_DIR, g->state_dir);
        break;
    case MSG_STATE:
        overrides_lend(g);
        break;
    case MSG_KEEP:
        overrides_answer(ma, g, m);
        break;
    case MSG_SNAPSHOT:
        if (g->snapshot < 0 && fd >= 0 && snapshot_is_sealed(fd)) {
            g->snapshot = fd;
            return;
        }
        break;
    case MSG_ZONE:
        zones_answer(&ma->zones, g, m);
        break;
    case MSG_MODULE:
        modules_keep(g, m->text, fd);
        return;
    case MSG_WATCH:
        files_add(&ma->files, g, m);
        break;
    case MSG_REFUSED:
        worker_refused(ma, g, fd);
        break;
    case MSG_READY:
        worker_ready(ma, g);
        break;
    case MSG_QUIET:
        if (g == ma->reload.before)
            reload_end(ma);
        break;
    case MSG_LISTENER:
    case MSG_PLACED:
    case MSG_FRESH:
    case MSG_ZONE_LENT:
    case MSG_DRAIN:
    case MSG_STANDBY:
    case MSG_RESUME:
    case MSG_TAKE:
    case MSG_STOP:
    case MSG_CHANGED:
    case MSG_CONN:
    case MSG_COMMAND:
    case MSG_KEPT: /* no worker says these to the master */
        break;
    }
    if (fd >= 0)
        close(fd);
}

static void
channel_event(struct master *ma, struct generation *g)
{
    struct message m;
    int fd, rc = channel_receive(g->channel, &m, &fd);

    if (rc == 1 && fd != CHANNEL_FD_LOST) {
        worker_message(ma, g, &m, fd);
        return;
    }
    if (rc == 1) { /* without it the next process could not be what was accepted */
        sl_log(SL_ERROR, "SL0265", "worker %d: the master has no descriptor left for what it sends: "
               "raise the limit of open files", (int)g->pid);
        if (g == ma->reload.g)
            reload_refuse(ma, "the master has no descriptor left for what the new worker sends: "
                          "raise the limit of open files (ulimit -n, LimitNOFILE=)");
    }
    if (rc < 0 && errno == EPROTO && g == ma->reload.g)
        reload_refuse(ma, "the program installed now needs a master of its own version: -k upgrade");
    generation_close_channel(g);
}

/* ---- what becomes of them ---- */

static const char *
ending(int status, char *to, size_t n)
{
    snprintf(to, n, "%s %d", WIFSIGNALED(status) ? "signal" : "exit",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return to;
}

/* g serves or stands by: it gets another process. */
static void
process_crashed(struct generation *g, const char *how)
{
    int64_t now = monotonic_ms();
    int wait = now - g->started_at > CALM_MS ? 0 : g->backoff_ms;

    if (g->state == GENERATION_STANDBY)
        sl_log(SL_ERROR, "SL0214", "generation %u, which stands by, ended by %s; its next worker "
               "starts in %d ms", g->id, how, wait);
    else
        sl_log(SL_ERROR, "SL0202", "the worker ended by %s; the next one starts in %d ms, from the "
               "configuration that was accepted", how, wait);
    g->start_at = now + wait;
    g->backoff_ms = wait == 0 ? BACKOFF_FIRST_MS : wait * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS
                                                                             : wait * 2;
}

static void
process_ended(struct master *ma, struct generation *g, int status)
{
    char how[32], why[96];

    generation_close_channel(g);
    zones_process_ended(&ma->zones, g);
    files_release(&ma->files, g);
    g->pid = 0;
    ending(status, how, sizeof how);
    if (g == ma->reload.g) {
        snprintf(why, sizeof why, "the new worker ended by %s before it was ready", how);
        reload_refuse(ma, why);
    }
    if (g == ma->reload.before)
        reload_end(ma);
    if ((g == ma->serving || g == ma->standby) && !ma->is_stopping) {
        process_crashed(g, how);
        return;
    }
    if (ma->is_stopping ? WIFSIGNALED(status) : ma->serving == NULL)
        ma->status = 1;
    if (g->state == GENERATION_DRAINING && g->is_ready && status != 0)
        sl_log(SL_ERROR, "SL0245", "generation %u ended by %s while it drained: what it still had is "
               "lost", g->id, how);
    generations_remove(ma, g);
}

/* Others may hold the worker's end of its channel: nothing to read is an end, too. */
static int
has_words(const struct generation *g)
{
    struct pollfd p = {g->channel, POLLIN, 0};

    return g->channel >= 0 && poll(&p, 1, 0) > 0;
}

static void
children_reap(struct master *ma)
{
    struct generation *g;
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (g = ma->generations; g != NULL && g->pid != pid; g = g->next)
            ;
        if (g == NULL) {
            upgrade_ended(ma, pid, status);
            continue;
        }
        while (has_words(g)) /* its last ones */
            channel_event(ma, g);
        process_ended(ma, g, status);
    }
}

/* ---- signals ---- */

static void
signal_event(struct master *ma)
{
    struct signalfd_siginfo info;

    if (read(ma->signals, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    switch (info.ssi_signo) {
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        commands_stop(ma, info.ssi_signo == SIGQUIT);
        return;
    case SIGHUP:
        reload_begin(ma, -1, "");
        return;
    case SIGUSR1:
        commands_reopen(ma, -1);
        return;
    case SIGUSR2:
        upgrade_begin(ma, -1, "");
        return;
    case SIGCHLD:
        children_reap(ma);
        return;
    default: /* open set */
        return;
    }
}

static int
signals_open(void)
{
    static const int taken[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2,
                                SIGCHLD};
    sigset_t set;
    size_t i;

    sigemptyset(&set);
    for (i = 0; i < sizeof taken / sizeof taken[0]; i++)
        sigaddset(&set, taken[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* ---- times ---- */

static void
sooner(int64_t *at, int64_t other)
{
    if (other > 0 && (*at == 0 || other < *at))
        *at = other;
}

static int
wait_ms(const struct master *ma)
{
    const struct generation *g;
    int64_t at = 0, left;

    for (g = ma->generations; g != NULL; g = g->next) {
        sooner(&at, g->start_at);
        sooner(&at, g->kill_at);
    }
    sooner(&at, ma->confirm_at);
    sooner(&at, ma->upgrade.deadline);
    sooner(&at, watch_next(&ma->files));
    sooner(&at, clients_next());
    if (ma->reload.g != NULL || ma->reload.before != NULL)
        sooner(&at, ma->reload.deadline);
    if (at == 0)
        return -1;
    left = at - monotonic_ms();
    return left <= 0 ? 0 : left > 3600000 ? 3600000 : (int)left;
}

static void
generation_times(struct master *ma, struct generation *g, int64_t now)
{
    if (g->start_at > 0 && now >= g->start_at && generation_start(g, ma->argv, ma->n_argv) != 0)
        g->start_at = now + BACKOFF_MAX_MS;
    if (g->kill_at > 0 && now >= g->kill_at && g->pid > 0) {
        sl_log(SL_ERROR, "SL0206", "worker %d does not stop: it is killed", (int)g->pid);
        kill(g->pid, SIGKILL);
        g->kill_at = now + 1000;
    }
}

static void
times_run(struct master *ma)
{
    struct generation *g;
    int64_t now = monotonic_ms();

    for (g = ma->generations; g != NULL; g = g->next)
        generation_times(ma, g, now);
    watch_run(&ma->files, now);
    reload_times(ma, now);
    upgrade_times(ma, now);
}

/* ---- the turn ---- */

static void
turn(struct master *ma)
{
    int control = clients_may_come(monotonic_ms()) ? ma->placed[OUTSIDE_CONTROL].fd : -1;
    struct pollfd fds[POLLED_MAX + CLIENTS_MAX] = {{ma->signals, POLLIN, 0},
                                                   {control, POLLIN, 0},
                                                   {ma->files.fd, POLLIN, 0}};
    struct generation *polled[POLLED_MAX], *g;
    nfds_t n = 3, i;

    for (g = ma->generations; g != NULL && n < POLLED_MAX; g = g->next)
        if (g->channel >= 0) {
            polled[n] = g;
            fds[n++] = (struct pollfd){g->channel, POLLIN, 0};
        }
    poll(fds, n + clients_poll(fds + n), wait_ms(ma));
    for (i = 3; i < n; i++)
        if (fds[i].revents != 0)
            channel_event(ma, polled[i]);
    if (fds[1].revents != 0 && control == ma->placed[OUTSIDE_CONTROL].fd)
        clients_accept(control, monotonic_ms());
    clients_run(monotonic_ms());
    commands_run(ma);
    if (fds[2].revents != 0)
        watch_events(&ma->files, monotonic_ms());
    if (fds[0].revents != 0)
        signal_event(ma);
    times_run(ma);
}

/* ---- from start to end ---- */

static int
program_find(struct master *ma)
{
    ssize_t n = readlink("/proc/self/exe", ma->program, sizeof ma->program - 1);

    if (n <= 0)
        return -1;
    ma->program[n] = '\0';
    return 0;
}

static int
master_run(struct master *ma)
{
    while (ma->generations != NULL)
        turn(ma);
    if (ma->is_stopping && ma->status == 0)
        sl_log(SL_NOTICE, "SL0207", "stopped");
    operator_end(ma);
    return ma->status;
}

static struct master the_master = {.placed = {{.fd = -1}, {.fd = -1}, {.fd = -1}},
                                   .next = {{.fd = -1}, {.fd = -1}, {.fd = -1}},
                                   .starter = -1, .reload.client = -1,
                                   .upgrade = {.client = -1, .program = -1, .answer = -1}};

int
master_main(char **worker_argv, int n_argv, const char *file, int is_daemon)
{
    struct master *ma = &the_master;
    struct generation *g;
    int rc;

    ma->argv = worker_argv;
    ma->n_argv = n_argv;
    ma->file = file;
    if (is_daemon && (rc = operator_split(ma)) >= 0)
        return rc;
    descriptors_raise();
    clients_open();
    files_open(&ma->files);
    ma->signals = signals_open();
    if (ma->signals < 0 || program_find(ma) != 0 || (g = generations_add(ma)) == NULL ||
        generation_start(g, ma->argv, ma->n_argv) != 0) {
        fprintf(stderr, "sluice: cannot start: %s\n", strerror(errno));
        return 1;
    }
    return master_run(ma);
}

int
master_take_over(char **worker_argv, int n_argv, const char *file, int fd)
{
    struct master *ma = &the_master;
    const struct generation *g;
    const char *err;

    prctl(PR_SET_NAME, "sluice"); /* it was executed as the number of a descriptor */
    ma->argv = worker_argv;
    ma->n_argv = n_argv;
    ma->file = file;
    descriptors_raise();
    clients_open();
    files_open(&ma->files);
    ma->signals = signals_open();
    err = state_read(ma, fd, 0);
    close(fd);
    if (err != NULL || ma->signals < 0) {
        fprintf(stderr, "sluice: cannot take over: %s\n", err != NULL ? err : strerror(errno));
        return 1;
    }
    operator_log_open(ma->serving);
    sl_log(SL_NOTICE, "SL0263", "the master was replaced; workers go on");
    for (g = ma->generations; g != NULL; g = g->next)
        if (g->is_ready)
            files_ready(&ma->files, g);
    children_reap(ma); /* who ended meanwhile */
    control_print(ma->upgrade.client, "the master is the program that is installed now\n");
    ma->reload.is_upgrade = 1;
    reload_begin(ma, ma->upgrade.client, ma->upgrade.command);
    ma->upgrade.client = -1;
    return master_run(ma);
}
