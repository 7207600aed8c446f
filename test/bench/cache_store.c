/* What the cache's store costs, from a thousand objects to a million, or as many as are asked for:
 * finding one in the index, reading it from the disk's cache, missing, a hit in memory, and a start.
 * With -i, only finds in an index that is filled without objects, for callgrind to count.  With -k, a
 * start after a process that filled and read was killed.  Run by test/bench/cache. */
#define WORLD_SHARED (192 << 20)
#include "../unit/store_doubles.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define BODY 900
#define BODY_OF_MANY 100 /* beyond a million objects: the index is what counts */
#define ROUNDS 200000
#define READS 20000
#define LOOK_UPS 10000
#define TOGETHER 640 /* objects, of some 768 KiB */

static struct store *store;
static size_t body_size = BODY;
static struct store_object *found_object;

static double
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct sl_span
key_of(uint64_t i, char text[64])
{
    return (struct sl_span){text, (size_t)snprintf(text, 64, "https://www.example.com/a/%llu",
                                                   (unsigned long long)i)};
}

static void
store_one(uint64_t i)
{
    char key[64], body[BODY];
    struct store_new n = {.key = key_of(i, key), .meta = SL_SPAN("meta"), .size = (int64_t)body_size,
                          .stamp = store_stamp(store)};
    struct store_writer *w = store_writer_open(store, here, &n);

    memset(body, (int)i, sizeof body);
    SL_ASSERT(w != NULL && store_append(w, body, body_size) != SL_FLOW_GONE);
    store_commit(&w);
}

static void
found(struct sl_loop *loop, struct store_get *g, struct store_object *o)
{
    (void)loop;
    (void)g;
    found_object = o;
}

static int
get(uint64_t i)
{
    char key[64];
    struct store_get g = {.key = key_of(i, key), .done = found};
    int is_found;

    g.hash = store_hash(store, g.key);
    if (store_get(store, here, &g, &found_object) == STORE_WAIT)
        run();
    is_found = found_object != NULL;
    if (is_found)
        store_drop(&found_object);
    return is_found;
}

/* ns each; step spreads what is asked for. */
static double
gets(uint64_t from, uint64_t n, uint64_t times, uint64_t expected)
{
    double began = now_ns();
    uint64_t i, sum = 0;

    for (i = 0; i < times; i++)
        sum += (uint64_t)get(from + i * 7919 % n);
    SL_ASSERT(sum * 1000 >= expected * 990);
    return (now_ns() - began) / (double)times;
}

/* What is done to find out where an object is; callgrind counts what is done in here. */
__attribute__((noinline)) static uint64_t
look_up(const struct sl_span *keys, unsigned n)
{
    uint64_t entries[INDEX_FOUND_MAX], sum = 0;
    unsigned i;

    for (i = 0; i < n; i++)
        sum += index_find(&store->index, store_hash(store, keys[i]), entries);
    return sum;
}

static void
count_look_ups(struct store_options *o, uint64_t n)
{
    static char texts[LOOK_UPS][64];
    struct sl_span keys[LOOK_UPS];
    char key[64];
    uint64_t i;

    o->max_objects = n;
    o->disk_size = n * 1300 < STORE_DISK_MIN ? STORE_DISK_MIN : n * 1300;
    world_begin();
    store = store_open(o);
    for (i = 0; i < n; i++) {
        struct store_hash hash = store_hash(store, key_of(i, key));

        index_put(&store->index, hash, entry_make(hash, (i + 1) * SEGMENT_UNIT, BODY));
    }
    for (i = 0; i < LOOK_UPS; i++)
        keys[i] = key_of(i * 7919 % n, texts[i]);
    SL_ASSERT(look_up(keys, LOOK_UPS) >= LOOK_UPS);
    store_close(&store);
}

static double
index_finds(uint64_t n)
{
    double began;
    uint64_t entries[INDEX_FOUND_MAX], i, sum = 0;
    struct store_hash *hashes = calloc(ROUNDS, sizeof *hashes);
    char key[64];

    for (i = 0; i < ROUNDS; i++)
        hashes[i] = store_hash(store, key_of(i * 7919 % n, key));
    began = now_ns();
    for (i = 0; i < ROUNDS; i++)
        sum += index_find(&store->index, hashes[i], entries);
    began = (now_ns() - began) / ROUNDS;
    SL_ASSERT(sum * 100 >= ROUNDS * UINT64_C(99));
    free(hashes);
    return began;
}

static void
options_for(struct store_options *o, uint64_t n)
{
    body_size = n > 1000000 ? BODY_OF_MANY : BODY;
    o->max_objects = n;
    o->disk_size = n * (body_size + 400) < STORE_DISK_MIN ? STORE_DISK_MIN : n * (body_size + 400);
    o->memory_size = 0;
}

/* Stores as fast as it can, as much together as a server writes at once; the index is copied once a
 * second. */
static void
fill(uint64_t n)
{
    double ticked = now_ns();
    uint64_t i;

    for (i = 0; i < n; i++) {
        store_one(i);
        if (i % TOGETHER != TOGETHER - 1)
            continue;
        run();
        if (now_ns() - ticked >= 1e9) {
            ticked = now_ns();
            store_tick(store, here, (int64_t)(ticked / 1e6));
            run();
        }
    }
    run();
}

