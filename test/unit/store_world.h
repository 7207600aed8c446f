/* The world a store under test lives in: a loop that is run by hand, offload work done when it
 * runs, zones that outlive "processes", a disk with faults, and a log that is remembered. */
#ifndef STORE_WORLD_H
#define STORE_WORLD_H

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- faults: before the store's sources are read ---- */

static struct {
    int write_error, read_error; /* errno; 0: none */
    int is_short;                /* each call takes a part of what it is given */
} fault;

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
    return pread(fd, to, fault.is_short && n > 1 ? n / 2 + 1 : n, at);
}

#define pwritev fault_pwritev
#define pwrite fault_pwrite
#define pread fault_pread
#include "../../modules/cache/index.c"
#include "../../modules/cache/memory.c"
#include "../../modules/cache/segment.c"
#include "../../modules/cache/store.c"
#include "../../modules/cache/store_disk.c"
#include "../../modules/cache/store_purge.c"
#include "../../modules/cache/store_queue.c"
#include "../../modules/cache/store_read.c"
#include "../../modules/cache/store_segments.c"
#include "../../modules/cache/store_write.c"
#include "../../modules/cache/tag.c"
#undef pwritev
#undef pwrite
#undef pread

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

/* ---- the loop: its mail and the offload work are done by run() ---- */

struct sl_loop {
    pthread_mutex_t lock;
    struct sl_mail *first, **last;
    struct sl_offload *jobs[64];
    unsigned n_jobs;
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

/* Until nothing is left to do. */
static inline void
run(void)
{
    while (run_mail(here) || run_job(here))
        ;
}

/* ---- zones ---- */

#define WORLD_SLOT 65536
#define WORLD_SHARED (64 << 20)
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

/* ---- a store in a folder ---- */

static char folder[64];
static struct store_options options = {.path = folder, .disk_size = 16 << 20, .memory_size = 4 << 20};
static struct store *store;
static int64_t now_ms;

static int
file_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline int
folder_make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sluice-store-XXXXXX");
    memset(&fault, 0, sizeof fault);
    said[0] = '\0';
    options = (struct store_options){
        .path = folder, .disk_size = 16 << 20, .memory_size = 4 << 20};
    world_begin();
    return mkdtemp(folder) == NULL;
}

