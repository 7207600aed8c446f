/* Objects and the memory tier. */
#include "memory.h"

#include <stdlib.h>

#define BLOCK 1024u
#define N_BLOCKS 16384u
#define KEPT_UNIT 64u   /* bytes: objects that left keep their heads, by size, for the next */
#define KEPT_SIZES 64u  /* longer ones go back to the system */
#ifndef __SANITIZE_ADDRESS__
#define KEPT_MAX 16u /* of a size: at most 2 MB altogether */
#else
#define KEPT_MAX 0u /* who uses one that was freed is to be found */
#endif
#define BUCKET 8u
#define SENT_FOR_MAX 512u /* bytes of what leaves next; the processor goes on by itself */
#define OBJECT_SMALL 1024 /* bytes: of such ones the tier is full when half the seats are */
#define USED_MAX 3
#define LARGEST_SHARE 8 /* one object takes at most an eighth */

struct fifo {
    struct object *first, *last; /* the newest, the oldest */
    uint64_t bytes;
};

struct bucket {
    _Alignas(64) _Atomic(uint32_t) tags[BUCKET]; /* of hashes; 0: none */
    _Atomic(uint32_t) seats[BUCKET]; /* id + 1 of the object; 0: none, and a tag is a ghost */
};

struct block {
    struct memory *home;
    struct object objects[BLOCK];
};

struct memory {
    uint64_t size;
    struct bucket *table;
    uint64_t n_buckets;
    pthread_mutex_t lock; /* of the table's changes, the queues and the free */
    struct fifo small, main;
    struct object *gone; /* taken out, and held by nobody: freed without the lock */
    uint64_t n_objects, n_evicted;
    struct kept {
        struct object *first;
        unsigned n;
    } free[KEPT_SIZES]; /* by the units of their heads; 0: without one */
    uint32_t n_made;
    struct block *_Atomic blocks[N_BLOCKS];
};

/* ---- bytes ---- */

struct store_bytes *
bytes_new(size_t size)
{
    struct store_bytes *b = malloc(sizeof *b + size);

    if (b == NULL)
        return NULL;
    atomic_init(&b->holds, 1);
    b->size = size;
    return b;
}

struct store_bytes *
bytes_trim(struct store_bytes *b, size_t size)
{
    struct store_bytes *trimmed = size < b->size ? realloc(b, sizeof *b + size) : NULL;

    if (trimmed == NULL)
        return b;
    trimmed->size = size;
    return trimmed;
}

struct store_bytes *
bytes_hold(struct store_bytes *b)
{
    atomic_fetch_add_explicit(&b->holds, 1, memory_order_relaxed);
    return b;
}

void
bytes_drop(struct store_bytes **b)
{
    struct store_bytes *bytes = *b;

    *b = NULL;
    if (bytes != NULL && atomic_fetch_sub(&bytes->holds, 1) == 1)
        free(bytes);
}

/* ---- objects ---- */

static struct memory *
home_of(const struct object *o)
{
    const char *first = (const char *)(o - o->id % BLOCK);

    return ((const struct block *)(const void *)(first - offsetof(struct block, objects)))->home;
}

/* Under the lock. */
static void
free_add(struct memory *m, struct object *o, size_t units)
{
    o->next = m->free[units].first;
    m->free[units].first = o;
    m->free[units].n++;
}

/* Under the lock: one more, of a block more where the last is used up.  Only what is used of a block is
 * touched: memory that is new costs the system time, which all of it at once would cost one request. */
static struct object *
object_more(struct memory *m)
{
    struct block *block;
    struct object *o;

    if (m->n_made == BLOCK * N_BLOCKS)
        return NULL;
    block = atomic_load(&m->blocks[m->n_made / BLOCK]);
    if (block == NULL) {
        if ((block = aligned_alloc(64, sizeof *block)) == NULL)
            return NULL;
        block->home = m;
        atomic_store(&m->blocks[m->n_made / BLOCK], block);
    }
    o = &block->objects[m->n_made % BLOCK];
    memset(o, 0, sizeof *o);
    o->id = m->n_made++;
    return o;
}

/* Under the lock: one with a head of so many units, else without. */
static struct object *
free_take(struct memory *m, size_t units)
{
    struct kept *kept = &m->free[m->free[units].first != NULL ? units : 0];
    struct object *o;

    if ((o = kept->first) == NULL)
        return object_more(m);
    kept->first = o->next;
    kept->n--;
    return o;
}