/* The pages of files leave memory; 0: that is not for everybody. */
static int
page_cache_drop(void)
{
    int fd, is_done;

    sync();
    fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
    is_done = fd >= 0 && write(fd, "1", 1) == 1;
    if (fd >= 0)
        close(fd);
    return is_done;
}

/* From nothing in memory to the first object, and to all of the index. */
static void
start_killed(struct store_options *o, uint64_t n, const char *disk)
{
    double began, opened, found_at, ticked;
    uint64_t i, n_found = 0, n_read;

    world_begin();
    disk_did.n_read = 0;
    o->memory_size = 64 << 20;
    began = now_ns();
    store = store_open(o);
    opened = now_ns();
    n_read = disk_did.n_read;
    for (i = 0; i < n && !get(i * 7919 % n); i++)
        ;
    found_at = now_ns();
    store_tick(store, here, 1000);
    run();
    ticked = now_ns();
    for (i = 0; i < n; i++)
        n_found += (uint64_t)get(i);
    printf("%8llu %-6s %10.1f %10.1f %10.1f %10.1f %12llu\n", (unsigned long long)n, disk,
           (opened - began) / 1e6, (double)n_read / 1e6, (found_at - began) / 1e6,
           (ticked - began) / 1e6, (unsigned long long)n_found);
    store_close(&store);
}

/* Who fills says when it is done, goes on, and is killed in the middle. */
static void
filled_and_killed(struct store_options *o, uint64_t n)
{
    int done[2], status;
    char byte;
    pid_t pid;

    options_for(o, n);
    o->disk_size += o->disk_size / 4; /* what is replaced takes room, too */
    world_begin();
    SL_ASSERT(pipe(done) == 0 && (pid = fork()) >= 0);
    if (pid == 0) {
        store = store_open(o);
        fill(n);
        SL_ASSERT(write(done[1], "", 1) == 1);
        for (;; usleep(1000))
            fill(TOGETHER / 8); /* some are replaced */
    }
    SL_ASSERT(read(done[0], &byte, 1) == 1);
    usleep(300000);
    kill(pid, SIGKILL);
    SL_ASSERT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    close(done[0]);
    close(done[1]);
}

static void
files_remove(const struct store_options *o)
{
    static const char *const names[] = {"index", "objects"};
    char path[4096];
    unsigned i;

    for (i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", o->path, names[i]);
        unlink(path);
    }
}

static void
measure_killed(struct store_options *o, uint64_t n)
{
    filled_and_killed(o, n);
    start_killed(o, n, "cached");
    files_remove(o);
    filled_and_killed(o, n);
    if (page_cache_drop())
        start_killed(o, n, "cold");
    else
        puts("the page cache cannot be dropped here: only root may");
    files_remove(o);
}

static void
measure(struct store_options *o, uint64_t n)
{
    struct store_stats st;
    double index, read, miss, hit, opened, ticked;
    uint64_t i;

    options_for(o, n);
    world_begin();
    store = store_open(o);
    for (i = 0; i < n; i++) {
        store_one(i);
        if (i % 32 == 31)
            run();
    }
    run();
    store_tick(store, here, 1000);
    run();
    index = index_finds(n);
    read = gets(0, n, READS, READS);
    miss = gets(1u << 30, n, ROUNDS, 0);
    store_stats(store, &st);
    store_close(&store);

    world_begin(); /* everything was killed */
    o->memory_size = 64 << 20;
    opened = now_ns();
    store = store_open(o);
    ticked = now_ns();
    store_tick(store, here, 1000);
    run();
    hit = now_ns();
    opened = (ticked - opened) / 1e6;
    ticked = (hit - ticked) / 1e6;
    gets(0, 100, 1000, 1000);
    hit = gets(0, 100, ROUNDS, ROUNDS);
    store_close(&store);
    printf("%8llu %9.0f %9.0f %9.0f %9.0f %10.1f %10.1f %10.1f\n", (unsigned long long)n, index,
           miss, hit, read, opened, ticked, (double)st.index_bytes / (double)st.disk_objects);
}

int
main(int argc, char **argv)
{
    static const uint64_t counts[] = {1000, 10000, 100000, 1000000};
    struct store_options o = {.path = argc > 1 ? argv[1] : "."};
    int i;

    if (argc > 3 && strcmp(argv[2], "-i") == 0) {
        count_look_ups(&o, strtoull(argv[3], NULL, 10));
        return 0;
    }
    if (argc > 2 && strcmp(argv[2], "-k") == 0) {
        setlinebuf(stdout);
        puts(" objects files     open,ms    read,MB  first hit,ms  warm,ms        found");
        for (i = 3; i < argc; i++)
            measure_killed(&o, strtoull(argv[i], NULL, 10));
        if (argc == 3)
            measure_killed(&o, 1000000);
        return 0;
    }
    puts(" objects  index,ns   miss,ns    hit,ns   read,ns    open,ms   warm,ms  index B/object");
    for (i = 2; i < argc; i++)
        measure(&o, strtoull(argv[i], NULL, 10));
    for (i = 0; argc <= 2 && i < (int)(sizeof counts / sizeof counts[0]); i++)
        measure(&o, counts[i]);
    return 0;
}
