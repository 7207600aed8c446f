/* Master: small and privileged, loads no module, reads no configuration.
 *
 * A generation starts, is accepted and serves; the one before it drains:
 *
 *   starting -> serving -> (standby ->) draining -> gone
 *           \-> refused: nothing has changed
 *
 * One thread, one poll(): the signals, the control socket and the workers' channels. */
#include "master/master.h"

#include "config/snapshot.h"
#include "master/control.h"
#include "master/generation.h"
#include "master/notify.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 5000
#define CALM_MS 1000 /* a worker that lived this long is replaced at once */
#define RELOAD_MS 60000
#define POLLED_MAX 128
#define REPORT_MAX 65536

/* The one reload that is under way. */
struct reload {
    struct generation *g; /* NULL: none */
    int client;           /* who waits for its end; -1: nobody */
    int64_t deadline;
    int64_t confirm_ms; /* 0: accepted at once */
    struct generation *before; /* g is accepted; this one still has to stop accepting */
};

struct master {
    char **argv;
    int n_argv;
    int is_daemon;
    char program[PATH_MAX];
    struct generation *generations; /* newest first */
    struct generation *serving;     /* NULL: none has been accepted yet */
    struct generation *standby;     /* waits for confirm_at */
    int64_t confirm_at;
    unsigned last_id;
    struct listeners listeners;
    struct reload reload;
    int signals;
    int control;
    char control_path[CHANNEL_TEXT], pid_file[CHANNEL_TEXT];
    int starter; /* the process that waits for the daemon; -1: none */
    int is_stopping;
    int status;
};

/* ---- the files of the operator ---- */

static void
pid_file_place(struct master *ma, const char *path)
{
    FILE *f;

    if (strcmp(path, ma->pid_file) == 0)
        return;
    if (ma->pid_file[0] != '\0')
        unlink(ma->pid_file);
    snprintf(ma->pid_file, sizeof ma->pid_file, "%s", path);
    if (path[0] == '\0')
        return;
    f = fopen(path, "we");
    if (f == NULL) {
        sl_log(SL_ERROR, "SL0240", "PidFile %s: %s", path, strerror(errno));
        return;
    }
    fprintf(f, "%d\n", (int)getpid());
    fclose(f);
}

static void
control_close(struct master *ma)
{
    if (ma->control < 0)
        return;
    close(ma->control);
    unlink(ma->control_path);
    ma->control = -1;
    ma->control_path[0] = '\0';
}

static void
control_place(struct master *ma, const char *path)
{
    if (strcmp(path, ma->control_path) == 0)
        return;
    control_close(ma);
    if (path[0] == '\0')
        return;
    ma->control = control_listen(path);
    if (ma->control < 0) {
        sl_log(SL_ERROR, "SL0242", "ControlSocket %s: %s", path, strerror(errno));
        return;
    }
    snprintf(ma->control_path, sizeof ma->control_path, "%s", path);
}

static void
error_log_open(const struct generation *g)
{
    int error = log_open(g->error_log, SL_NOTICE);

    if (error != 0)
        sl_log(SL_ERROR, "SL0244", "ErrorLog %s: %s; messages go where they went", g->error_log,
               strerror(error));
}

static void
settings_apply(struct master *ma, const struct generation *g)
{
    error_log_open(g);
    pid_file_place(ma, g->pid_file);
    control_place(ma, g->control);
}

/* ---- the process that started a daemon waits for one byte ---- */

static void
starter_tell(struct master *ma, char status)
{
    if (ma->starter < 0)
        return;
    if (write(ma->starter, &status, 1) != 1)
        sl_log(SL_WARN, "SL0243", "who started this server did not wait for it");
    close(ma->starter);
    ma->starter = -1;
}

static void
streams_close(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    close(null);
}

/* ---- reload ---- */

static unsigned
generations_alive(const struct master *ma)
{
    const struct generation *g;
    unsigned n = 0;

    for (g = ma->generations; g != NULL; g = g->next)
        n++;
    return n;
}

static void
generations_print(const struct master *ma, int client)
{
    const struct generation *g;

    control_print(client, "%-4s %-9s %-8s %s\n", "id", "state", "process", "started");
    for (g = ma->generations; g != NULL; g = g->next)
        control_print(client, "%-4u %-9s %-8d %llds ago\n", g->id, generation_state_name(g->state),
                      (int)g->pid, (long long)(now_ms() - g->started_at) / 1000);
}