struct object *
object_new(struct memory *m, size_t n)
{
    size_t units = (n + KEPT_UNIT - 1) / KEPT_UNIT;
    struct object *o;

    units = units < KEPT_SIZES ? units : 0;
    pthread_mutex_lock(&m->lock);
    o = free_take(m, units);
    pthread_mutex_unlock(&m->lock);
    if (o == NULL)
        return NULL;
    /* after what it is will have been filled in, memory_put() lets it live: until then, those
     * whom an old entry of the table leads here turn away */
    atomic_store_explicit(&o->holds, 1, memory_order_relaxed);
    if (n > 0 && o->head == NULL &&
        (o->head = bytes_new(units > 0 ? units * KEPT_UNIT : n)) == NULL)
        object_drop(&o);
    return o;
}

/* Whether it has nothing but a head that is its own. */
static int
is_bare(const struct object *o)
{
    return o->arriving == NULL && o->checked == NULL && (o->body == NULL || o->body == o->head) &&
           o->head != NULL &&
           atomic_load_explicit(&o->head->holds, memory_order_acquire) == 1;
}

/* Under the lock: the next of this size will have its head.  0: it has to be freed. */
static int
object_keep(struct memory *m, struct object *o)
{
    size_t units;

    if (!is_bare(o))
        return 0;
    units = o->head->size / KEPT_UNIT;
    if (units == 0 || units >= KEPT_SIZES || m->free[units].n == KEPT_MAX)
        return 0;
    o->body = NULL;
    free_add(m, o, units);
    return 1;
}

static void
object_free(struct object *o)
{
    struct memory *m = home_of(o);

    if (o->arriving != NULL)
        arriving_free(o->arriving);
    if (o->body != o->head)
        bytes_drop(&o->body);
    free(o->checked);
    bytes_drop(&o->head);
    o->body = NULL;
    o->arriving = NULL;
    o->checked = NULL;
    pthread_mutex_lock(&m->lock);
    free_add(m, o, 0);
    pthread_mutex_unlock(&m->lock);
}

void
object_hold(struct object *o)
{
    atomic_fetch_add_explicit(&o->holds, 1, memory_order_relaxed);
}

void
object_drop(struct object **held)
{
    struct object *o = *held;
    struct memory *m;
    int is_kept;

    *held = NULL;
    if (atomic_fetch_sub(&o->holds, 1) != 1)
        return;
    m = home_of(o);
    pthread_mutex_lock(&m->lock);
    is_kept = object_keep(m, o);
    pthread_mutex_unlock(&m->lock);
    if (!is_kept)
        object_free(o);
}

static int
object_hold_living(struct object *o)
{
    uint64_t holds = atomic_load(&o->holds);

    do
        if (!(holds & OBJECT_LIVES))
            return 0;
    while (!atomic_compare_exchange_weak(&o->holds, &holds, holds + 1));
    return 1;
}

int
object_fill(struct object *o, const struct record *r, struct store_bytes *body,
            const char *body_at)
{
    o->checked = NULL;
    if (r->h.n_extents > 0) {
        o->checked = calloc((r->h.n_extents + 63) / 64, sizeof *o->checked);
        if (o->checked == NULL)
            return -1;
    }
    o->pub = (struct store_object){r->key,     r->meta,    r->tags,
                                   r->h.n_tags, r->h.flags, r->h.stamp};
    o->hash = r->h.hash;
    o->change = 0;
    o->body = body;
    o->body_at = body_at;
    o->size = r->h.size;
    o->extents = r->extents;
    o->n_extents = r->h.n_extents;
    atomic_store_explicit(&o->hits, 0, memory_order_relaxed);
    atomic_store_explicit(&o->used, 0, memory_order_relaxed);
    return 0;
}

/* ---- the tier ---- */

struct memory *
memory_open(uint64_t size)
{
    struct memory *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    pthread_mutex_init(&m->lock, NULL);
    m->size = size;
    m->n_buckets = 1;
    while (m->n_buckets * BUCKET / 2 < size / OBJECT_SMALL)
        m->n_buckets *= 2;
    m->table = aligned_alloc(64, m->n_buckets * sizeof *m->table);
    if (m->table == NULL) {
        memory_close(&m);
        return NULL;
    }
    memset(m->table, 0, m->n_buckets * sizeof *m->table);
    return m;
}

