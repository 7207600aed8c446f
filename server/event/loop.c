/* One turn of a loop, top to bottom in loop_turn(): wait, clock, events, ready queue,
 * timers, graves.  See loop.h for the invariants. */
#include "event/loop.h"

#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/panic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define POOL_KEPT_BYTES (8u << 20)

static _Thread_local struct sl_loop *self;

struct sl_loop *
sl_loop_self(void)
{
    return self;
}

unsigned
sl_loop_index(const struct sl_loop *loop)
{
    return loop->index;
}

int64_t
sl_loop_now(const struct sl_loop *loop)
{
    return loop->now_ms;
}

int64_t
sl_loop_wall_us(const struct sl_loop *loop)
{
    return loop->wall_us;
}

static void
loop_clock(struct sl_loop *loop)
{
    struct timespec t;

    loop->now_ms = monotonic_ms();
    clock_gettime(CLOCK_REALTIME, &t);
    loop->wall_us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct sl_span
sl_loop_http_date(struct sl_loop *loop)
{
    int64_t now_s = loop->wall_us / 1000000;
    time_t t = (time_t)now_s;
    struct tm tm;

    if (now_s != loop->http_date_s) {
        loop->http_date_s = now_s;
        gmtime_r(&t, &tm);
        strftime(loop->http_date, sizeof loop->http_date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return (struct sl_span){loop->http_date, 29};
}

/* ---- descriptors ---- */

static int
loop_add(struct sl_loop *loop, struct io *io, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = io};

    return epoll_ctl(loop->epfd, EPOLL_CTL_ADD, io->fd, &ev) == 0 ? 0 : errno;
}

int
loop_watch(struct sl_loop *loop, struct io *io)
{
    return loop_add(loop, io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

int
loop_watch_listener(struct sl_loop *loop, struct io *io)
{
    return loop_add(loop, io, EPOLLIN | EPOLLEXCLUSIVE);
}

void
loop_unwatch(struct sl_loop *loop, struct io *io)
{
    epoll_ctl(loop->epfd, EPOLL_CTL_DEL, io->fd, NULL);
}

void
loop_queue(struct sl_loop *loop, struct io *io)
{
    if (io->is_queued || io->is_dead)
        return;
    io->is_queued = 1;
    io->next = NULL;
    *loop->queue_end = io;
    loop->queue_end = &io->next;
}

static void
loop_to_grave(struct sl_loop *loop, struct io *io)
{
    io->next = loop->graves;
    loop->graves = io;
}

/* One that waits in the ready queue goes to its grave when its turn there comes. */
void
loop_bury(struct sl_loop *loop, struct io *io)
{
    io->is_dead = 1;
    if (!io->is_queued)
        loop_to_grave(loop, io);
}

void
loop_on_release(struct sl_loop *loop, loop_release_f *f)
{
    loop->release = f;
}

static unsigned
ready_of(uint32_t events)
{
    unsigned what = 0;

    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        what |= SL_READABLE;
    if (events & (EPOLLOUT | EPOLLERR))
        what |= SL_WRITABLE;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        what |= SL_HANGUP;
    return what;
}

static void
loop_events(struct sl_loop *loop, const struct epoll_event *ev, int n)
{
    int i;

    for (i = 0; i < n; i++) {
        struct io *io = ev[i].data.ptr;
        unsigned what = ready_of(ev[i].events);

        io->ready |= (uint8_t)what;
        if (!io->is_dead)
            io->on_ready(loop, io, what);
    }
}

/* Those that wait now, each once; those queued meanwhile wait for the next turn. */
static void
loop_run_queue(struct sl_loop *loop)
{
    struct io *io = loop->queue;

    loop->queue = NULL;
    loop->queue_end = &loop->queue;
    while (io != NULL) {
        struct io *next = io->next;

        io->is_queued = 0;
        if (io->is_dead)
            loop_to_grave(loop, io);
        else
            io->on_ready(loop, io, io->ready);
        io = next;
    }
}

static void
loop_release(struct sl_loop *loop)
{
    while (loop->graves != NULL) {
        struct io *io = loop->graves;

        loop->graves = io->next;
        if (!descriptor_release(io))
            loop->release(loop, io);
    }
}

static void
loop_turn(struct sl_loop *loop)
{
    struct epoll_event ev[LOOP_EVENTS];
    int n = epoll_wait(loop->epfd, ev, LOOP_EVENTS,
                       loop->queue != NULL ? 0 : timers_wait_ms(loop));

    loop_clock(loop);
    loop_events(loop, ev, n);
    if (loop->queue != NULL)
        loop_run_queue(loop);
    timers_run(loop);
    loop_release(loop);
}

/* Others may wait for what a job or a message lets go on. */
static int
loop_is_over(const struct sl_loop *loop)
{
    return loop->is_stopping && loop->n_jobs == 0 &&
           atomic_load_explicit(&loop->inbox, memory_order_relaxed) == NULL;
}

void
loop_run(struct sl_loop *loop)
{
    self = loop;
    loop_clock(loop);
    while (!loop_is_over(loop))
        loop_turn(loop);
    self = NULL;
}

void
loop_stop(struct sl_loop *loop)
{
    loop->is_stopping = 1;
}

/* ---- mail ---- */

void
sl_loop_post(struct sl_loop *loop, struct sl_mail *mail)
{
    struct sl_mail *first = atomic_load_explicit(&loop->inbox, memory_order_relaxed);
    uint64_t one = 1;

    do
        mail->next = first;
    while (!atomic_compare_exchange_weak_explicit(&loop->inbox, &first, mail,
                                                  memory_order_release, memory_order_relaxed));
    if (first == NULL && write(loop->mail_fd, &one, sizeof one) < 0)
        sl_log(SL_ERROR, "SL0301", "a message to thread %u could not wake it: errno %d",
               loop->index, errno);
}

/* The inbox is a stack; its messages are delivered in the order they were sent. */
static void
mail_deliver(struct sl_loop *loop)
{
    struct sl_mail *m, *next, *ordered = NULL;

    m = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire);
    for (; m != NULL; m = next) {
        next = m->next;
        m->next = ordered;
        ordered = m;
    }
    for (; ordered != NULL; ordered = next) {
        next = ordered->next;
        ordered->fn(loop, ordered);
    }
}

static void
mail_arrived(struct sl_loop *loop, struct io *io, unsigned what)
{
    uint64_t count;

    (void)what;
    if (read(io->fd, &count, sizeof count) >= 0 || errno == EAGAIN)
        mail_deliver(loop);
}

int
loop_read_late(struct sl_loop *loop)
{
    if (atomic_load(&loop->inbox) == NULL)
        return 0;
    self = loop;
    mail_deliver(loop);
    self = NULL;
    return 1;
}

/* ---- making and ending ---- */

int
loop_open(struct sl_loop **loopp, unsigned index)
{
    struct sl_loop *loop = aligned_alloc(64, (sizeof *loop + 63) & ~(size_t)63);
    int error;

    if (loop == NULL)
        return ENOMEM;
    memset(loop, 0, sizeof *loop);
    loop->index = index;
    loop->queue_end = &loop->queue;
    loop->scratch = malloc(LOOP_SCRATCH);
    loop->epfd = epoll_create1(EPOLL_CLOEXEC);
    loop->mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop_clock(loop);
    loop->wheel_ms = loop->now_ms - loop->now_ms % TIMER_TICK_MS;
    loop->mail_io.fd = loop->mail_fd;
    loop->mail_io.on_ready = mail_arrived;
    if (loop->scratch == NULL || loop->epfd < 0 || loop->mail_fd < 0 ||
        apr_allocator_create(&loop->allocator) != APR_SUCCESS ||
        loop_add(loop, &loop->mail_io, EPOLLIN) != 0) {
        error = errno != 0 ? errno : ENOMEM;
        loop_close(&loop);
        return error;
    }
    apr_allocator_max_free_set(loop->allocator, POOL_KEPT_BYTES);
    *loopp = loop;
    return 0;
}

void
loop_close(struct sl_loop **loopp)
{
    struct sl_loop *loop = *loopp;

    *loopp = NULL;
    loop_release(loop);
    while (loop->n_pipes > 0) {
        loop->n_pipes--;
        close(loop->pipes[loop->n_pipes][0]);
        close(loop->pipes[loop->n_pipes][1]);
    }
    while (loop->n_free_pools > 0)
        apr_pool_destroy(loop->free_pools[--loop->n_free_pools]);
    slab_end(&loop->conns);
    slab_end(&loop->exchanges);
    slab_end(&loop->pieces);
    bufs_end(loop);
    if (loop->allocator != NULL) /* else it was never quite open */
        apr_allocator_destroy(loop->allocator);
    if (loop->mail_fd >= 0)
        close(loop->mail_fd);
    if (loop->epfd >= 0)
        close(loop->epfd);
    free(loop->scratch);
    free(loop);
}

/* ---- what a loop keeps for reuse ---- */

apr_pool_t *
loop_pool_take(struct sl_loop *loop)
{
    apr_pool_t *pool;

    if (loop->n_free_pools > 0)
        return loop->free_pools[--loop->n_free_pools];
    SL_ASSERT(apr_pool_create_unmanaged_ex(&pool, pool_exhausted, loop->allocator) == APR_SUCCESS);
    return pool;
}

void
loop_pool_give(struct sl_loop *loop, apr_pool_t **poolp)
{
    apr_pool_t *pool = *poolp;

    *poolp = NULL;
    if (loop->n_free_pools == LOOP_POOLS) {
        apr_pool_destroy(pool);
        return;
    }
    apr_pool_clear(pool);
    loop->free_pools[loop->n_free_pools++] = pool;
}

int
loop_pipe_take(struct sl_loop *loop, int fds[2])
{
    if (loop->n_pipes > 0) {
        loop->n_pipes--;
        fds[0] = loop->pipes[loop->n_pipes][0];
        fds[1] = loop->pipes[loop->n_pipes][1];
        return 0;
    }
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
        return -1;
    if (fcntl(fds[1], F_SETPIPE_SZ, LOOP_PIPE_BYTES) < LOOP_PIPE_BYTES) {
        close(fds[0]); /* the user's budget of pipe pages is spent: copying is cheaper than */
        close(fds[1]); /* a small pipe */
        return -1;
    }
    return 0;
}

void
loop_pipe_give(struct sl_loop *loop, int fds[2], int is_empty)
{
    if (is_empty && loop->n_pipes < LOOP_PIPES) {
        loop->pipes[loop->n_pipes][0] = fds[0];
        loop->pipes[loop->n_pipes][1] = fds[1];
        loop->n_pipes++;
        return;
    }
    close(fds[0]);
    close(fds[1]);
}
