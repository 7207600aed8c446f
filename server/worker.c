/* The serving process, from its configuration to its last connection.
 *
 *   read -> check -> listeners -> post_config -> logs -> privileges -> threads -> ready
 *        -> (standby -> ready) -> drain -> closed -> exit
 *
 * Thread 0 is the main thread; it alone speaks with the master, or, without one, takes the
 * signals.  Its listeners are in worker_listeners.c, its threads in worker_threads.c, what a
 * thread serves with in serving.c. */
#include "worker.h"

#include "channel.h"
#include "config/lint.h"
#include "config/load.h"
#include "config/snapshot.h"
#include "control_calls.h"
#include "explain.h"
#include "master/master.h"
#include "metrics.h"
#include "net/failures.h"
#include "net/handover.h"
#include "net/listener.h"
#include "overrides.h"
#include "privileges.h"
#include "runtime/counter.h"
#include "runtime/crash.h"
#include "runtime/file.h"
#include "runtime/files.h"
#include "runtime/loader.h"
#include "runtime/log.h"
#include "runtime/panic.h"
#include "runtime/streams.h"
#include "upstream/pool.h"
#include "upstream/shared.h"
#include "worker_listeners.h"
#include "worker_threads.h"
#include "worker_zones.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define OFFLOAD_THREADS 4
#define RESOLVE_WAIT_MS 2000
#define STOP_FOREGROUND_MS 3000
#define STOP_DAEMON_MS 30000
#define FDS_SPARE 64

/* ---- what modules ask ---- */

apr_pool_t *
sl_worker_pool(struct sl_worker *w)
{
    return w->pool;
}

unsigned
sl_worker_threads(const struct sl_worker *w)
{
    return w->n_threads;
}

struct sl_loop *
sl_worker_loop(struct sl_worker *w, unsigned i)
{
    return i < w->n_threads ? w->loops[i] : NULL;
}

struct sl_scope *
sl_worker_global(struct sl_worker *w)
{
    return config_global(w->config);
}

struct sl_scope *
sl_worker_scope(struct sl_worker *w, unsigned i)
{
    return (int)i < w->config->scopes->nelts
               ? APR_ARRAY_IDX(w->config->scopes, (int)i, struct sl_scope *) : NULL;
}

void *
sl_worker_module_data(struct sl_worker *w, const struct sl_module *module)
{
    int i;

    for (i = 0; i < w->config->modules->nelts; i++)
        if (APR_ARRAY_IDX(w->config->modules, i, struct loaded_module *)->module == module)
            return w->config->module_data[i];
    return NULL;
}

void
sl_worker_config_error(struct sl_worker *w, const char *place, const char *fmt, ...)
{
    static const char mark[] = "\n    cure: ";
    va_list args;
    char *text, *cure;

    va_start(args, fmt);
    text = apr_pvsprintf(w->config->pool, fmt, args);
    va_end(args);
    if ((cure = strstr(text, mark)) != NULL) {
        *cure = '\0';
        cure += sizeof mark - 1;
    }
    config_error(w->config, place, cure, "%s", text);
}

int
sl_worker_is_linting(const struct sl_worker *w)
{
    return w->config->lint != NULL;
}

void
sl_lint(struct sl_worker *w, const struct sl_lint_rule *rule, const char *place, const char *fmt,
        ...)
{
    va_list args;

    if (!sl_worker_is_linting(w))
        return;
    va_start(args, fmt);
    lint_add(w->config, rule, place, apr_pvsprintf(w->config->pool, fmt, args));
    va_end(args);
}

/* ---- the master, or the signals ---- */

static int64_t
stop_timeout_ms(const struct sl_worker *w)
{
    int64_t ms = config_global(w->config)->core->stop_timeout;

    return ms >= 0 ? ms : w->is_service ? STOP_DAEMON_MS : STOP_FOREGROUND_MS;
}

