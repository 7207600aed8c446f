/* The world a store under test lives in: a folder, processes that begin, end and are killed, and
 * objects whose content tells what they are. */
#ifndef STORE_WORLD_H
#define STORE_WORLD_H

#include "unit.h"

#include "store_doubles.h"

#include <ftw.h>
#include <signal.h>
#include <sys/wait.h>

/* ---- a store in a folder ---- */

static char folder[64];
static struct store_options options = {.path = folder, .disk_size = 16 << 20, .memory_size = 4 << 20};
static struct store *store;
static int64_t now_ms;
static unsigned run_wanted; /* chunks a record, as if segments were larger; 0: as they are */

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
    memset(&disk_did, 0, sizeof disk_did);
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
    if (run_wanted > 0)
        store->layout.run = run_wanted;
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
    here->timer = NULL;
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

static inline struct store_new
new_of(const struct made *m, int64_t size, const uint64_t *tags, uint32_t n_tags)
{
    return (struct store_new){.key = sl_span(m->key),
                              .meta = sl_span(m->meta),
                              .tags = tags,
                              .n_tags = n_tags,
                              .stamp = store_stamp(store),
                              .flags = 7,
                              .size = size};
}

static inline struct store_writer *
writer_of(const struct made *m, int64_t size, const uint64_t *tags, uint32_t n_tags)
{
    struct store_new n = new_of(m, size, tags, n_tags);

    return store_writer_open(store, here, &n);
}

static inline int
put_whole(const struct made *m, const uint64_t *tags, uint32_t n_tags)
{
    struct store_new n = new_of(m, (int64_t)m->n, tags, n_tags);
    struct store_object *o = store_whole(store, &n, (struct sl_span){m->body, m->n});

    if (o == NULL)
        return -1;
    store_keep(store, here, o);
    store_drop(&o);
    return 0;
}

/* Tagged with its host, its key and t0, t1 or t2; every second one in one step, if it may. */
static inline int
put_object(unsigned i, unsigned version, size_t n)
{
    struct made m = make(i, version, n);
    char host[16], named[16];
    uint64_t tags[3];
    struct store_writer *w;
    int is_whole = n <= STORE_INLINE && i % 2 == 1, rc = -1;

    snprintf(host, sizeof host, "h%u", i % 3);
    snprintf(named, sizeof named, "t%u", i % 3);
    tags[0] = store_host_tag(store, sl_span(host));
    tags[1] = store_key_tag(store_hash(store, sl_span(m.key)));
    tags[2] = store_tag(store, sl_span(named));
    if (is_whole)
        rc = put_whole(&m, tags, 3);
    w = is_whole ? NULL : writer_of(&m, (int64_t)n, tags, 3);
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

    t.get.hash = store_hash(store, t.get.key);
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
    char meta[64] = "", *buffer = malloc(SEGMENT_RUN * STORE_INLINE);
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
