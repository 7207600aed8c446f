/* The threads of a worker: how they begin and end, and the orders thread 0 gives to all, itself
 * among them: accept, accept no more, finish what you have and go.  When they are given is
 * worker.c's; what a thread serves with, and what draining means to a connection, is in
 * serving.c. */
#include "worker_threads.h"

#include "channel.h"
#include "config/load.h"
#include "net/listener.h"
#include "overrides.h"
#include "runtime/crash.h"
#include "runtime/counter.h"
#include "upstream/seats.h"
#include "worker_listeners.h"

#include "sluice/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define DRAIN_LOOK_MS 50
#define TAKE_MS 1000 /* how long one that leaves waits for those that hand over to it */
#define LATE_TURNS 16 /* of messages that are answered by messages, when all threads have left */

/* What thread 0 tells all of them, by mail. */
enum order { ORDER_DRAIN, ORDER_STANDBY, ORDER_RESUME };

/* In the worker's pool, with all it points to but the loop.  Once it runs, its thread's own,
 * where nothing else is said. */
struct serving_thread {
    struct sl_worker *w;
    struct sl_loop *loop;           /* closed by worker_threads_free() */
    pthread_t thread;               /* thread 0 joins it; unset for thread 0 */
    struct acceptor *acceptors;     /* one for each listener of the worker */
    atomic_int order;               /* enum order, the last that thread 0 gave */
    atomic_int is_ordered;          /* the mail is on its way: a later order goes with it */
    struct sl_mail mail;            /* posted by thread 0 */
    struct sl_timer timer;          /* looks whether all is drained */
    struct sl_mail look;            /* any thread posts it: there may be no more to wait for */
    atomic_int is_called;           /* that is on its way */
    atomic_llong drain_until;       /* loop time; set by thread 0, with the order to drain or later */
    int accepts, is_leaving;
    int64_t take_until;             /* loop time, since it is leaving */
};

/* ---- accepting ---- */

static struct serving_thread *
thread_of(struct sl_loop *loop)
{
    return &loop->worker->threads[loop->index];
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
look_arrived(struct sl_loop *loop, struct sl_mail *mail)
{
    (void)mail;
    atomic_store(&thread_of(loop)->is_called, 0);
    worker_drain_look(loop);
}

static void
thread_call(struct serving_thread *t)
{
    if (!atomic_exchange(&t->is_called, 1))
        sl_loop_post(t->loop, &t->look);
}

/* The last thread says so: from now on clients come to the other generation only, and a thread that
 * has none gets none from the others any more. */
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
    worker_listeners_close(w);
    if (w->channel >= 0)
        channel_say(w->channel, MSG_QUIET, NULL, -1);
    for (i = 0; i < w->n_threads; i++)
        thread_call(&w->threads[i]);
}

/* ---- draining ---- */

static void
thread_close_all(struct serving_thread *t)
{
    struct sl_worker *w = t->w;

    conn_close_all(t->loop);
    sl_timer_unlink(&t->timer);
    loop_stop(t->loop);
    if (atomic_fetch_sub(&w->n_running, 1) == 2)
        thread_call(&w->threads[0]);
}

/* Another generation may still be handing over to this one, and does not know yet that it leaves:
 * what it sends is passed on.  It hears so at once, unless it hangs. */
static int
thread_is_sent_more(const struct serving_thread *t)
{
    const struct sl_worker *w = t->w;

    return t->loop->index == 0 && w->n_takes > 0 && t->loop->now_ms < t->take_until &&
           atomic_load(&w->leaving) == LEAVING_TO_OTHERS;
}

static int
thread_is_done(struct serving_thread *t)
{
    struct sl_loop *loop = t->loop;

    if (atomic_load(&t->w->n_accepting) > 0) /* one of them may be for this thread */
        return 0;
    if (loop->clients == NULL && atomic_load(&loop->n_conns) == 0 && loop->subrequests == NULL &&
        (loop->index > 0 || !overrides_are_asked()))
        return !thread_is_sent_more(t);
    if (loop->now_ms < atomic_load(&t->drain_until))
        return 0;
    sl_log(SL_NOTICE, "SL0205", "StopTimeout: %d connections are closed while in use",
           atomic_load(&loop->n_conns));
    return 1;
}

/* Thread 0 listens to the master for the others: it is the last to go. */
void
worker_drain_look(struct sl_loop *loop)
{
    struct serving_thread *t = thread_of(loop);

    if (!t->is_leaving || loop->is_stopping)
        return;
    conn_drain_all(loop);
    if ((loop->index > 0 || atomic_load(&t->w->n_running) == 1) && thread_is_done(t))
        thread_close_all(t);
    else
        sl_timer_set(loop, &t->timer, loop->now_ms + DRAIN_LOOK_MS);
}

static void
thread_rang(struct sl_loop *loop, struct sl_timer *timer)
{
    (void)timer;
    worker_drain_look(loop);
}

/* ---- orders ---- */

