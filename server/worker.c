/* The serving process, from its configuration to its last connection.
 *
 *   read -> check -> listeners -> post_config -> logs -> privileges -> threads -> ready
 *        -> (standby -> ready) -> drain -> closed -> exit
 *
 * Thread 0 is the main thread; it alone speaks with the master, or, without one, takes the
 * signals. */
#include "worker.h"

#include "channel.h"
#include "master/master.h"
#include "config/snapshot.h"
#include "net/handover.h"
#include "net/listener.h"
#include "runtime/files.h"
#include "privileges.h"
#include "runtime/log.h"
#include "runtime/crash.h"
#include "runtime/zone.h"
#include "runtime/panic.h"
#include "upstream/pool.h"

#include "sluice/provider.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define OFFLOAD_THREADS 4
#define RESOLVE_WAIT_MS 2000
#define STOP_FOREGROUND_MS 3000
#define STOP_DAEMON_MS 30000
#define DRAIN_LOOK_MS 50
#define FDS_SPARE 64

/* What thread 0 tells the others. */
enum order { ORDER_DRAIN, ORDER_STOP, ORDER_STANDBY, ORDER_RESUME, N_ORDERS };

struct serving_thread {
    struct sl_worker *w;
    struct sl_loop *loop;
    pthread_t thread;
    struct acceptor *acceptors;
    struct sl_mail mails[N_ORDERS];
    struct sl_timer timer; /* looks whether all is drained */
    atomic_llong drain_until;
    int accepts, is_leaving;
};

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
    va_list args;
    const char *text;

    va_start(args, fmt);
    text = apr_pvsprintf(w->config->pool, fmt, args);
    va_end(args);
    config_error(w->config, place, NULL, "%s", text);
}

/* ---- listeners ---- */

static struct sl_scope *
default_scope(const struct config *c)
{
    int i;

    for (i = 0; i < c->scopes->nelts; i++) {
        struct sl_scope *s = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *);

        if (s->kind == SL_SCOPE_HOST)
            return s;
    }
    return config_global(c);
}

static void
listener_protocols(struct sl_worker *w, struct listener *l)
{
    const apr_array_header_t *names = l->scope->core->protocols;
    int n = names != NULL ? names->nelts : 0, i;

    l->protocols = apr_pcalloc(w->pool, (size_t)(n + 1) * sizeof *l->protocols);
    for (i = 0; i < n; i++) {
        const char *name = APR_ARRAY_IDX(names, i, const char *);
        const struct sl_protocol *p = sl_provider_find("protocol", name);

        if (p != NULL)
            l->protocols[l->n_protocols++] = p;
    }
    if (l->n_protocols == 0)
        l->protocols[l->n_protocols++] = sl_provider_find("protocol", "http/1.1");
}

static void
protocols_check(struct sl_worker *w)
{
    int i, k;

    for (i = 0; i < w->config->scopes->nelts; i++) {
        const struct sl_scope *s = APR_ARRAY_IDX(w->config->scopes, i, struct sl_scope *);
        const apr_array_header_t *names = s->core->protocols;

        if (names == NULL || (s->parent != NULL && s->parent->core->protocols == names))
            continue;
        for (k = 0; k < names->nelts; k++)
            if (sl_provider_find("protocol", APR_ARRAY_IDX(names, k, const char *)) == NULL)
                sl_worker_config_error(w, s->place, "Protocols: no loaded module speaks \"%s\"",
                                       APR_ARRAY_IDX(names, k, const char *));
    }
}

static struct head_limits
limits_loosest(const struct config *c)
{
    struct head_limits most = {0, 0, 0};
    int i;

    for (i = 0; i < c->scopes->nelts; i++) {
        const struct core_conf *core = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *)->core;

        if ((size_t)core->limit_line > most.line)
            most.line = (size_t)core->limit_line;
        if ((size_t)core->limit_head > most.head)
            most.head = (size_t)core->limit_head;
        if ((unsigned)core->limit_fields > most.n_fields)
            most.n_fields = (unsigned)core->limit_fields;
    }
    return most;
}