/* Takes fd over. */
static void
master_says(struct sl_worker *w, const struct message *m, int fd)
{
    switch ((enum message_kind)m->kind) {
    case MSG_STOP:
        _exit(0);
    case MSG_DRAIN:
        worker_leave(w, m->number, fd);
        return;
    case MSG_STANDBY:
        worker_standby(w);
        break;
    case MSG_RESUME:
        worker_resume(w);
        break;
    case MSG_TAKE:
        handover_take(w, fd);
        return;
    case MSG_FILE:
        files_replace((unsigned)m->number, fd);
        return;
    case MSG_CHANGED:
        watched_changed((unsigned)m->number, fd);
        return;
    case MSG_COMMAND:
        control_call_take(w->loops[0], m->text, fd);
        return;
    case MSG_KEPT:
        overrides_answered((unsigned)m->number, m->text);
        break;
    default: /* nothing else is said to a worker that serves */
        break;
    }
    if (fd >= 0)
        close(fd);
}

static void
channel_ready(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct sl_worker *w = loop->worker;
    struct message m;
    int fd, rc = channel_receive(io->fd, &m, &fd);

    (void)what;
    if (rc == 1)
        master_says(w, &m, fd);
    if (rc == 0) { /* the master is gone: finish, then go too */
        loop_unwatch(loop, io);
        if (atomic_load(&w->leaving) != LEAVING_FOR_GOOD)
            worker_leave(w, stop_timeout_ms(w), -1);
    }
}