static void
tier_lock(struct memory *m)
{
    pthread_mutex_lock(&m->lock);
}

/* Room for one large object may be that of many small ones, and the lock is a loop's to wait for. */
static void
tier_unlock(struct memory *m)
{
    struct object *o, *gone = m->gone;

    m->gone = NULL;
    pthread_mutex_unlock(&m->lock);
    while ((o = gone) != NULL) {
        gone = o->next;
        object_free(o);
    }
}

static struct bucket *
bucket_of(const struct memory *m, struct store_hash hash)
{
    return &m->table[hash.lo & (m->n_buckets - 1)];
}

/* By which most objects of others need not be touched. */
static uint32_t
tag_of(struct store_hash hash)
{
    return (uint32_t)(hash.hi >> 32) | 1;
}

static uint32_t
tag_at(const struct bucket *b, unsigned i)
{
    return atomic_load_explicit(&b->tags[i], memory_order_acquire);
}

static uint32_t
seat_at(const struct bucket *b, unsigned i)
{
    return atomic_load_explicit(&b->seats[i], memory_order_relaxed);
}

static struct object *
object_at(struct memory *m, const struct bucket *b, unsigned i)
{
    uint32_t seat = seat_at(b, i), id = seat - 1;

    if (seat == 0)
        return NULL;
    return &atomic_load_explicit(&m->blocks[id / BLOCK], memory_order_acquire)
                ->objects[id % BLOCK];
}

/* Under the lock, as all changes are. */
static void
seat_set(struct bucket *b, unsigned i, uint32_t seat, uint32_t tag)
{
    atomic_store_explicit(&b->seats[i], seat, memory_order_relaxed);
    atomic_store_explicit(&b->tags[i], tag, memory_order_release);
}

