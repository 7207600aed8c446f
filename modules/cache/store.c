/* The store: opening, the tick, what is held, numbers. */
#include "store_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include <xxhash.h>

#define HEAD_PAGES ((sizeof(struct zone_head) + PAGE_SIZE_DISK - 1) / PAGE_SIZE_DISK)

/* ---- opening ---- */

static void
tables_point(struct store *s, char *at)
{
    s->head = (struct zone_head *)(void *)at;
    s->pages = (struct page *)(void *)(at + HEAD_PAGES * PAGE_SIZE_DISK);
    s->purges = (struct purges){.clock = super_word(s, SUPER_CLOCK),
                                .all = super_word(s, SUPER_ALL_HARD),
                                .prefix_latest = super_word(s, SUPER_PREFIX_LATEST),
                                .all_page = &s->pages[0],
                                .cells = &s->pages[s->layout.cells_at],
                                .prefixes = &s->pages[s->layout.prefixes_at]};
    s->index = (struct index){.pages = &s->pages[s->layout.index_at],
                              .n_pages = s->layout.index_pages,
                              .n_objects = &s->head->n_objects,
                              .n_displaced = &s->head->n_displaced};
}

/* A number that is not 0, the first who asks draws it. */
static void
draw(_Atomic(uint64_t) *word)
{
    uint64_t none = 0, drawn = 0;

    while (drawn == 0)
        sl_random_bytes(&drawn, sizeof drawn);
    atomic_compare_exchange_strong(word, &none, drawn);
}

static int
zone_open(struct store *s)
{
    const struct layout *l = &s->layout;
    uint64_t size = (HEAD_PAGES + l->n_pages) * PAGE_SIZE_DISK, none = 0;
    char name[64];
    int is_fresh;

    snprintf(name, sizeof name, "cache.%016llx",
             (unsigned long long)(s->path != NULL ? XXH3_64bits(s->path, strlen(s->path)) : 0));
    s->slots = sl_zone_slots(name, ZONE_LAYOUT, size, (l->n_segments + 1) * sizeof(uint32_t),
                             &is_fresh);
    if (s->slots == NULL)
        return -1;
    tables_point(s, s->slots->shared);
    draw(&s->head->group);
    atomic_compare_exchange_strong(s->purges.clock, &none, 1);
    return 0;
}

struct store *
store_open(const struct store_options *options)
{
    struct store *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->options = *options;
    s->fd_index = s->fd_objects = -1;
    atomic_init(&s->now_ms, options->now_ms);
    atomic_init(&s->failure_said_ms, INT64_MIN);
    atomic_init(&s->full_said_ms, INT64_MIN);
    atomic_init(&s->damage_said_ms, INT64_MIN);
    queue_open(s);
    if (options->path != NULL)
        s->path = strdup(options->path);
    layout_of(options, &s->layout);
    s->memory = memory_open(options->memory_size);
    if (s->memory == NULL || (options->path != NULL && s->path == NULL) || zone_open(s) != 0) {
        store_close(&s);
        sl_log(SL_ERROR, "CACHEDISK0106", "no memory for the cache's store");
        return NULL;
    }
    if (s->path != NULL)
        disk_open(s);
    if (store_id(s) == 0)
        draw(super_word(s, SUPER_STORE_ID));
    return s;
}

void
store_close(struct store **store)
{
    struct store *s = *store;

    *store = NULL;
    if (s->slots != NULL) {
        queue_drain(s);
        segment_give_up(s);
        if (disk_is_on(s))
            disk_copy_tables(s);
    }
    disk_close(s);
    queue_close(s);
    if (s->memory != NULL)
        memory_close(&s->memory);
    free(s->path);
    free(s);
}

/* ---- the tick ---- */

static struct store *
tick_store(struct sl_offload *job)
{
    return (struct store *)((char *)job - offsetof(struct store, tick_job));
}