static void
listeners_make(struct sl_worker *w)
{
    struct head_limits limits = limits_loosest(w->config);

    const apr_array_header_t *lines = config_global(w->config)->core->listen;
    int i;

    w->n_listeners = lines != NULL ? (unsigned)lines->nelts : 0;
    w->listeners = apr_pcalloc(w->pool, (w->n_listeners + 1) * sizeof *w->listeners);
    for (i = 0; i < (int)w->n_listeners; i++) {
        struct listener *l = &w->listeners[i];

        l->conf = APR_ARRAY_IDX(lines, i, struct listen_conf *);
        l->fd = -1;
        l->scope = default_scope(w->config);
        l->limits = limits;
        listener_protocols(w, l);
    }
}

static int
listener_ask(int channel, const struct listen_conf *conf, const char *address, char *why, size_t n)
{
    struct message m;
    int fd = -1;

    message_make(&m, MSG_LISTEN, address);
    m.family = conf->family;
    m.port = conf->port;
    m.backlog = conf->backlog;
    if (channel_send(channel, &m, -1) != 0 || channel_receive(channel, &m, &fd) != 1 ||
        m.kind != MSG_LISTENER) {
        snprintf(why, n, "the master does not answer");
        return -1;
    }
    if (fd < 0)
        snprintf(why, n, "%s", m.text);
    return fd;
}

static int
listeners_open(struct sl_worker *w)
{
    unsigned i, n_failed = 0;

    if (w->n_listeners == 0) {
        config_error(w->config, NULL, "write \"Listen 80\"", "no Listen line: nothing would be served");
        return -1;
    }
    for (i = 0; i < w->n_listeners; i++) {
        struct listener *l = &w->listeners[i];
        char text[64], why[CHANNEL_TEXT] = "";
        const char *address = listener_address(l->conf, text, sizeof text);

        l->fd = w->channel >= 0
                    ? listener_ask(w->channel, l->conf, address, why, sizeof why)
                    : listener_open(l->conf->family, address, l->conf->port, l->conf->backlog, why,
                                    sizeof why);
        if (l->fd < 0) {
            config_error(w->config, l->conf->place, NULL, "Listen %s: %s", l->conf->text, why);
            n_failed++;
        }
    }
    return n_failed > 0 ? -1 : 0;
}

/* ---- draining ---- */

static void
thread_close_all(struct serving_thread *t)
{
    atomic_fetch_sub(&t->w->n_running, 1);
    conn_close_all(t->loop);
    sl_timer_unlink(&t->timer);
    loop_stop(t->loop);
}

static struct serving_thread *
thread_of(struct sl_loop *loop)
{
    return &loop->worker->threads[loop->index];
}

static int
thread_is_done(struct serving_thread *t)
{
    struct sl_loop *loop = t->loop;

    if (loop->clients == NULL && atomic_load(&loop->n_conns) == 0)
        return 1;
    if (loop->now_ms < atomic_load(&t->drain_until))
        return 0;
    sl_log(SL_NOTICE, "SL0205", "StopTimeout: %d connections are closed while in use",
           atomic_load(&loop->n_conns));
    return 1;
}

/* Thread 0 listens to the master for the others: it is the last to go. */
static void
thread_drain_look(struct sl_loop *loop, struct sl_timer *timer)
{
    struct serving_thread *t = thread_of(loop);

    conn_drain_all(loop);
    if ((loop->index > 0 || atomic_load(&t->w->n_running) == 1) && thread_is_done(t))
        thread_close_all(t);
    else
        sl_timer_set(loop, timer, loop->now_ms + DRAIN_LOOK_MS);
}

/* A port that nobody listens at any more is free.  Once no thread accepts and the worker
 * leaves; both may be noticed at the same time. */
static void
listeners_close(struct sl_worker *w)
{
    unsigned i;

    if (atomic_load(&w->n_accepting) > 0 || atomic_load(&w->leaving) == LEAVING_NOT ||
        atomic_exchange(&w->listeners_closed, 1))
        return;
    for (i = 0; i < w->n_listeners; i++) {
        close(w->listeners[i].fd);
        w->listeners[i].fd = -1;
    }
}