static void
reload_refuse(struct master *ma, const char *why)
{
    sl_log(SL_ERROR, "SL0208", "reload refused, nothing was changed: %.*s",
           (int)strcspn(why, "\n"), why);
    control_print(ma->reload.client, "%s%snothing was changed\n", why,
                  why[0] != '\0' && why[strlen(why) - 1] != '\n' ? "\n" : "");
    control_exit(&ma->reload.client, 1);
    if (ma->reload.g != NULL) {
        ma->reload.g->state = GENERATION_DRAINING;
        ma->reload.g->kill_at = now_ms() + 2000;
        listeners_release(&ma->listeners, ma->reload.g);
    }
    ma->reload.g = NULL;
    notify_systemd("READY=1");
}

static struct generation *
generation_add(struct master *ma)
{
    struct generation *g = generation_new(ma->program, ma->last_id + 1);

    if (g == NULL)
        return NULL;
    ma->last_id++;
    g->next = ma->generations;
    ma->generations = g;
    return g;
}

static void
reload_begin(struct master *ma, int client, const char *command)
{
    int max = ma->serving != NULL ? ma->serving->generations_max : 16;

    if (ma->reload.g != NULL || ma->reload.before != NULL || ma->standby != NULL || ma->serving == NULL || ma->is_stopping) {
        control_print(client, "%s\n", ma->is_stopping ? "the server is stopping"
                      : ma->standby != NULL ? "the last reload waits for -k confirm"
                                            : "another start or reload is under way");
        sl_log(SL_WARN, "SL0204", "a reload was refused: another one is under way");
        control_exit(&client, 1);
        return;
    }
    ma->reload.client = client;
    if (generations_alive(ma) >= (unsigned)max) {
        generations_print(ma, client);
        reload_refuse(ma, "GenerationsMax: too many generations are still in use");
        return;
    }
    ma->reload.confirm_ms = control_number(command, "confirm", 0);
    ma->reload.deadline = now_ms() + control_number(command, "timeout", RELOAD_MS);
    notify_systemd("RELOADING=1");
    ma->reload.g = generation_add(ma);
    if (ma->reload.g == NULL || generation_start(ma->reload.g, ma->argv, ma->n_argv) != 0)
        reload_refuse(ma, strerror(errno));
}

static void
changes_print(int client, const struct generation *before, const struct generation *after)
{
    apr_pool_t *pool;
    struct stat a, b;
    const char *text;

    if (client < 0)
        return;
    apr_pool_create(&pool, NULL);
    text = snapshot_difference(pool, before->snapshot, after->snapshot);
    control_print(client, "%s", text);
    if (fstat(before->program, &a) == 0 && fstat(after->program, &b) == 0 &&
        (a.st_ino != b.st_ino || a.st_dev != b.st_dev))
        control_print(client, "the program is another one than before\n");
    else if (text[0] == '\0')
        control_print(client, "the configuration is the same\n");
    control_print(client, "generation %u serves, process %d\n", after->id, (int)after->pid);
    apr_pool_destroy(pool);
}

static void
generation_remove(struct master *ma, struct generation *g)
{
    struct generation **at = &ma->generations;

    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    generation_free(&g, &ma->listeners);
}

/* Who drains hands over to who serves now, not to who served when it began.  One that waits
 * for a new process after a crash needs none any more; one that starts is told when it is
 * ready. */
static void
drains_redirect(struct master *ma)
{
    struct generation *g, *next;

    for (g = ma->generations; g != NULL; g = next) {
        next = g->next;
        if (g->state != GENERATION_DRAINING || g->kill_at != 0)
            continue;
        if (g->pid > 0 && g->is_ready)
            generation_drain(g, ma->serving, -1, &ma->listeners);
        else if (g->pid == 0)
            generation_remove(ma, g);
    }
}

/* The one before accepts no more, so every new client meets the new generation. */
static void
reload_end(struct master *ma)
{
    sl_log(SL_NOTICE, "SL0209", "generation %u serves, worker %d", ma->serving->id,
           (int)ma->serving->pid);
    ma->reload.before = NULL;
    control_exit(&ma->reload.client, 0);
    notify_systemd("READY=1");
}

