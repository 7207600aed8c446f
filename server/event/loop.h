/* The loop of one thread: readiness of descriptors, timers, mail, and the free lists that
 * make the path of a request free of the kernel's allocator.
 *
 * Invariants.  An object is touched on its loop's thread only.  A descriptor is registered
 * once, edge-triggered (listeners and the mailbox: level-triggered); what it said last is
 * latched in io->ready until a read or write comes back with AGAIN or a short count.  An
 * io that was buried gets no more events, but its memory stays until the turn is over. */
#ifndef EVENT_LOOP_H
#define EVENT_LOOP_H

#include "sluice/loop.h"

#include <apr_allocator.h>

#include "sluice/net.h"

#include <stdatomic.h>
#include <sys/epoll.h>

#define LOOP_EVENTS 128     /* events taken from the kernel at once */
#define LOOP_SCRATCH 65536  /* bytes of per-thread scratch, valid within one call */
#define LOOP_POOLS 64       /* cleared request pools kept */
#define LOOP_PIPES 8
#define LOOP_PIPE_BYTES 262144 /* what each takes */
#define TIMER_TICK_MS 64
#define TIMER_SLOTS 2048    /* 131 s; later ones are filed in the last slot and moved on */

/* Something with a descriptor.  Embedded first in its owner. */
struct io {
    int fd;
    uint8_t ready;     /* SL_READABLE | SL_WRITABLE | SL_HANGUP, latched */
    uint8_t is_queued; /* on the ready queue */
    uint8_t is_dead;   /* buried: skip its events */
    void (*on_ready)(struct sl_loop *loop, struct io *io, unsigned what);
    struct io *next; /* ready queue, graveyard or free list */
};

/* A free list of equal objects, cut from slabs of about 64 KiB; never given back. */
struct slab {
    size_t size;
    void *free;
    void *blocks; /* all memory of it */
};

struct sl_loop {
    int epfd;
    int mail_fd; /* eventfd */
    unsigned index;
    int is_stopping;
    unsigned n_jobs; /* offloaded, and not back */
    int64_t now_ms;  /* CLOCK_MONOTONIC of this wake */
    int64_t wall_us; /* CLOCK_REALTIME of this wake */
    struct io *queue, **queue_end; /* the ready queue */
    struct io *graves;
    struct subrequest *subrequests; /* under way */
    struct subrequest *due_subrequests; /* asked for by hooks that are not over */
    unsigned n_running;                 /* requests whose hooks are on the stack */
    void (*release)(struct sl_loop *loop, struct io *io);
    struct io mail_io;
    char *scratch; /* LOOP_SCRATCH bytes */
    apr_allocator_t *allocator; /* without a mutex */
    apr_pool_t *free_pools[LOOP_POOLS]; /* see loop_pool_take() */
    unsigned n_free_pools;
    struct buf_list { struct sl_buf *free; unsigned n; } bufs[2]; /* small, large */
    struct slab conns, exchanges, pieces; /* net/conn.c sets their sizes */
    _Atomic(int64_t) *counters; /* this thread's row; runtime/counter.h */
    _Atomic(int64_t) *n_requests; /* the cell in it that every request touches */
    struct sl_worker *worker;
    struct request_slots *tokens; /* http/suspend.c */
    struct sl_field *parsed;      /* a head being parsed: FIELDS_MAX of them */
    struct apr_bucket_alloc_t *buckets; /* http/filter.c; NULL: none yet */
    struct coders *coders;        /* http/coders.c; NULL: none yet */
    struct sl_conn *clients;      /* net/conn.c: every client connection */
    struct sl_conn *upstreams;    /* and every connection to a server */
    char http_date[32];
    int64_t http_date_s;
    _Atomic(struct sl_mail *) inbox;
    atomic_int n_conns; /* read by other threads when they accept */
    int pipes[LOOP_PIPES][2];
    unsigned n_pipes;
    /* timers: one wheel, lazily re-armed */
    int64_t wheel_ms; /* the time the wheel has run to, a multiple of the tick */
    struct sl_timer *wheel[TIMER_SLOTS];
    uint64_t wheel_used[TIMER_SLOTS / 64];
};

/* Makes a loop; 0 or an errno.  The thread that runs it must call loop_run itself. */
int loop_open(struct sl_loop **loop, unsigned index);
void loop_close(struct sl_loop **loop);
/* Runs until loop_stop(); sl_loop_self() is this loop on this thread meanwhile. */
void loop_run(struct sl_loop *loop);
/* From its own thread: it offloads no more, and returns when its jobs are back and its mail is read. */
void loop_stop(struct sl_loop *loop);
/* Reads what came when it had returned; 0: nothing.  Any thread, while none of the loops runs. */
int loop_read_late(struct sl_loop *loop);

/* Registers fd for reading and writing, edge-triggered, with EPOLLRDHUP.  0 or errno. */
int loop_watch(struct sl_loop *loop, struct io *io);
/* For listeners: level-triggered, EPOLLEXCLUSIVE, reading only. */
int loop_watch_listener(struct sl_loop *loop, struct io *io);
/* Before a descriptor that another process shares is closed, and to stop accepting. */
void loop_unwatch(struct sl_loop *loop, struct io *io);
/* Calls on_ready(io->ready) in this turn or the next, behind those already waiting: for
 * more than a turn's share, bytes pending in a transport, and events made up by us. */
void loop_queue(struct sl_loop *loop, struct io *io);
/* Closes nothing; after the turn release(io) is called.  io->next is used. */
void loop_bury(struct sl_loop *loop, struct io *io);
/* Set by the owner of buried objects: called once for each after the turn. */
typedef void loop_release_f(struct sl_loop *loop, struct io *io);
void loop_on_release(struct sl_loop *loop, loop_release_f *f);

/* The size of objects that begin with a cache line: an odd number of them, so that the first lines of
 * many do not fall into the same cache sets. */
static inline size_t
slab_lines(size_t size)
{
    return ((size + 63) / 64 | 1) * 64;
}

void *slab_take(struct slab *slab);
void slab_give(struct slab *slab, void *object);
void slab_end(struct slab *slab);
/* net/buf.c: frees the loop's buffers. */
void bufs_end(struct sl_loop *loop);

/* Request pools: unmanaged APR pools on the loop's allocator, kept for reuse. */
apr_pool_t *loop_pool_take(struct sl_loop *loop);
void loop_pool_give(struct sl_loop *loop, apr_pool_t **pool); /* clears it */

/* A pipe for splicing, empty; 0 or -1 when none may be had.  Give back only empty ones. */
int loop_pipe_take(struct sl_loop *loop, int fds[2]);
void loop_pipe_give(struct sl_loop *loop, int fds[2], int is_empty);

/* descriptor.c: frees what a module's descriptor was; 0: it is no such one. */
int descriptor_release(struct io *io);

/* Offload threads of the process. */
int offload_open(unsigned n_threads); /* 0, or -1 */
void offload_close(void);

/* timer.c, for the loop: fires what is due; returns ms until the next, -1: none. */
void timers_run(struct sl_loop *loop);
int timers_wait_ms(const struct sl_loop *loop);

#endif