/* The last thread says so: from now on clients come to the other generation only. */
static void
thread_accepts_no_more(struct sl_loop *loop)
{
    struct serving_thread *t = thread_of(loop);
    struct sl_worker *w = t->w;
    unsigned i;

    if (!t->accepts)
        return;
    t->accepts = 0;
    for (i = 0; i < w->n_listeners; i++)
        acceptor_stop(loop, &t->acceptors[i]);
    if (atomic_fetch_sub(&w->n_accepting, 1) != 1)
        return;
    listeners_close(w);
    if (w->channel >= 0)
        channel_say(w->channel, MSG_QUIET, NULL, -1);
}

static void
thread_accepts(struct sl_loop *loop)
{
    struct serving_thread *t = thread_of(loop);
    unsigned i;

    t->accepts = 1;
    for (i = 0; i < t->w->n_listeners; i++)
        acceptor_start(loop, &t->acceptors[i], &t->w->listeners[i]);
}

static void
thread_order_drain(struct sl_loop *loop, struct sl_mail *mail)
{
    struct serving_thread *t = thread_of(loop);

    (void)mail;
    if (!t->is_leaving) {
        thread_accepts_no_more(loop);
        t->timer.fn = thread_drain_look;
    }
    t->is_leaving = 1;
    sl_timer_set(loop, &t->timer, loop->now_ms + 1);
}

static void
thread_order_standby(struct sl_loop *loop, struct sl_mail *mail)
{
    (void)mail;
    thread_accepts_no_more(loop);
}

static void
thread_order_resume(struct sl_loop *loop, struct sl_mail *mail)
{
    (void)mail;
    if (thread_of(loop)->is_leaving)
        return;
    atomic_fetch_add(&loop->worker->n_accepting, 1);
    thread_accepts(loop);
}

static void
threads_order(struct sl_worker *w, enum order order)
{
    static void (*const orders[N_ORDERS])(struct sl_loop *, struct sl_mail *) = {
        [ORDER_DRAIN] = thread_order_drain,
        [ORDER_STOP] = thread_order_drain,
        [ORDER_STANDBY] = thread_order_standby,
        [ORDER_RESUME] = thread_order_resume,
    };
    unsigned i;

    for (i = 0; i < w->n_threads; i++) {
        struct serving_thread *t = &w->threads[i];

        t->mails[order].fn = orders[order];
        sl_loop_post(t->loop, &t->mails[order]);
    }
}

static int64_t
stop_timeout_ms(const struct sl_worker *w)
{
    int64_t ms = config_global(w->config)->core->stop_timeout;

    return ms >= 0 ? ms : w->is_daemon ? STOP_DAEMON_MS : STOP_FOREGROUND_MS;
}

/* Threads may be sending there: the new descriptor takes the number of the old. */
static void
handover_set(struct sl_worker *w, int fd)
{
    if (fd >= 0 && w->handover_fd >= 0) {
        dup3(fd, w->handover_fd, O_CLOEXEC);
        close(fd);
    } else if (fd >= 0)
        w->handover_fd = fd;
    atomic_store(&w->handover, fd >= 0 ? w->handover_fd : -1);
}

/* From thread 0: all threads finish what they have, within ms (-1: in their own time).  Idle
 * connections go to `handover` (-1: they are closed, the server stops).  May be said again,
 * with another receiver or for good. */
static void
worker_leave(struct sl_worker *w, int64_t ms, int handover)
{
    int64_t now = w->loops[0]->now_ms;
    enum leaving how = handover >= 0 ? LEAVING_TO_OTHERS : LEAVING_FOR_GOOD;
    int before = atomic_load(&w->leaving);
    unsigned i;

    if (before == LEAVING_NOT && !w->is_standby)
        config_run_worker_hooks(w->config, SL_HOOK_DRAIN, w);
    atomic_store(&w->drain_idle_until, now + config_global(w->config)->core->drain_idle);
    handover_set(w, handover);
    atomic_store(&w->leaving, (int)how);
    listeners_close(w);
    for (i = 0; i < w->n_threads; i++)
        atomic_store(&w->threads[i].drain_until, ms < 0 ? INT64_MAX : now + ms);
    if (before != (int)how)
        threads_order(w, how == LEAVING_FOR_GOOD ? ORDER_STOP : ORDER_DRAIN);
}