static void
reload_accept(struct master *ma, struct generation *g)
{
    struct generation *before = ma->serving;
    int has_process = before->pid > 0; /* else it crashed, and accepts nothing */

    changes_print(ma->reload.client, before, g);
    ma->serving = g;
    g->state = GENERATION_SERVING;
    settings_apply(ma, g);
    if (ma->reload.confirm_ms > 0) {
        before->state = GENERATION_STANDBY;
        generation_say(before, MSG_STANDBY, 0, -1);
        ma->standby = before;
        ma->confirm_at = now_ms() + ma->reload.confirm_ms;
        control_print(ma->reload.client, "generation %u returns in %lld s unless -k confirm "
                      "comes\n", before->id, (long long)ma->reload.confirm_ms / 1000);
    } else
        before->state = GENERATION_DRAINING;
    ma->reload.g = NULL;
    ma->reload.before = has_process ? before : NULL;
    drains_redirect(ma);
    if (!has_process)
        reload_end(ma);
}

static void
confirm(struct master *ma, int client)
{
    if (ma->standby == NULL) {
        control_print(client, "no reload waits for this\n");
        control_exit(&client, 1);
        return;
    }
    ma->standby->state = GENERATION_DRAINING;
    drains_redirect(ma);
    ma->standby = NULL;
    ma->confirm_at = 0;
    sl_log(SL_NOTICE, "SL0211", "generation %u is confirmed", ma->serving->id);
    control_print(client, "generation %u is confirmed\n", ma->serving->id);
    control_exit(&client, 0);
}

/* Nobody confirmed: the generation before takes over again. */
static void
confirm_late(struct master *ma)
{
    struct generation *bad = ma->serving;

    ma->serving = ma->standby;
    ma->standby = NULL;
    ma->confirm_at = 0;
    ma->serving->state = GENERATION_SERVING;
    generation_say(ma->serving, MSG_RESUME, 0, -1);
    bad->state = GENERATION_DRAINING;
    drains_redirect(ma);
    settings_apply(ma, ma->serving);
    sl_log(SL_WARN, "SL0212", "generation %u was not confirmed: generation %u serves again",
           bad->id, ma->serving->id);
}

/* ---- what workers say ---- */

static void
first_ready(struct master *ma, struct generation *g)
{
    ma->serving = g;
    g->state = GENERATION_SERVING;
    settings_apply(ma, g);
    sl_log(SL_NOTICE, "SL0200", "ready, worker %d", (int)g->pid);
    notify_systemd("READY=1");
    if (ma->starter >= 0)
        streams_close();
    starter_tell(ma, 0);
}

static void
worker_ready(struct master *ma, struct generation *g)
{
    g->is_ready = 1;
    if (g == ma->reload.g)
        reload_accept(ma, g);
    else if (ma->serving == NULL)
        first_ready(ma, g);
    else if (g == ma->serving)
        sl_log(SL_NOTICE, "SL0213", "generation %u serves again, worker %d", g->id, (int)g->pid);
    else if (g == ma->standby) /* it crashed, and was replaced while it stands by */
        generation_say(g, MSG_STANDBY, 0, -1);
    else
        drains_redirect(ma);
}

static void
worker_refused(struct master *ma, const struct generation *g, int fd)
{
    static char text[REPORT_MAX];
    ssize_t n = fd >= 0 ? pread(fd, text, sizeof text - 1, 0) : 0;

    text[n > 0 ? n : 0] = '\0';
    if (g == ma->reload.g)
        reload_refuse(ma, text);
}

