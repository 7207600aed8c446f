/* What a store stands on, for programs without the server: a loop that is run by hand, offload
 * work done when it runs, zones that outlive "processes", a disk with faults, and a log that is
 * remembered. */
#ifndef STORE_DOUBLES_H
#define STORE_DOUBLES_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- faults: before the store's sources are read ---- */

static struct {
    int write_error, read_error; /* errno; 0: none */
    int is_short;                /* each call takes a part of what it is given */
    off_t room;                  /* the file has no room beyond it; 0: it has */
    long page;                   /* of the system's memory; 0: as it is */
    /* what happens in the meantime */
    void (*at_fallocate)(void);
    void (*at_pwrite)(off_t at);
} fault;

/* What the disk was asked for. */
static struct {
    atomic_uint n_renewed;      /* ranges whose pages were to leave the file */
    _Atomic(uint64_t) n_read; /* bytes */
} disk_did;

static ssize_t
fault_pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
    struct iovec first = iov[0];

    if (fault.write_error != 0) {
        errno = fault.write_error;
        return -1;
    }
    if (!fault.is_short)
        return pwritev(fd, iov, n, at);
    if (first.iov_len > 1)
        first.iov_len = first.iov_len / 2 + 1;
    return pwritev(fd, &first, 1, at);
}

static ssize_t
fault_pwrite(int fd, const void *from, size_t n, off_t at)
{
    if (fault.at_pwrite != NULL)
        fault.at_pwrite(at);
    if (fault.write_error != 0) {
        errno = fault.write_error;
        return -1;
    }
    return pwrite(fd, from, n, at);
}

static ssize_t
fault_pread(int fd, void *to, size_t n, off_t at)
{
    if (fault.read_error != 0) {
        errno = fault.read_error;
        return -1;
    }
    disk_did.n_read += n;
    return pread(fd, to, fault.is_short && n > 1 ? n / 2 + 1 : n, at);
}

/* A disk that fails has nothing in the page cache either; half of the tests' reads are not there. */
static ssize_t
fault_preadv2(int fd, const struct iovec *to, int n, off_t at, int flags)
{
    static _Thread_local unsigned turn;

    if (fault.read_error != 0 || (to->iov_len > 1 && turn++ % 2 == 1)) {
        errno = EAGAIN;
        return -1;
    }
    return preadv2(fd, to, n, at, flags);
}

static int
fault_fallocate(int fd, int mode, off_t from, off_t n)
{
    disk_did.n_renewed += (mode & FALLOC_FL_ZERO_RANGE) != 0;
    if (fault.at_fallocate != NULL)
        fault.at_fallocate();
    if (fault.room == 0 || from + n <= fault.room)
        return fallocate(fd, mode, from, n);
    errno = ENOSPC;
    return -1;
}

static long
fault_sysconf(int name)
{
    return name == _SC_PAGESIZE && fault.page > 0 ? fault.page : sysconf(name);
}

#define sysconf fault_sysconf
#define fallocate fault_fallocate
#define pwritev fault_pwritev
#define pwrite fault_pwrite
#define pread fault_pread
#define preadv2 fault_preadv2
#include "../../modules/cache/index.c"
#include "../../modules/cache/memory.c"
#include "../../modules/cache/page_cache.c"
#include "../../modules/cache/segment.c"
#include "../../modules/cache/store.c"
#include "../../modules/cache/store_arriving.c"
#include "../../modules/cache/store_disk.c"
#include "../../modules/cache/store_purge.c"
#include "../../modules/cache/store_queue.c"
#include "../../modules/cache/store_read.c"
#include "../../modules/cache/store_segments.c"
#include "../../modules/cache/store_stretch.c"
#include "../../modules/cache/store_walk.c"
#include "../../modules/cache/store_write.c"
#include "../../modules/cache/tag.c"
#undef sysconf
#undef fallocate
#undef pwritev
#undef pwrite
#undef pread
#undef preadv2

/* ---- log, panic, random ---- */

static char said[4096];

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    size_t n = strlen(said);
    va_list args;

    (void)level;
    if (n + 256 > sizeof said)
        return;
    n += (size_t)snprintf(said + n, sizeof said - n, "%s ", id);
    va_start(args, fmt);
    n += (size_t)vsnprintf(said + n, sizeof said - n, fmt, args);
    va_end(args);
    if (n + 2 < sizeof said)
        strcat(said, "\n");
}

_Noreturn void
sl_panic(const char *file, int line, const char *func, const char *what)
{
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, func, what);
    abort();
}

void
sl_random_bytes(void *to, size_t n)
{
    SL_ASSERT(getrandom(to, n, 0) == (ssize_t)n);
}