static void
worker_standby(struct sl_worker *w)
{
    config_run_worker_hooks(w->config, SL_HOOK_DRAIN, w);
    w->is_standby = 1;
    threads_order(w, ORDER_STANDBY);
}

static void
worker_resume(struct sl_worker *w)
{
    if (!w->is_standby)
        return;
    w->is_standby = 0;
    config_run_worker_hooks(w->config, SL_HOOK_READY, w);
    threads_order(w, ORDER_RESUME);
}

/* ---- the master, or the signals ---- */

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
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- threads ---- */

static unsigned
threads_wanted(const struct config *c)
{
    int64_t n = config_global(c)->core->threads;
    cpu_set_t cpus;

    if (n > 0)
        return (unsigned)n;
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        return 1;
    return (unsigned)CPU_COUNT(&cpus);
}

static int
threads_make(struct sl_worker *w)
{
    unsigned i;

    w->loops = apr_pcalloc(w->pool, w->n_threads * sizeof *w->loops);
    w->threads = apr_pcalloc(w->pool, w->n_threads * sizeof *w->threads);
    for (i = 0; i < w->n_threads; i++) {
        int error = loop_open(&w->loops[i], i);

        if (error != 0) {
            sl_log(SL_ERROR, "SL0230", "thread %u cannot start: %s", i, strerror(error));
            return -1;
        }
        w->loops[i]->worker = w;
        conn_thread_init(w->loops[i]);
        w->threads[i].w = w;
        w->threads[i].loop = w->loops[i];
        w->threads[i].acceptors = apr_pcalloc(w->pool,
                                              (w->n_listeners + 1) * sizeof(struct acceptor));
        if (config_run_thread_hooks(w->config, w, w->loops[i]) != 0)
            return -1;
    }
    counters_watch(w->loops, w->n_threads);
    pools_threads_init(w->pool, w->n_threads);
    return 0;
}

static void *
thread_main(void *arg)
{
    struct serving_thread *t = arg;

    crash_thread_watch();
    thread_accepts(t->loop);
    loop_run(t->loop);
    conn_thread_exit(t->loop);
    return NULL;
}

/* All but the first, which is this one and runs in threads_run(). */
static int
threads_start(struct sl_worker *w)
{
    unsigned i;

    pools_resolve_start(w->loops[0]);
    for (i = 1; i < w->n_threads; i++) {
        int error = pthread_create(&w->threads[i].thread, NULL, thread_main, &w->threads[i]);

        if (error != 0) {
            sl_log(SL_ERROR, "SL0231", "thread %u cannot be made: %s", i, strerror(error));
            return -1;
        }
    }
    return 0;
}

static void
threads_run(struct sl_worker *w)
{
    struct io control = {.on_ready = w->channel >= 0 ? channel_ready : signal_ready};
    unsigned i;

    control.fd = w->channel >= 0 ? w->channel : signals_open();
    if (control.fd >= 0)
        loop_watch_listener(w->loops[0], &control);
    thread_main(&w->threads[0]);
    for (i = 1; i < w->n_threads; i++)
        pthread_join(w->threads[i].thread, NULL);
    if (w->channel < 0 && control.fd >= 0)
        close(control.fd);
}

static void
threads_free(struct sl_worker *w)
{
    unsigned i;

    counters_watch(NULL, 0);
    for (i = 0; i < w->n_threads; i++)
        if (w->loops[i] != NULL)
            loop_close(&w->loops[i]);
}

/* ---- from start to end ---- */

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