static void
tick_work(struct sl_offload *job)
{
    struct store *s = tick_store(job);

    disk_try_again(s);
    if (!disk_is_on(s))
        return;
    segments_adopt(s, 0);
    disk_load_index(s);
    segments_replay(s);
    disk_copy_tables(s);
}

static void
tick_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct store *s = tick_store(job);

    s->is_ticking = 0;
    queue_kick(s, loop);
}

void
store_tick(struct store *s, struct sl_loop *loop, int64_t now_ms)
{
    atomic_store(&s->now_ms, now_ms);
    if (s->is_ticking || atomic_load(&s->disk) == DISK_NONE)
        return;
    s->tick_job.work = tick_work;
    s->tick_job.done = tick_done;
    s->is_ticking = sl_offload(loop, &s->tick_job) == 0;
}

/* ---- objects ---- */

void
store_hold(struct store_object *o)
{
    object_hold(object_of(o));
}

void
store_drop(struct store_object **held)
{
    struct object *o = object_of(*held);

    *held = NULL;
    object_drop(&o);
}

int64_t
store_size(const struct store_object *held, int *is_complete)
{
    const struct object *o = object_of(held);
    struct arriving *a = o->arriving;
    int64_t size = (int64_t)o->size;

    *is_complete = 1;
    if (a == NULL)
        return size;
    pthread_mutex_lock(&a->lock);
    *is_complete = a->is_complete;
    size = a->is_broken ? -1 : (int64_t)a->n;
    pthread_mutex_unlock(&a->lock);
    return size;
}

unsigned
store_hits(const struct store_object *o)
{
    return atomic_load_explicit(&object_of(o)->hits, memory_order_relaxed);
}

struct sl_span
store_body(const struct store_object *object)
{
    const struct object *o = object_of(object);

    if (o->arriving != NULL || o->n_extents > 0)
        return (struct sl_span){NULL, 0};
    return (struct sl_span){o->size > 0 ? o->body_at : "", o->size};
}

/* ---- numbers ---- */

static const char *
disk_text(const struct store *s)
{
    switch ((enum disk_state)atomic_load(&s->disk)) {
    case DISK_NONE: return s->path == NULL ? "off" : "cannot be used";
    case DISK_WAITS: return "used by others";
    case DISK_ON: return "in use";
    case DISK_RESTS: return "rests after an error";
    }
    return "";
}

static uint64_t
number(const _Atomic(uint64_t) *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void
store_stats(struct store *s, struct store_stats *stats)
{
    uint64_t n_objects = number(&s->head->n_objects), i;
    struct memory_stats m;

    if ((int64_t)n_objects < 0)
        n_objects = 0;
    memory_stats(s->memory, &m);
    *stats = (struct store_stats){
        .disk_objects = n_objects,
        .disk_size = s->layout.n_segments * s->layout.segment_size,
        .index_bytes = s->layout.index_pages * PAGE_SIZE_DISK,
        .index_objects_max = s->layout.index_pages * PAGE_WORDS,
        .n_evicted = number(&s->head->n_evicted),
        .n_relocated = number(&s->head->n_relocated),
        .n_displaced = number(&s->head->n_displaced),
        .n_written = number(&s->head->n_written),
        .n_disk_reads = number(&s->head->n_disk_reads),
        .n_bad_records = number(&s->head->n_bad_records),
        .n_disk_errors = number(&s->head->n_disk_errors),
        .n_segments = s->layout.n_segments,
        .memory_objects = m.n_objects,
        .memory_bytes = m.bytes,
        .memory_size = s->options.memory_size,
        .n_memory_evicted = m.n_evicted,
        .n_unwritten = number(&s->n_unwritten),
        .disk = disk_text(s),
    };
    for (i = 0; i < s->layout.n_segments; i++) {
        if (word_state(segment_word(s, i)) == SEGMENT_FREE)
            stats->n_segments_free++;
        else
            stats->disk_bytes += atomic_load(segment_fill(s, i));
    }
    pthread_mutex_lock(&s->queued.lock);
    stats->queued_bytes = s->queued.bytes;
    pthread_mutex_unlock(&s->queued.lock);
}