static inline int
folder_remove(void **state)
{
    (void)state;
    return nftw(folder, file_remove, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void
begin(void)
{
    store = store_open(&options);
    SL_ASSERT(store != NULL);
}

static inline void
tick(void)
{
    now_ms += 1000;
    store_tick(store, here, now_ms);
    run();
}

static inline void
end(void)
{
    run();
    store_close(&store);
}

/* The process is killed: what it had in memory is gone, its zone is not. */
static inline void
killed(void)
{
    store->fd_index = store->fd_index < 0 ? -1 : (close(store->fd_index), -1);
    store->fd_objects = store->fd_objects < 0 ? -1 : (close(store->fd_objects), -1);
    store->is_closing = 1;
    atomic_store(&store->disk, DISK_NONE); /* store_close() then does nothing to the world */
    store->current = -1;
    here->n_jobs = 0;
    store_close(&store);
    world_bury(world_slots.mine);
    world_place(world_slots.mine);
}

/* All processes are, the master too. */
static inline void
all_killed(void)
{
    killed();
    world_begin();
}

/* ---- objects whose content tells what they are ---- */

struct made {
    char key[64], meta[64];
    char *body;
    size_t n;
};

static inline struct made
make(unsigned i, unsigned version, size_t n)
{
    struct made m = {.body = malloc(n + 8), .n = n};
    uint64_t x = i * UINT64_C(0x9e3779b97f4a7c15) + version;
    size_t at;

    snprintf(m.key, sizeof m.key, "http://h%u/dir%u/%u", i % 3, i % 7, i);
    snprintf(m.meta, sizeof m.meta, "%u %u %zu", i, version, n);
    for (at = 0; at < n; at += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(m.body + at, &x, 8);
    }
    return m;
}

static inline void
unmake(struct made *m)
{
    free(m->body);
}

static inline struct store_writer *
writer_of(const struct made *m, int64_t size, const uint64_t *tags, uint32_t n_tags)
{
    struct store_new n = {.key = sl_span(m->key),
                          .meta = sl_span(m->meta),
                          .tags = tags,
                          .n_tags = n_tags,
                          .stamp = store_stamp(store),
                          .flags = 7,
                          .size = size};

    return store_writer_open(store, here, &n);
}

/* Tagged with its host. */
static inline int
put_object(unsigned i, unsigned version, size_t n)
{
    struct made m = make(i, version, n);
    char host[16];
    uint64_t tag;
    struct store_writer *w;
    int rc = -1;

    snprintf(host, sizeof host, "h%u", i % 3);
    tag = store_tag(store, sl_span(host));
    w = writer_of(&m, (int64_t)n, &tag, 1);
    if (w != NULL) {
        size_t at = 0;

        while (at < n) {
            size_t part = n - at < 100000 ? n - at : 100000;

            if (store_append(w, m.body + at, part) == SL_FLOW_GONE)
                break;
            at += part;
        }
        if (at == n) {
            store_commit(&w);
            rc = 0;
        } else
            store_abort(&w);
    }
    unmake(&m);
    return rc;
}

struct getting {
    struct store_get get;
    struct store_object *found;
    int is_done;
};

static inline void
got(struct sl_loop *loop, struct store_get *g, struct store_object *found)
{
    struct getting *t = (struct getting *)g;

    (void)loop;
    t->found = found;
    t->is_done = 1;
}

static inline struct store_object *
find(const char *key)
{
    struct getting t = {.get = {.key = sl_span(key), .done = got}};

    if (store_get(store, here, &t.get, &t.found) == STORE_WAIT) {
        run();
        SL_ASSERT(t.is_done);
    }
    return t.found;
}

struct reading {
    struct store_read read;
    enum store_io io;
    int is_done;
};

static inline void
was_read(struct sl_loop *loop, struct store_read *r, enum store_io io)
{
    struct reading *t = (struct reading *)r;

    (void)loop;
    t->io = io;
    t->is_done = 1;
}

/* 0: the body is what the meta says; 1: it broke off; -1: it is WRONG. */
static inline int
check_body(struct store_object *o, enum store_how how)
{
    unsigned i = 0, version = 0;
    size_t n = 0;
    char meta[64] = "", *buffer = malloc(STORE_INLINE);
    struct reading t = {.read = {.object = o, .how = how, .done = was_read}};
    struct made m;
    int rc = 0;

    memcpy(meta, o->meta.at, o->meta.n < 63 ? o->meta.n : 63);
    SL_ASSERT(sscanf(meta, "%u %u %zu", &i, &version, &n) == 3);
    m = make(i, version, n);
    if (!sl_span_eq(o->key, sl_span(m.key)) || o->flags != 7)
        rc = -1;
    while (rc == 0) {
        t.is_done = 0;
        t.io = store_read(store, here, &t.read);
        if (t.io == STORE_IO_WAIT) {
            run();
            SL_ASSERT(t.is_done);
        }
        if (t.io != STORE_IO_OK)
            break;
        if (t.read.piece.at == NULL)
            SL_ASSERT(pread(t.read.piece.fd, buffer, t.read.piece.n, t.read.piece.offset) ==
                      (ssize_t)t.read.piece.n);
        if (t.read.from + t.read.piece.n > n ||
            memcmp(t.read.piece.at != NULL ? t.read.piece.at : buffer, m.body + t.read.from,
                   t.read.piece.n) != 0)
            rc = -1;
        t.read.from += t.read.piece.n;
        store_piece_drop(&t.read.piece);
    }
    if (rc == 0 && t.io == STORE_IO_BROKEN)
        rc = 1;
    else if (rc == 0 && t.read.from != n)
        rc = -1;
    unmake(&m);
    free(buffer);
    return rc;
}

/* 1: found and right; 0: not found, or it broke off; -1: WRONG. */
static inline int
serve(unsigned i, enum store_how how)
{
    struct made m = make(i, 0, 0);
    struct store_object *o = find(m.key);
    int rc = 0;

    unmake(&m);
    if (o == NULL)
        return 0;
    rc = check_body(o, how);
    store_drop(&o);
    return rc < 0 ? -1 : rc == 0;
}

static inline unsigned
version_of(unsigned i)
{
    struct made m = make(i, 0, 0);
    struct store_object *o = find(m.key);
    char meta[64] = "";
    unsigned number = 0, version = 0;

    unmake(&m);
    if (o == NULL)
        return 0;
    memcpy(meta, o->meta.at, o->meta.n < 63 ? o->meta.n : 63);
    SL_ASSERT(sscanf(meta, "%u %u", &number, &version) == 2);
    store_drop(&o);
    return version;
}

/* How many of the first n are served; every one of them is right. */
static inline unsigned
serve_all(unsigned n, enum store_how how)
{
    unsigned i, sum = 0;

    for (i = 0; i < n; i++) {
        int rc = serve(i, how);

        SL_ASSERT(rc >= 0);
        sum += (unsigned)rc;
    }
    return sum;
}

static inline struct store_stats
stats(void)
{
    struct store_stats st;

    store_stats(store, &st);
    return st;
}

#endif