/* ---- the loop: its mail, the offload work, and then its timer are done by run() ---- */

struct sl_loop {
    pthread_mutex_t lock;
    struct sl_mail *first, **last;
    struct sl_offload *jobs[64];
    unsigned n_jobs;
    struct sl_timer *timer;
};
static struct sl_loop the_loop = {.lock = PTHREAD_MUTEX_INITIALIZER, .last = &the_loop.first};
static _Thread_local struct sl_loop *here = &the_loop; /* this thread's */

void
sl_loop_post(struct sl_loop *loop, struct sl_mail *mail)
{
    pthread_mutex_lock(&loop->lock);
    mail->next = NULL;
    *loop->last = mail;
    loop->last = &mail->next;
    pthread_mutex_unlock(&loop->lock);
}

int
sl_offload(struct sl_loop *loop, struct sl_offload *job)
{
    if (loop->n_jobs == 64)
        return -1;
    job->loop = loop;
    loop->jobs[loop->n_jobs++] = job;
    return 0;
}

static int
run_mail(struct sl_loop *loop)
{
    struct sl_mail *mail;

    pthread_mutex_lock(&loop->lock);
    mail = loop->first;
    if (mail != NULL && (loop->first = mail->next) == NULL)
        loop->last = &loop->first;
    pthread_mutex_unlock(&loop->lock);
    if (mail != NULL)
        mail->fn(loop, mail);
    return mail != NULL;
}

static int
run_job(struct sl_loop *loop)
{
    struct sl_offload *job;

    if (loop->n_jobs == 0)
        return 0;
    job = loop->jobs[0];
    memmove(loop->jobs, loop->jobs + 1, --loop->n_jobs * sizeof job);
    job->work(job);
    job->done(loop, job);
    return 1;
}

int64_t
sl_loop_now(const struct sl_loop *loop)
{
    (void)loop;
    return 0;
}

void
sl_timer_set(struct sl_loop *loop, struct sl_timer *timer, int64_t due)
{
    (void)due;
    SL_ASSERT(loop->timer == NULL || loop->timer == timer);
    loop->timer = timer;
}

static int
run_timer(struct sl_loop *loop)
{
    struct sl_timer *timer = loop->timer;

    if (timer == NULL)
        return 0;
    loop->timer = NULL;
    timer->fn(loop, timer);
    return 1;
}

/* Until nothing is left to do. */
static inline void
run(void)
{
    while (run_mail(here) || run_job(here) || run_timer(here))
        ;
}

/* ---- zones ---- */

#define WORLD_SLOT 65536
#ifndef WORLD_SHARED
#define WORLD_SHARED (64 << 20)
#endif
struct world {
    _Atomic(uint64_t) alive;
    char pad[4088];
    char slots[SL_PLACES][WORLD_SLOT];
    _Alignas(4096) char shared[WORLD_SHARED];
};
static struct world *world;
static struct sl_slots world_slots;

static void
world_place(unsigned place)
{
    world_slots = (struct sl_slots){world->shared, world->slots[0], WORLD_SLOT, place};
    atomic_fetch_or(&world->alive, UINT64_C(1) << place);
}

/* What the master does when a process has died. */
static inline void
world_bury(unsigned place)
{
    memset(world->slots[place], 0, WORLD_SLOT);
    atomic_fetch_and(&world->alive, ~(UINT64_C(1) << place));
}

/* The machine starts anew: nothing in memory is left. */
static void
world_begin(void)
{
    if (world != NULL)
        munmap(world, sizeof *world);
    world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    world_place(0);
}

const struct sl_slots *
sl_zone_slots(const char *name, unsigned layout, size_t shared_size, size_t slot_size,
              int *is_fresh)
{
    (void)name;
    (void)layout;
    *is_fresh = 0;
    SL_ASSERT(shared_size <= WORLD_SHARED && slot_size <= WORLD_SLOT);
    return &world_slots;
}

uint64_t
sl_places_others(void)
{
    return atomic_load(&world->alive) & ~(UINT64_C(1) << world_slots.mine);
}

/* The one store of a driver that hands it bytes: in memory, its files empty ones. */
static inline struct store *
store_bare(void)
{
    static struct store_options options = {.path = "x", .disk_size = STORE_DISK_MIN};
    static struct store *s;

    if (s != NULL)
        return s;
    world_begin();
    s = calloc(1, sizeof *s);
    s->path = strdup("x");
    s->memory = memory_open(1 << 20);
    queue_open(s);
    layout_of(&options, &s->layout);
    if (zone_open(s) != 0)
        abort();
    s->fd_objects = memfd_create("objects", 0);
    s->fd_index = memfd_create("index", 0);
    return s;
}

#endif