/* Without a master: once to finish, twice to end at once. */
static void
signal_ready(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct signalfd_siginfo info;
    struct sl_worker *w = loop->worker;

    (void)what;
    if (read(io->fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (atomic_load(&w->leaving) != LEAVING_NOT)
        _exit(0);
    worker_leave(w, stop_timeout_ms(w), -1);
}

/* Signals are blocked in every thread; without a master they are read like a descriptor. */
static int
signals_open(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void
signals_block(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- set up, and tell the master, or say why not ---- */

/* MaxConnections 0: what descriptors allow, one for the client and one for its server. */
static long
connections_allowed(const struct config *c)
{
    int64_t n = config_global(c)->core->max_connections;
    struct rlimit r;

    if (n > 0)
        return (long)n;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == RLIM_INFINITY)
        return 0;
    return r.rlim_cur > 4 * FDS_SPARE ? ((long)r.rlim_cur - FDS_SPARE) / 2 : FDS_SPARE;
}

/* Sends m, which asks for a path; the answer is an error where the row of that name stands.
 * 0 or -1. */
static int
place_ask(struct sl_worker *w, struct message *m, const char *row)
{
    const char *place = core_place(w->config, config_global(w->config), row), *cure = NULL;
    const char *path = apr_pstrdup(w->pool, m->text);
    int fd = -1;

    if (channel_ask(w->channel, m, &fd) != 0 || m->kind != MSG_PLACED)
        return -1;
    if (m->n_text == 0)
        return 0;
    if (strstr(m->text, "running already") != NULL)
        cure = "\"sluice -k reload\" takes over what was changed";
    else if (place == NULL)
        cure = apr_psprintf(w->pool, "name another one: \"%s FILE\"", row);
    config_error(w->config, place, cure, "%s %s: %s", row, path, m->text);
    return -1;
}

/* Where the operator reaches this server, before a port is asked for: another server that runs
 * with this configuration is named.  The pid file comes first, for of two that start at the same
 * time only one gets its lock.  0 or -1. */
static int
worker_place(struct sl_worker *w)
{
    const struct core_conf *core = config_global(w->config)->core;
    const char *pid_file = core->pid_file, *control = core->control_socket;
    struct message m;

    if (w->channel < 0)
        return 0;
    if (w->is_service && geteuid() == 0) {
        pid_file = pid_file != NULL ? pid_file : PID_FILE_DEFAULT;
        control = control != NULL ? control : CONTROL_DEFAULT;
    }
    message_make(&m, MSG_SETTINGS, pid_file);
    m.number = stop_timeout_ms(w);
    m.port = (int32_t)core->generations_max;
    if (place_ask(w, &m, "PidFile") != 0)
        return -1;
    message_make(&m, MSG_CONTROL, control);
    if (place_ask(w, &m, "ControlSocket") != 0)
        return -1;
    message_make(&m, MSG_STATE_DIR, core->state_dir);
    return place_ask(w, &m, "StateDir");
}

/* Whatever else the master has to know before it says yes.  0 or -1. */
static int
worker_announce(struct sl_worker *w)
{
    const struct core_conf *core = config_global(w->config)->core;
    struct message log;
    int snapshot;

    if (watched_announce(w->channel) != 0 || loader_announce(w->config, w->channel) != 0)
        return -1;
    if (w->channel < 0)
        return 0;
    message_make(&log, MSG_LOG, core->error_log->where);
    log.number = core->error_log->format;
    if (channel_send(w->channel, &log, -1) != 0 ||
        files_announce(w->channel) != 0 || (snapshot = snapshot_write(w->config->lines)) < 0)
        return -1;
    channel_say(w->channel, MSG_SNAPSHOT, NULL, snapshot);
    close(snapshot);
    return 0;
}

/* The errors, to whoever asked for this configuration. */
static void
worker_refuse(const struct sl_worker *w)
{
    int fd = memfd_create("sluice-report", MFD_CLOEXEC);
    FILE *f = fd >= 0 ? fdopen(dup(fd), "w") : NULL;

    if (f != NULL) {
        if (config_print_errors(w->config, f) == 0)
            fprintf(f, "it could not start: the error log says why\n");
        fclose(f);
    }
    channel_say(w->channel, MSG_REFUSED, NULL, fd);
    if (fd >= 0)
        close(fd);
}

int
worker_check(struct sl_worker *w)
{
    if (config_run_worker_hooks(w->config, SL_HOOK_CHECK_CONFIG, w) != 0)
        return -1;
    core_check(w->config);
    return w->config->errors->nelts > 0 ? -1 : 0;
}

static int
worker_log_open(struct sl_worker *w, const struct core_conf *core)
{
    const struct error_log_conf *log = core->error_log;
    int i, error = log_open(log->where, (enum log_format)log->format, core->log_levels);

    if (error != 0) {
        config_error(w->config, core_place(w->config, config_global(w->config), "ErrorLog"), NULL,
                     "ErrorLog %s: %s", log->where, strerror(error));
        return -1;
    }
    for (i = 0; i < w->config->scopes->nelts; i++)
        log_raise(APR_ARRAY_IDX(w->config->scopes, i, struct sl_scope *)->core->log_levels->most);
    if (log_descriptor() > STDERR_FILENO)
        files_keep_error_log(log->where, log_descriptor());
    return 0;
}

/* The log of a scope that opened the same file or stream before; NULL: none. */
static const struct log_sink *
sink_before(const struct sl_worker *w, int n, const struct error_log_conf *log)
{
    int i;

    for (i = 0; i < n; i++) {
        const struct error_log_conf *other =
            APR_ARRAY_IDX(w->config->scopes, i, struct sl_scope *)->core->error_log;

        if (other->sink != NULL && strcmp(other->where, log->where) == 0)
            return other->sink;
    }
    return NULL;
}

/* -1: it cannot be opened. */
static int
sink_open(struct sl_worker *w, int n, const struct error_log_conf *log, struct log_sink *sink)
{
    const struct log_sink *before = sink_before(w, n, log);

    *sink = (struct log_sink){-1, (enum log_format)log->format};
    if (strcmp(log->where, "syslog") == 0) {
        log_open_syslog();
        return 0;
    }
    if (strcmp(log->where, config_global(w->config)->core->error_log->where) == 0)
        sink->fd = log_descriptor();
    else if (before != NULL)
        sink->fd = before->fd;
    else
        sink->fd = strcmp(log->where, "stderr") == 0 ? STDERR_FILENO : sl_log_file(log->where);
    return sink->fd >= 0 ? 0 : -1;
}

/* Logs of hosts; the master opens them again when they are rotated, as it does all. */
static int
worker_log_hosts(struct sl_worker *w)
{
    int i;

    for (i = 1; i < w->config->scopes->nelts; i++) {
        const struct sl_scope *scope = APR_ARRAY_IDX(w->config->scopes, i, struct sl_scope *);
        struct error_log_conf *log = scope->core->error_log;
        struct log_sink sink;

        if (log == config_global(w->config)->core->error_log || log->sink != NULL)
            continue;
        if (sink_open(w, i, log, &sink) != 0) {
            config_error(w->config, core_place(w->config, scope, "ErrorLog"), NULL,
                         "ErrorLog %s: %s", log->where, strerror(errno));
            return -1;
        }
        log->sink = apr_pmemdup(w->config->pool, &sink, sizeof sink);
    }
    return 0;
}

/* What <Test> blocks expect, of a configuration that has not served.  0 or -1. */
static int
worker_try(struct sl_worker *w)
{
    if (!w->is_accepted)
        tests_run(w);
    return w->config->errors->nelts > 0 ? -1 : 0;
}

static int
worker_set_up(struct sl_worker *w)
{
    const struct core_conf *core = config_global(w->config)->core;

    if (worker_check(w) != 0 || worker_try(w) != 0 || worker_place(w) != 0 ||
        worker_listeners_open(w) != 0)
        return -1;
    if (worker_log_open(w, core) != 0 || worker_log_hosts(w) != 0)
        return -1;
    descriptors_raise();
    w->max_conns = connections_allowed(w->config);
    if (worker_zones_open(w) != 0 ||
        config_run_worker_hooks(w->config, SL_HOOK_POST_CONFIG, w) != 0 ||
        config_run_worker_hooks(w->config, SL_HOOK_OPEN_LOGS, w) != 0 ||
        w->config->errors->nelts > 0 || worker_announce(w) != 0)
        return -1;
    overrides_begin(w);
    return privileges_drop(core->user, core->group);
}

/* ---- from start to end ---- */

static int
worker_start(struct sl_worker *w)
{
    unsigned i;

    if (offload_open(OFFLOAD_THREADS) != 0 || worker_threads_make(w) != 0)
        return -1;
    failures_open(w->loops[0]);
    pools_resolve(w->loops[0], RESOLVE_WAIT_MS);
    if (config_run_worker_hooks(w->config, SL_HOOK_WORKER_INIT, w) != 0)
        return -1;
    servers_take_over();
    if (overrides_follow() != 0)
        return -1;
    if (config_run_worker_hooks(w->config, SL_HOOK_READY, w) != 0 || worker_threads_start(w) != 0)
        return -1;
    for (i = 0; i < w->n_listeners; i++)
        listener_defer(&w->listeners[i]);
    zones_shut();
    if (w->channel < 0)
        sl_log(SL_NOTICE, "SL0201", "ready, %u thread%s", w->n_threads,
               w->n_threads == 1 ? "" : "s");
    return w->channel < 0 ? 0 : channel_say(w->channel, MSG_READY, NULL, -1);
}

/* A daemon's own streams lead nowhere: who starts one without a log or without a way to reach it
 * learns so while there is a terminal. */
static void
daemon_warn(const struct core_conf *core)
{
    if (strcmp(core->error_log->where, "stderr") == 0)
        fprintf(stderr, "sluice: warning: no ErrorLog: what this daemon has to say is lost; "
                "write \"ErrorLog FILE\" or \"ErrorLog syslog\"\n");
    if (core->control_socket == NULL && geteuid() != 0)
        fprintf(stderr, "sluice: warning: no ControlSocket: -k reload and -k stop do not reach this "
                "daemon; write \"ControlSocket FILE\"\n");
}

/* Listens to the master, or for the signals, on thread 0, and serves until all is closed. */
static void
worker_run(struct sl_worker *w)
{
    struct io control = {.on_ready = w->channel >= 0 ? channel_ready : signal_ready};

    control.fd = w->channel >= 0 ? w->channel : signals_open();
    if (control.fd >= 0)
        loop_watch_listener(w->loops[0], &control);
    watched_run(w->loops[0]);
    worker_threads_run(w);
    if (w->channel < 0 && control.fd >= 0)
        close(control.fd);
}

static void
worker_end(struct sl_worker *w)
{
    offload_close(); /* before the hooks: what its threads work with is freed there */
    config_run_worker_hooks(w->config, SL_HOOK_WORKER_EXIT, w);
    control_calls_close();
    overrides_close();
    failures_close();
    worker_threads_free(w);
    counters_close();
    watched_close();
    zones_close();
    log_close();
}

static struct sl_worker *
worker_read(apr_pool_t *pool, const struct config_source *source)
{
    struct sl_worker *w = apr_pcalloc(pool, sizeof *w);

    w->pool = pool;
    w->channel = -1;
    serving_register();
    explain_register();
    metrics_register();
    w->config = config_load(pool, source);
    w->n_threads = worker_threads_wanted(w->config);
    atomic_store(&w->n_accepting, (int)w->n_threads);
    atomic_store(&w->n_running, (int)w->n_threads);
    atomic_store(&w->handover, -1);
    w->handover_fd = -1;
    worker_protocols_check(w);
    worker_listeners_make(w);
    return w;
}

struct sl_worker *
worker_for_test(apr_pool_t *pool, const struct config_source *source)
{
    return worker_read(pool, source);
}

/* The master's first words: modules it has kept, and at last what to read and our place in
 * zones. */
static int
source_told(struct config_source *source, int channel, unsigned *place)
{
    struct message m;
    int fd;

    do {
        if (channel_receive(channel, &m, &fd) != 1 ||
            (m.kind == MSG_MODULE && (fd < 0 || loader_give(m.text, fd) != 0)))
            return -1;
    } while (m.kind == MSG_MODULE);
    if (fd == CHANNEL_FD_LOST)
        return -1;
    if (m.kind == MSG_SNAPSHOT)
        source->snapshot = fd;
    *place = (unsigned)m.number % SL_PLACES;
    return m.kind == MSG_SNAPSHOT || m.kind == MSG_FRESH ? 0 : -1;
}

int
worker_main(const struct config_source *from, int channel, int is_daemon)
{
    struct config_source source = *from;
    struct sl_worker *w;
    apr_pool_t *pool;
    unsigned place = 0;
    int rc = 1;

    signals_block();
    crash_watch();
    if (channel >= 0)
        fcntl(channel, F_SETFD, FD_CLOEXEC);
    if (channel >= 0 && source_told(&source, channel, &place) != 0) {
        channel_say(channel, MSG_REFUSED, NULL, -1); /* a master out of reach sees by its version */
        return 1;
    }
    apr_pool_create_ex(&pool, NULL, pool_exhausted, NULL);
    w = worker_read(pool, &source);
    w->channel = channel;
    w->place = place;
    w->is_service = is_daemon || getenv("NOTIFY_SOCKET") != NULL;
    w->is_accepted = source.snapshot > 0;
    if (is_daemon && w->config->errors->nelts == 0)
        daemon_warn(config_global(w->config)->core);
    if (worker_set_up(w) == 0 && worker_start(w) == 0) {
        if (is_daemon)
            streams_close(STDOUT_FILENO); /* nobody reads what a daemon prints */
        worker_run(w);
        worker_end(w);
        rc = 0;
    } else if (channel >= 0)
        worker_refuse(w);
    config_print_errors(w->config, stderr);
    if (rc != 0 && w->threads != NULL)
        _exit(rc); /* threads run, and nothing they hold is worth an orderly end */
    apr_pool_destroy(pool);
    return rc;
}