/* Takes fd over. */
static void
worker_message(struct master *ma, struct generation *g, const struct message *m, int fd)
{
    switch ((enum message_kind)m->kind) {
    case MSG_LISTEN:
        listeners_answer(&ma->listeners, g, m);
        break;
    case MSG_SETTINGS:
        g->stop_ms = m->number;
        g->generations_max = m->port;
        memcpy(g->pid_file, m->text, sizeof g->pid_file);
        break;
    case MSG_CONTROL:
        memcpy(g->control, m->text, sizeof g->control);
        break;
    case MSG_LOG:
        memcpy(g->error_log, m->text, sizeof g->error_log);
        break;
    case MSG_FILE:
        generation_keep_file(g, m);
        break;
    case MSG_SNAPSHOT:
        if (g->snapshot < 0) {
            g->snapshot = fd;
            return;
        }
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
    case MSG_FRESH:
    case MSG_DRAIN:
    case MSG_STANDBY:
    case MSG_RESUME:
    case MSG_TAKE:
    case MSG_STOP:
    case MSG_CONN: /* no worker says these to the master */
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

    if (rc == 1)
        worker_message(ma, g, &m, fd);
    else
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

static void
serving_crashed(struct generation *g, const char *how)
{
    int64_t now = now_ms();
    int wait = now - g->started_at > CALM_MS ? 0 : g->backoff_ms;

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
    g->pid = 0;
    ending(status, how, sizeof how);
    if (g == ma->reload.g) {
        snprintf(why, sizeof why, "the new worker ended by %s before it was ready", how);
        reload_refuse(ma, why);
    }
    if (g == ma->reload.before)
        reload_end(ma);
    if (g == ma->serving && !ma->is_stopping) {
        serving_crashed(g, how);
        return;
    }
    if (ma->is_stopping ? WIFSIGNALED(status) : ma->serving == NULL)
        ma->status = 1;
    if (g == ma->standby) {
        sl_log(SL_ERROR, "SL0214", "generation %u ended by %s: there is no way back to it", g->id,
               how);
        ma->standby = NULL;
        ma->confirm_at = 0;
    }
    if (g == ma->serving)
        ma->serving = NULL;
    generation_remove(ma, g);
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
        if (g == NULL)
            continue;
        while (has_words(g)) /* its last ones */
            channel_event(ma, g);
        process_ended(ma, g, status);
    }
}

/* ---- commands ---- */

static void
stop(struct master *ma, int is_patient)
{
    struct generation *g, *next;

    if (!ma->is_stopping && ma->serving != NULL)
        sl_log(SL_NOTICE, "SL0203", "stopping");
    notify_systemd("STOPPING=1");
    for (g = ma->generations; g != NULL; g = next) {
        next = g->next;
        if (g->pid == 0)
            generation_remove(ma, g);
        else if (ma->is_stopping)
            generation_say(g, MSG_STOP, 0, -1);
        else
            generation_drain(g, NULL, is_patient ? -1 : g->stop_ms, &ma->listeners);
    }
    ma->is_stopping = 1;
}

static void
reopen(struct master *ma, int client)
{
    struct generation *g;
    int n_failed = 0;

    for (g = ma->generations; g != NULL; g = g->next)
        n_failed += generation_reopen(g);
    if (ma->serving != NULL)
        error_log_open(ma->serving);
    sl_log(SL_NOTICE, "SL0215", "files were opened again");
    control_print(client, n_failed == 0 ? "files were opened again\n"
                                        : "%d files cannot be opened again: see the error log\n",
                  n_failed);
    control_exit(&client, n_failed == 0 ? 0 : 1);
}

static void
close_generation(struct master *ma, int client, unsigned id)
{
    struct generation *g;

    for (g = ma->generations; g != NULL; g = g->next)
        if (g->id == id && g->state == GENERATION_DRAINING) {
            generation_drain(g, NULL, g->stop_ms, &ma->listeners);
            control_print(client, "generation %u ends within %lld ms\n", id,
                          (long long)g->stop_ms);
            control_exit(&client, 0);
            return;
        }
    control_print(client, "there is no generation %u that drains\n", id);
    control_exit(&client, 1);
}

static void
control_event(struct master *ma)
{
    char command[256];
    int client = control_accept(ma->control, command, sizeof command);

    if (client < 0 || command[0] == '\0')
        return;
    if (strncmp(command, "reload", 6) == 0)
        reload_begin(ma, client, command);
    else if (strcmp(command, "confirm") == 0)
        confirm(ma, client);
    else if (strcmp(command, "reopen") == 0)
        reopen(ma, client);
    else if (strcmp(command, "generations") == 0) {
        generations_print(ma, client);
        control_exit(&client, 0);
    } else if (strncmp(command, "close ", 6) == 0)
        close_generation(ma, client, (unsigned)control_number(command, "id", 0));
    else if (strcmp(command, "stop") == 0) {
        control_print(client, "stopping\n");
        control_exit(&client, 0);
        stop(ma, 0);
    } else {
        control_print(client, "this server does not know \"%s\"\n", command);
        control_exit(&client, 2);
    }
}

/* ---- signals and times ---- */

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
        stop(ma, info.ssi_signo == SIGQUIT);
        return;
    case SIGHUP:
        reload_begin(ma, -1, "");
        return;
    case SIGUSR1:
        reopen(ma, -1);
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
    static const int taken[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGCHLD};
    sigset_t set;
    size_t i;

    sigemptyset(&set);
    for (i = 0; i < sizeof taken / sizeof taken[0]; i++)
        sigaddset(&set, taken[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

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
    if (ma->reload.g != NULL || ma->reload.before != NULL)
        sooner(&at, ma->reload.deadline);
    if (at == 0)
        return -1;
    left = at - now_ms();
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
    int64_t now = now_ms();

    for (g = ma->generations; g != NULL; g = g->next)
        generation_times(ma, g, now);
    if (ma->reload.g != NULL && now >= ma->reload.deadline) {
        kill(ma->reload.g->pid, SIGKILL);
        reload_refuse(ma, "the new worker was not ready in time");
    }
    if (ma->reload.before != NULL && now >= ma->reload.deadline)
        reload_end(ma);
    if (ma->confirm_at > 0 && now >= ma->confirm_at)
        confirm_late(ma);
}

static void
turn(struct master *ma)
{
    struct pollfd fds[POLLED_MAX] = {{ma->signals, POLLIN, 0}, {ma->control, POLLIN, 0}};
    struct generation *polled[POLLED_MAX], *g;
    nfds_t n = 2, i;

    for (g = ma->generations; g != NULL && n < POLLED_MAX; g = g->next)
        if (g->channel >= 0) {
            polled[n] = g;
            fds[n++] = (struct pollfd){g->channel, POLLIN, 0};
        }
    poll(fds, n, wait_ms(ma));
    for (i = 2; i < n; i++)
        if (fds[i].revents != 0)
            channel_event(ma, polled[i]);
    if (fds[1].revents != 0 && fds[1].fd == ma->control)
        control_event(ma);
    if (fds[0].revents != 0)
        signal_event(ma);
    times_run(ma);
}

/* ---- the daemon ---- */

/* In the process that was started: waits for what becomes of the master.  -1: this is the
 * master. */
static int
daemon_split(struct master *ma)
{
    int pair[2];
    char status = 1;
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
        fprintf(stderr, "sluice: cannot start: %s\n", strerror(errno));
        return 1;
    }
    if (pid == 0) {
        close(pair[0]);
        ma->starter = pair[1];
        setsid();
        return -1;
    }
    close(pair[1]);
    if (read(pair[0], &status, 1) != 1)
        status = 1;
    close(pair[0]);
    return status;
}

static int
program_find(struct master *ma)
{
    ssize_t n = readlink("/proc/self/exe", ma->program, sizeof ma->program - 1);

    if (n <= 0)
        return -1;
    ma->program[n] = '\0';
    return 0;
}

int
master_main(char **worker_argv, int n_argv, int is_daemon)
{
    static struct master ma = {.control = -1, .starter = -1, .reload.client = -1};
    struct generation *g;
    int rc;

    ma.argv = worker_argv;
    ma.n_argv = n_argv;
    ma.is_daemon = is_daemon;
    if (is_daemon && (rc = daemon_split(&ma)) >= 0)
        return rc;
    ma.signals = signals_open();
    if (ma.signals < 0 || program_find(&ma) != 0 || (g = generation_add(&ma)) == NULL ||
        generation_start(g, ma.argv, ma.n_argv) != 0) {
        fprintf(stderr, "sluice: cannot start: %s\n", strerror(errno));
        return 1;
    }
    while (ma.generations != NULL)
        turn(&ma);
    starter_tell(&ma, 1);
    control_close(&ma);
    pid_file_place(&ma, "");
    if (ma.is_stopping && ma.status == 0)
        sl_log(SL_NOTICE, "SL0207", "stopped");
    return ma.status;
}
