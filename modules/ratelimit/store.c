/* See store.h.  Each loop has a ring that it alone writes and the store's thread alone reads. */
#include "store.h"

#include <apr_strings.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_ROOM 8192u /* a power of two */
#define KEYS_MOST (KEYS_ROOM / 2)
#define PORT_DEFAULT 6379

struct ring {
    _Alignas(64) _Atomic(uint32_t) head; /* the loop's */
    _Alignas(64) _Atomic(uint32_t) tail; /* the thread's */
    uint64_t hashes[RING_ROOM];
};

struct store {
    const struct store_zone *zone;
    struct ring *rings;
    unsigned n_rings;
    int wake_fd;
    _Atomic(int) is_asleep, is_stopping;
    pthread_t thread;
    /* the thread's own */
    void *link; /* NULL: there is no connection */
    int is_down;
    struct store_key keys[KEYS_ROOM];
    unsigned n_keys;
};

/* ---- its address ---- */

const char *
store_parse(apr_pool_t *pool, const char *text, struct store_address *address)
{
    static const char expected[] = "expected redis://HOST:PORT/DB";
    char *rest, *at, *end;

    if (strncmp(text, "redis://", 8) != 0)
        return expected;
    *address = (struct store_address){.port = PORT_DEFAULT};
    rest = apr_pstrdup(pool, text + 8);
    if ((at = strrchr(rest, '@')) != NULL) {
        *at = '\0';
        if (*rest != ':')
            return "expected :PASSWORD before the @";
        address->password = rest + 1;
        rest = at + 1;
    }
    address->url = apr_pstrcat(pool, "redis://", rest, NULL);
    if ((at = strchr(rest, '/')) != NULL) {
        *at++ = '\0';
        address->db = (int)strtol(at, &end, 10);
        if (*end != '\0' || address->db < 0)
            return expected;
    }
    if ((at = strrchr(rest, ':')) != NULL) {
        *at++ = '\0';
        address->port = (int)strtol(at, &end, 10);
        if (*at == '\0' || *end != '\0' || address->port < 1 || address->port > 65535)
            return expected;
    }
    address->host = rest;
    return *rest != '\0' ? NULL : expected;
}

/* ---- loops ---- */

int
store_tell(struct store *s, unsigned loop, uint64_t hash)
{
    struct ring *r = &s->rings[loop];
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

    if (head - atomic_load_explicit(&r->tail, memory_order_acquire) == RING_ROOM)
        return 0;
    r->hashes[head % RING_ROOM] = hash;
    atomic_store(&r->head, head + 1); /* before is_asleep is looked at */
    if (atomic_load(&s->is_asleep) && atomic_exchange(&s->is_asleep, 0))
        eventfd_write(s->wake_fd, 1);
    return 1;
}

/* ---- the thread ---- */

static int
rings_are_empty(struct store *s)
{
    unsigned i;

    for (i = 0; i < s->n_rings; i++)
        if (atomic_load(&s->rings[i].head) !=
            atomic_load_explicit(&s->rings[i].tail, memory_order_relaxed))
            return 0;
    return 1;
}

static void
keys_add(struct store *s, uint64_t hash)
{
    unsigned i = (unsigned)hash % KEYS_ROOM;

    while (s->keys[i].n != 0 && s->keys[i].hash != hash)
        i = (i + 1) % KEYS_ROOM;
    s->n_keys += s->keys[i].n == 0;
    s->keys[i].hash = hash;
    s->keys[i].n++;
}

/* As many as are told in one go; the rest waits for the next. */
static void
keys_collect(struct store *s)
{
    unsigned i;

    memset(s->keys, 0, sizeof s->keys);
    s->n_keys = 0;
    for (i = 0; i < s->n_rings; i++) {
        struct ring *r = &s->rings[i];
        uint32_t head = atomic_load(&r->head),
                 tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

        for (; tail != head && s->n_keys < KEYS_MOST; tail++)
            keys_add(s, r->hashes[tail % RING_ROOM]);
        atomic_store_explicit(&r->tail, tail, memory_order_release);
    }
}

static int64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t); /* sl_loop_now()'s clock */
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void
keys_raise(const struct store *s)
{
    const struct store_zone *z = s->zone;
    uint64_t now = rate_ticks(z->rate, now_ms());
    unsigned i;

    for (i = 0; i < KEYS_ROOM; i++)
        if (s->keys[i].n != 0 && s->keys[i].ahead > 0)
            table_raise(z->table, s->keys[i].hash, now, s->keys[i].ahead);
}

static void
store_failed(struct store *s, const char *why)
{
    if (s->link != NULL)
        redis_link->close(s->link);
    s->link = NULL;
    if (!s->is_down)
        sl_log(SL_WARN, "RATELIMIT0020",
               "zone %s: store %s: %s; the limit holds for this machine "
               "alone",
               s->zone->name, s->zone->address.url, why);
    s->is_down = 1;
}

static void
store_sync(struct store *s)
{
    char why[256] = "";

    keys_collect(s);
    if (s->link == NULL)
        s->link = redis_link->open(&s->zone->address, why, sizeof why);
    if (s->link == NULL ||
        redis_link->sync(s->link, s->zone, s->keys, why, sizeof why) != 0) {
        store_failed(s, why);
        return;
    }
    keys_raise(s);
    if (s->is_down)
        sl_log(SL_NOTICE, "RATELIMIT0021",
               "zone %s: store %s is back; the limit holds for all machines",
               s->zone->name, s->zone->address.url);
    s->is_down = 0;
}

static void
store_rest(struct store *s, int ms)
{
    struct pollfd fd = {s->wake_fd, POLLIN, 0};
    eventfd_t n;

    if (poll(&fd, 1, ms) > 0)
        eventfd_read(s->wake_fd, &n);
}

/* Until something was told or it is to stop. */
static void
store_sleep(struct store *s)
{
    atomic_store(&s->is_asleep, 1);
    while (rings_are_empty(s) && !atomic_load(&s->is_stopping))
        store_rest(s, -1);
    atomic_store(&s->is_asleep, 0);
}

static void *
store_run(void *arg)
{
    struct store *s = arg;

    while (!atomic_load(&s->is_stopping)) {
        if (rings_are_empty(s))
            store_sleep(s);
        else {
            store_sync(s);
            store_rest(s, s->is_down ? STORE_AGAIN_MS : STORE_EVERY_MS);
        }
    }
    return NULL;
}

/* ---- its life ---- */

static void
store_free(struct store *s)
{
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    free(s->rings);
    free(s);
}

struct store *
store_open(const struct store_zone *zone, unsigned n_loops)
{
    struct store *s = calloc(1, sizeof *s);
    int rc;

    SL_ASSERT(s != NULL);
    s->zone = zone;
    s->n_rings = n_loops;
    s->rings = aligned_alloc(64, n_loops * sizeof *s->rings);
    SL_ASSERT(s->rings != NULL);
    memset(s->rings, 0, n_loops * sizeof *s->rings);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = s->wake_fd < 0 ? errno : pthread_create(&s->thread, NULL, store_run, s);
    if (rc == 0)
        return s;
    sl_log(SL_ERROR, "RATELIMIT0022", "zone %s: store: %s", zone->name, strerror(rc));
    store_free(s);
    return NULL;
}

void
store_close(struct store **sp)
{
    struct store *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    atomic_store(&s->is_stopping, 1);
    eventfd_write(s->wake_fd, 1);
    pthread_join(s->thread, NULL);
    if (s->link != NULL)
        redis_link->close(s->link);
    store_free(s);
}