/* Whatever the master has to know before it says yes.  0 or -1. */
static int
worker_announce(struct sl_worker *w)
{
    const struct core_conf *core = config_global(w->config)->core;
    const char *pid_file = core->pid_file, *control = core->control_socket;
    struct message m;
    int snapshot;

    if (w->channel < 0)
        return 0;
    if (w->is_daemon && geteuid() == 0) {
        pid_file = pid_file != NULL ? pid_file : PID_FILE_DEFAULT;
        control = control != NULL ? control : CONTROL_DEFAULT;
    }
    message_make(&m, MSG_SETTINGS, pid_file);
    m.number = stop_timeout_ms(w);
    m.port = (int32_t)core->generations_max;
    if (channel_send(w->channel, &m, -1) != 0 ||
        channel_say(w->channel, MSG_CONTROL, control, -1) != 0 ||
        channel_say(w->channel, MSG_LOG, core->error_log, -1) != 0 ||
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

static int
worker_set_up(struct sl_worker *w)
{
    const struct core_conf *core = config_global(w->config)->core;
    int error;

    if (config_run_worker_hooks(w->config, SL_HOOK_CHECK_CONFIG, w) != 0 ||
        w->config->errors->nelts > 0 || listeners_open(w) != 0)
        return -1;
    if ((error = log_open(core->error_log, (enum sl_level)core->log_level)) != 0) {
        config_error(w->config, NULL, NULL, "ErrorLog %s: %s", core->error_log, strerror(error));
        return -1;
    }
    if (log_descriptor() > STDERR_FILENO)
        files_keep_error_log(core->error_log, log_descriptor());
    descriptors_raise();
    w->max_conns = connections_allowed(w->config);
    if (config_run_worker_hooks(w->config, SL_HOOK_POST_CONFIG, w) != 0 ||
        config_run_worker_hooks(w->config, SL_HOOK_OPEN_LOGS, w) != 0 || worker_announce(w) != 0)
        return -1;
    return privileges_drop(core->user, core->group);
}

static int
worker_start(struct sl_worker *w)
{
    unsigned i;

    if (offload_open(w->pool, OFFLOAD_THREADS) != 0 || threads_make(w) != 0)
        return -1;
    pools_resolve_now(RESOLVE_WAIT_MS);
    if (config_run_worker_hooks(w->config, SL_HOOK_WORKER_INIT, w) != 0 ||
        config_run_worker_hooks(w->config, SL_HOOK_READY, w) != 0 || threads_start(w) != 0)
        return -1;
    for (i = 0; i < w->n_listeners; i++)
        listener_defer(&w->listeners[i]);
    if (w->channel < 0)
        sl_log(SL_NOTICE, "SL0201", "ready, %u thread%s", w->n_threads,
               w->n_threads == 1 ? "" : "s");
    return w->channel < 0 ? 0 : channel_say(w->channel, MSG_READY, NULL, -1);
}

static void
worker_end(struct sl_worker *w)
{
    config_run_worker_hooks(w->config, SL_HOOK_WORKER_EXIT, w);
    offload_close();
    threads_free(w);
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
    w->config = config_load(pool, source);
    w->n_threads = threads_wanted(w->config);
    atomic_store(&w->n_accepting, (int)w->n_threads);
    atomic_store(&w->n_running, (int)w->n_threads);
    atomic_store(&w->handover, -1);
    w->handover_fd = -1;
    protocols_check(w);
    listeners_make(w);
    return w;
}

struct sl_worker *
worker_for_test(apr_pool_t *pool, const struct config_source *source)
{
    struct sl_worker *w = worker_read(pool, source);

    config_run_worker_hooks(w->config, SL_HOOK_CHECK_CONFIG, w);
    return w;
}

/* The master's first word: what to read. */
static int
source_told(struct config_source *source, int channel)
{
    struct message m;
    int fd;

    if (channel_receive(channel, &m, &fd) != 1)
        return -1;
    if (m.kind == MSG_SNAPSHOT)
        source->snapshot = fd;
    return m.kind == MSG_SNAPSHOT || m.kind == MSG_FRESH ? 0 : -1;
}

/* Nobody reads what a daemon prints. */
static void
streams_close(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return;
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    close(null);
}

int
worker_main(const struct config_source *from, int channel, int is_daemon)
{
    struct config_source source = *from;
    struct sl_worker *w;
    apr_pool_t *pool;
    int rc = 1;

    signals_block();
    crash_watch();
    if (channel >= 0)
        fcntl(channel, F_SETFD, FD_CLOEXEC);
    if (channel >= 0 && source_told(&source, channel) != 0)
        return 1;
    apr_pool_create_ex(&pool, NULL, pool_exhausted, NULL);
    w = worker_read(pool, &source);
    w->channel = channel;
    w->is_daemon = is_daemon;
    if (worker_set_up(w) == 0 && worker_start(w) == 0) {
        if (is_daemon)
            streams_close();
        threads_run(w);
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