static void
thread_drains(struct sl_loop *loop)
{
    struct serving_thread *t = thread_of(loop);

    if (!t->is_leaving) {
        thread_accepts_no_more(loop);
        t->timer.fn = thread_rang;
        t->take_until = loop->now_ms + TAKE_MS;
    }
    t->is_leaving = 1;
    worker_drain_look(loop); /* an idle worker is gone at once */
}

static void
thread_resumes(struct sl_loop *loop)
{
    struct serving_thread *t = thread_of(loop);

    if (t->is_leaving || t->accepts)
        return;
    atomic_fetch_add(&loop->worker->n_accepting, 1);
    thread_accepts(loop);
}

static void
thread_ordered(struct sl_loop *loop, struct sl_mail *mail)
{
    static void (*const orders[])(struct sl_loop *) = {
        [ORDER_DRAIN] = thread_drains,
        [ORDER_STANDBY] = thread_accepts_no_more,
        [ORDER_RESUME] = thread_resumes,
    };
    struct serving_thread *t = thread_of(loop);

    (void)mail;
    atomic_store(&t->is_ordered, 0);
    orders[atomic_load(&t->order)](loop);
}

static void
threads_order(struct sl_worker *w, enum order order)
{
    unsigned i;

    for (i = 0; i < w->n_threads; i++) {
        struct serving_thread *t = &w->threads[i];

        atomic_store(&t->order, (int)order);
        if (atomic_exchange(&t->is_ordered, 1))
            continue;
        t->mail.fn = thread_ordered;
        sl_loop_post(t->loop, &t->mail);
    }
}

/* ---- leave, stand by, resume ---- */

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

void
worker_leave(struct sl_worker *w, int64_t ms, int handover)
{
    int64_t now = w->loops[0]->now_ms;
    enum leaving how = handover != -1 ? LEAVING_TO_OTHERS : LEAVING_FOR_GOOD;
    int before = atomic_load(&w->leaving);
    unsigned i;

    seats_lead(0);
    if (before == LEAVING_NOT && !w->is_standby)
        config_run_worker_hooks(w->config, SL_HOOK_DRAIN, w);
    atomic_store(&w->drain_idle_until, now + config_global(w->config)->core->drain_idle);
    handover_set(w, handover);
    atomic_store(&w->leaving, (int)how);
    worker_listeners_close(w);
    for (i = 0; i < w->n_threads; i++)
        atomic_store(&w->threads[i].drain_until, ms < 0 ? INT64_MAX : now + ms);
    if (before != (int)how)
        threads_order(w, ORDER_DRAIN);
}

void
worker_standby(struct sl_worker *w)
{
    seats_lead(0);
    config_run_worker_hooks(w->config, SL_HOOK_DRAIN, w);
    w->is_standby = 1;
    threads_order(w, ORDER_STANDBY);
}

void
worker_resume(struct sl_worker *w)
{
    if (!w->is_standby)
        return;
    w->is_standby = 0;
    seats_lead(1);
    config_run_worker_hooks(w->config, SL_HOOK_READY, w);
    threads_order(w, ORDER_RESUME);
}

/* ---- from start to end ---- */

unsigned
worker_threads_wanted(const struct config *c)
{
    int64_t n = config_global(c)->core->threads;
    cpu_set_t cpus;

    if (n > 0)
        return (unsigned)n;
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        return 1;
    return (unsigned)CPU_COUNT(&cpus);
}

int
worker_threads_make(struct sl_worker *w)
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
        counters_attach(w->loops[i]);
        conn_thread_init(w->loops[i]);
        w->threads[i].w = w;
        w->threads[i].loop = w->loops[i];
        w->threads[i].look.fn = look_arrived;
        w->threads[i].acceptors = apr_pcalloc(w->pool,
                                              (w->n_listeners + 1) * sizeof(struct acceptor));
        if (config_run_thread_hooks(w->config, w, w->loops[i]) != 0)
            return -1;
    }
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
    return NULL;
}

int
worker_threads_start(struct sl_worker *w)
{
    unsigned i;

    for (i = 1; i < w->n_threads; i++) {
        int error = pthread_create(&w->threads[i].thread, NULL, thread_main, &w->threads[i]);

        if (error != 0) {
            sl_log(SL_ERROR, "SL0231", "thread %u cannot be made: %s", i, strerror(error));
            return -1;
        }
    }
    return 0;
}

/* What those that left last have said to others, and these by that. */
static void
threads_read_late(struct sl_worker *w)
{
    unsigned i, turn;
    int is_read = 1;

    for (turn = 0; is_read && turn < LATE_TURNS; turn++)
        for (is_read = 0, i = 0; i < w->n_threads; i++)
            is_read |= loop_read_late(w->loops[i]);
}

void
worker_threads_run(struct sl_worker *w)
{
    unsigned i;

    thread_main(&w->threads[0]);
    for (i = 1; i < w->n_threads; i++)
        pthread_join(w->threads[i].thread, NULL);
    threads_read_late(w);
    for (i = 0; i < w->n_threads; i++)
        conn_thread_exit(w->loops[i]);
}

void
worker_threads_free(struct sl_worker *w)
{
    unsigned i;

    for (i = 0; i < w->n_threads; i++)
        if (w->loops[i] != NULL)
            loop_close(&w->loops[i]);
}