static int
hash_eq(struct store_hash a, struct store_hash b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

void
memory_send_for(const struct memory *m, struct store_hash hash)
{
    __builtin_prefetch(bucket_of(m, hash));
}

struct object *
memory_find(struct memory *m, struct store_hash hash)
{
    const struct bucket *bucket = bucket_of(m, hash);
    uint32_t tag = tag_of(hash);
    unsigned i;

#pragma GCC unroll 8
    for (i = 0; i < BUCKET; i++) {
        struct object *o;
        uint8_t used;

        if (tag_at(bucket, i) != tag)
            continue;
        o = object_at(m, bucket, i);
        if (o == NULL || !object_hold_living(o))
            continue;
        if (hash_eq(o->hash, hash)) {
            used = atomic_load_explicit(&o->used, memory_order_relaxed);
            if (used < USED_MAX)
                atomic_store_explicit(&o->used, used + 1, memory_order_relaxed);
            return o;
        }
        object_drop(&o);
    }
    return NULL;
}

int
memory_may_have(const struct memory *m, struct store_hash hash)
{
    const struct bucket *bucket = bucket_of(m, hash);
    uint32_t tag = tag_of(hash);
    unsigned i;

#pragma GCC unroll 8
    for (i = 0; i < BUCKET; i++)
        if (tag_at(bucket, i) == tag && seat_at(bucket, i) != 0)
            return 1;
    return 0;
}

static struct fifo *
fifo_of(struct memory *m, const struct object *o)
{
    return o->is_main ? &m->main : &m->small;
}

static void
fifo_add(struct memory *m, struct object *o, int is_main)
{
    struct fifo *q;

    o->is_main = (uint8_t)is_main;
    q = fifo_of(m, o);
    o->prev = NULL;
    o->next = q->first;
    *(q->first != NULL ? &q->first->prev : &q->last) = o;
    q->first = o;
    q->bytes += o->charge;
}

static void
fifo_take(struct memory *m, struct object *o)
{
    struct fifo *q = fifo_of(m, o);

    *(o->prev != NULL ? &o->prev->next : &q->first) = o->next;
    *(o->next != NULL ? &o->next->prev : &q->last) = o->prev;
    o->prev = o->next = NULL;
    q->bytes -= o->charge;
}

/* Under the lock. */
static void
out(struct memory *m, struct object *o, int leaves_ghost)
{
    struct bucket *bucket = bucket_of(m, o->hash);
    uint32_t seat = o->id + 1;
    unsigned i;

#pragma GCC unroll 8
    for (i = 0; i < BUCKET; i++)
        if (seat_at(bucket, i) == seat) {
            seat_set(bucket, i, 0, leaves_ghost ? tag_of(o->hash) : 0);
            break;
        }
    fifo_take(m, o);
    m->n_objects--;
    if (atomic_fetch_and(&o->holds, ~OBJECT_LIVES) == OBJECT_LIVES && !object_keep(m, o)) {
        o->next = m->gone;
        m->gone = o;
    }
}

/* Under the lock: whose turn it is to leave, or to show that it was used; the tier is not empty. */
static struct object *
oldest(const struct memory *m)
{
    int is_small = m->main.last == NULL || (m->small.bytes > m->size / 10 && m->small.last != NULL);

    return is_small ? m->small.last : m->main.last;
}

/* Under the lock: nobody has touched what leaves next for as long as an object is kept; so it is
 * sent for now, and has come when the next object does, which is likely to get its bytes.  Inline
 * always: gcc leaves out calls of what does nothing else. */
static inline __attribute__((always_inline)) void
oldest_send_for(struct memory *m)
{
    const struct object *o = oldest(m);
    const char *head = (const char *)o->head;
    size_t n = o->charge - sizeof *o, at;

    __builtin_prefetch(&o->holds, 1);
    __builtin_prefetch(&o->body, 1);
    for (at = 0; at < n && at < SENT_FOR_MAX; at += 64)
        __builtin_prefetch(head + at, 1);
    __builtin_prefetch(bucket_of(m, o->hash), 1);
    if (o->prev != NULL)
        __builtin_prefetch(&o->prev->hash, 1);
}

/* Under the lock: one step towards room. */
static void
evict(struct memory *m)
{
    struct object *o = oldest(m);
    int is_small = !o->is_main;
    uint8_t used = atomic_load_explicit(&o->used, memory_order_relaxed);

    if (used > 0) {
        fifo_take(m, o);
        atomic_store_explicit(&o->used, is_small ? 0 : used - 1, memory_order_relaxed);
        fifo_add(m, o, 1);
        return;
    }
    m->n_evicted++;
    out(m, o, is_small);
}

/* Under the lock: one of a full bucket leaves, none of the main queue if there is another: its seat. */
static unsigned
seat_clear(struct memory *m, const struct bucket *bucket, unsigned first)
{
    unsigned i = first;

    while (object_at(m, bucket, i)->is_main && (i = (i + 1) % BUCKET) != first)
        ;
    m->n_evicted++;
    out(m, object_at(m, bucket, i), 0);
    return i;
}

/* Under the lock: puts it where in its bucket nobody is, or a ghost. */
static void
seat_take(struct memory *m, const struct object *o)
{
    struct bucket *bucket = bucket_of(m, o->hash);
    unsigned first = (unsigned)(o->hash.hi % BUCKET), i = first;

    while (seat_at(bucket, i) != 0 && (i = (i + 1) % BUCKET) != first)
        ;
    if (seat_at(bucket, i) != 0)
        i = seat_clear(m, bucket, first);
    seat_set(bucket, i, o->id + 1, tag_of(o->hash));
}

/* Under the lock: where in the bucket the hash's object is, else its ghost; BUCKET: neither. */
static unsigned
seat_of(struct memory *m, const struct bucket *bucket, struct store_hash hash)
{
    uint32_t tag = tag_of(hash);
    unsigned i, found = BUCKET;

#pragma GCC unroll 8
    for (i = 0; i < BUCKET; i++)
        if (tag_at(bucket, i) == tag) {
            const struct object *o = object_at(m, bucket, i);

            if (o != NULL && hash_eq(o->hash, hash))
                return i;
            if (o == NULL)
                found = i;
        }
    return found;
}

/* Under the lock. */
static struct object *
find_locked(struct memory *m, struct store_hash hash)
{
    const struct bucket *bucket = bucket_of(m, hash);
    unsigned seat = seat_of(m, bucket, hash);

    return seat < BUCKET ? object_at(m, bucket, seat) : NULL;
}

static uint64_t
charge_of(const struct object *o)
{
    return sizeof *o + o->head->size + (o->body != NULL && o->body != o->head ? o->body->size : 0);
}

int
memory_has_room_for(const struct memory *m, uint64_t bytes)
{
    return bytes + sizeof(struct object) <= m->size / LARGEST_SHARE;
}

/* Under the lock: unless there is one of its hash whose change is `change` or later. */
static void
put(struct memory *m, struct object *o, uint64_t change)
{
    struct bucket *bucket = bucket_of(m, o->hash);
    unsigned seat = seat_of(m, bucket, o->hash);
    struct object *before = seat < BUCKET ? object_at(m, bucket, seat) : NULL;
    int is_known = seat < BUCKET && (before == NULL || before->is_main);

    if (before != NULL && (before == o || before->change >= change))
        return;
    if (before != NULL)
        out(m, before, 0);
    else if (is_known)
        seat_set(bucket, seat, 0, 0);
    o->charge = (uint32_t)charge_of(o);
    while (m->small.bytes + m->main.bytes + o->charge > m->size)
        evict(m);
    fifo_add(m, o, is_known);
    m->n_objects++;
    atomic_fetch_or(&o->holds, OBJECT_LIVES);
    seat_take(m, o);
    if (m->small.bytes + m->main.bytes + o->charge > m->size)
        oldest_send_for(m);
}

int
memory_put(struct memory *m, struct object *o)
{
    int fits = charge_of(o) <= m->size / LARGEST_SHARE;

    if (!fits)
        memory_forget(m, o->hash);
    else {
        tier_lock(m);
        put(m, o, UINT64_MAX);
        tier_unlock(m);
    }
    return fits;
}

void
memory_put_read(struct memory *m, struct object *o)
{
    if (charge_of(o) > m->size / LARGEST_SHARE)
        return;
    tier_lock(m);
    put(m, o, o->change);
    tier_unlock(m);
}

void
memory_forget(struct memory *m, struct store_hash hash)
{
    struct object *o;

    tier_lock(m);
    o = find_locked(m, hash);
    if (o != NULL)
        out(m, o, 0);
    tier_unlock(m);
}

void
memory_remove(struct memory *m, struct object *o)
{
    tier_lock(m);
    if (atomic_load(&o->holds) & OBJECT_LIVES)
        out(m, o, 0);
    tier_unlock(m);
}

/* ---- looking ---- */

void
memory_stats(struct memory *m, struct memory_stats *stats)
{
    tier_lock(m);
    *stats = (struct memory_stats){m->n_objects, m->small.bytes + m->main.bytes, m->n_evicted};
    tier_unlock(m);
}

static uint32_t
hits_of(const struct object *o)
{
    return atomic_load_explicit(&o->hits, memory_order_relaxed);
}

/* Puts o, which is held, into the n most used, of at most max, and lets go who has no place there:
 * how many there are now. */
static unsigned
top_insert(struct object **to, unsigned n, unsigned max, struct object *o)
{
    unsigned at = n;

    while (at > 0 && hits_of(to[at - 1]) < hits_of(o))
        at--;
    if (at == max) {
        object_drop(&o);
        return n;
    }
    if (n == max)
        object_drop(&to[--n]);
    memmove(&to[at + 1], &to[at], (n - at) * sizeof *to);
    to[at] = o;
    return n + 1;
}

unsigned
memory_top(struct memory *m, memory_wants_f *wants, const void *data, struct object **to,
           unsigned max)
{
    struct object *o;
    uint64_t seat;
    unsigned n = 0;

    for (seat = 0; seat < m->n_buckets * BUCKET; seat++) {
        const struct bucket *b = &m->table[seat / BUCKET];

        if (tag_at(b, seat % BUCKET) == 0)
            continue;
        o = object_at(m, b, seat % BUCKET);
        if (o == NULL || !object_hold_living(o))
            continue;
        if (wants == NULL || wants(data, &o->pub))
            n = top_insert(to, n, max, o);
        else
            object_drop(&o);
    }
    return n;
}

void
memory_close(struct memory **held)
{
    struct memory *m = *held;
    struct object *o;
    unsigned i;

    *held = NULL;
    tier_lock(m);
    while (m->main.last != NULL)
        out(m, m->main.last, 0);
    while (m->small.last != NULL)
        out(m, m->small.last, 0);
    tier_unlock(m);
    for (i = 1; i < KEPT_SIZES; i++)
        for (o = m->free[i].first; o != NULL; o = o->next)
            bytes_drop(&o->head);
    for (i = 0; i < N_BLOCKS && atomic_load(&m->blocks[i]) != NULL; i++)
        free(atomic_load(&m->blocks[i]));
    pthread_mutex_destroy(&m->lock);
    free(m->table);
    free(m);
}
