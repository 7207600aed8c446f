/* Writers, and the objects that arrive through them.
 *
 * A body is gathered in chunks of STORE_INLINE.  When there is no second one, the chunk becomes
 * the inline body of the record.  Else each chunk is written when the next begins, and the head,
 * which names them, last.  The latest chunks stay in memory for those who read while it arrives;
 * who is further behind reads the file.
 *
 * Readers on other loops and the flushing job meet the writer under the lock of the object that
 * arrives, held for a few stores; a complete object has none. */
#include "store_impl.h"

#include <stdlib.h>

#define CHUNK_FIRST (16 * 1024) /* of a body of unknown length; doubled as it grows */
#define CHUNKS_KEPT 4
#define CHUNKS_BEHIND 4 /* so many in the queue, and the writer is asked to wait */
#define OBJECT_SHARE 4  /* one object takes at most a quarter of the disk */

struct store_writer {
    struct store *s;
    struct sl_loop *loop;
    struct object *object; /* held */
    int64_t size;
    void *data;
    void (*room)(struct sl_loop *loop, void *data);
    int is_full;
};

/* ---- objects of records ---- */

struct record
object_record(const struct object *o)
{
    return (struct record){.h = {.kind = RECORD_HEAD,
                                 .hash = o->hash,
                                 .stamp = o->pub.stamp,
                                 .size = o->size,
                                 .n_key = (uint32_t)o->pub.key.n,
                                 .n_meta = (uint32_t)o->pub.meta.n,
                                 .n_tags = o->pub.n_tags,
                                 .n_extents = o->n_extents,
                                 .n_inline = o->n_extents == 0 ? (uint32_t)o->size : 0,
                                 .flags = o->pub.flags},
                           .tags = o->pub.tags,
                           .extents = o->extents,
                           .key = o->pub.key,
                           .meta = o->pub.meta};
}

struct record_header
chunk_header(struct store_hash hash, uint32_t n)
{
    return (struct record_header){.magic = SEGMENT_MAGIC,
                                  .version = SEGMENT_VERSION,
                                  .kind = RECORD_CHUNK,
                                  .hash = hash,
                                  .size = n,
                                  .n_inline = n};
}

struct object *
object_make(struct store *s, const struct record *r, struct store_bytes *body,
            const char *body_at)
{
    struct store_bytes *head = bytes_new(record_head_size(r));
    struct object *o = head != NULL ? object_new(s->memory) : NULL;
    struct record own;

    if (o != NULL) {
        record_encode(head->at, r, store_id(s));
        SL_ASSERT(record_decode(head->at, head->size, store_id(s), &own) == RECORD_OK);
        if (object_fill(o, &own, head, body, body_at) == 0) {
            if (body != NULL)
                bytes_hold(body);
            return o;
        }
        object_drop(&o);
    }
    bytes_drop(&head);
    return NULL;
}

/* From now on it is what its key has. */
static void
object_publish(struct store *s, struct object *o)
{
    _Atomic(uint64_t) *change = change_of(s, o->hash);
    uint64_t found[INDEX_FOUND_MAX];
    int is_known = disk_is_on(s) && index_find(&s->index, o->hash, found) > 0;

    /* others' memory, and reads under way, have to notice */
    o->change = is_known || sl_places_others() != 0 ? atomic_fetch_add(change, 1) + 1
                                                    : atomic_load(change);
    memory_put(s->memory, o);
}

static void
op_free(struct op *op)
{
    if (op->object != NULL)
        object_drop(&op->object);
    bytes_drop(&op->head);
    free(op);
}

static struct op *
op_new(enum op_kind kind, struct object *o)
{
    struct op *op = calloc(1, sizeof *op);

    if (op == NULL)
        return NULL;
    op->kind = kind;
    op->object = o;
    if (o != NULL) {
        object_hold(o);
        op->hash = o->hash;
    }
    return op;
}

static int
queue_op(struct store *s, struct sl_loop *loop, struct op *op)
{
    if (op != NULL && queue_add(s, loop, op))
        return 1;
    if (op != NULL)
        op_free(op);
    return 0;
}

/* Publishes a complete object and sends it on its way to the disk. */
static void
object_commit(struct store *s, struct sl_loop *loop, struct object *o)
{
    object_publish(s, o);
    if (!queue_op(s, loop, op_new(OP_HEAD, o)))
        atomic_fetch_add_explicit(&s->n_unwritten, 1, memory_order_relaxed);
}

/* ---- what arrives ---- */

static void
read_woken(struct sl_loop *loop, struct sl_mail *mail)
{
    struct store_read *r = (struct store_read *)((char *)mail - offsetof(struct store_read, job) -
                                                 offsetof(struct sl_offload, mail));
    enum store_io io = arriving_read(r->piece.store, r);

    if (io != STORE_IO_WAIT)
        r->done(loop, r, io);
}

/* Under the lock. */
static void
arriving_wake(struct arriving *a)
{
    while (a->waiting != NULL) {
        struct store_read *r = a->waiting;

        a->waiting = r->next;
        r->is_waiting = 0;
        r->job.mail.fn = read_woken;
        sl_loop_post(r->job.loop, &r->job.mail);
    }
    a->last_waiting = &a->waiting;
}

static void
arriving_wait(struct store *s, struct arriving *a, struct store_read *r)
{
    r->piece = (struct store_piece){.fd = -1, .store = s};
    r->is_waiting = 1;
    r->next = NULL;
    *a->last_waiting = r;
    a->last_waiting = &r->next;
}

enum store_io
arriving_read(struct store *s, struct store_read *r)
{
    struct arriving *a = object_of(r->object)->arriving;
    uint64_t i = r->from / STORE_INLINE, skip = r->from % STORE_INLINE, n;
    enum store_io io = STORE_IO_OK;
    struct store_extent e = {.n = 0};

    pthread_mutex_lock(&a->lock);
    if (r->from < a->n && a->chunks[i].bytes != NULL) {
        n = a->n - i * STORE_INLINE;
        r->piece = (struct store_piece){.at = a->chunks[i].bytes->at + skip,
                                        .n = (n < STORE_INLINE ? n : STORE_INLINE) - skip,
                                        .fd = -1,
                                        .hold = bytes_hold(a->chunks[i].bytes)};
    } else if (r->from < a->n)
        e = a->chunks[i].extent;
    else if (a->is_broken)
        io = STORE_IO_BROKEN;
    else if (a->is_complete)
        io = STORE_IO_END;
    else {
        arriving_wait(s, a, r);
        io = STORE_IO_WAIT;
    }
    pthread_mutex_unlock(&a->lock);
    return e.n > 0 ? read_extent(s, r, &e, 1) : io;
}

int
arriving_cancel(struct store_read *r)
{
    struct arriving *a = object_of(r->object)->arriving;
    struct store_read **link;
    int was_waiting;

    pthread_mutex_lock(&a->lock);
    was_waiting = r->is_waiting;
    for (link = &a->waiting; was_waiting && *link != r; link = &(*link)->next)
        ;
    if (was_waiting) {
        *link = r->next;
        if (a->last_waiting == &r->next)
            a->last_waiting = link;
        r->is_waiting = 0;
    }
    pthread_mutex_unlock(&a->lock);
    return was_waiting;
}

void
arriving_free(struct arriving *a)
{
    uint32_t i;

    for (i = 0; i < a->n_chunks; i++)
        bytes_drop(&a->chunks[i].bytes);
    pthread_mutex_destroy(&a->lock);
    free(a->chunks);
    free(a);
}

static struct arriving *
arriving_new(void)
{
    struct arriving *a = calloc(1, sizeof *a);

    if (a == NULL)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    a->last_waiting = &a->waiting;
    return a;
}

/* Under the lock: a chunk that is on disk and far behind needs no memory. */
static void
chunk_thin(struct arriving *a, uint32_t i)
{
    if (a->chunks[i].is_written && i + CHUNKS_KEPT < a->n_chunks)
        bytes_drop(&a->chunks[i].bytes);
}

void
arriving_written(struct arriving *a, uint32_t chunk, const struct store_extent *e)
{
    pthread_mutex_lock(&a->lock);
    a->chunks[chunk].extent = *e;
    a->chunks[chunk].is_written = 1;
    chunk_thin(a, chunk);
    pthread_mutex_unlock(&a->lock);
}

void
arriving_not_written(struct arriving *a)
{
    pthread_mutex_lock(&a->lock);
    a->disk_failed = 1;
    pthread_mutex_unlock(&a->lock);
}

static int
disk_has_failed(struct arriving *a)
{
    int failed;

    pthread_mutex_lock(&a->lock);
    failed = a->disk_failed;
    pthread_mutex_unlock(&a->lock);
    return failed;
}

/* ---- writers ---- */

uint64_t
store_stamp(const struct store *s)
{
    return purges_now(&s->purges);
}

static int
can_be_stored(const struct store *s, const struct store_new *n)
{
    uint64_t most = s->layout.n_segments * s->layout.segment_size / OBJECT_SHARE, size;

    if (n->key.n == 0 || n->key.n > STORE_KEY_MAX || n->meta.n > STORE_META_MAX ||
        n->n_tags > STORE_TAGS_MAX || n->size > STORE_SIZE_MAX)
        return 0;
    size = n->size > 0 ? (uint64_t)n->size : 0;
    if (!disk_is_on(s))
        return size <= STORE_INLINE &&
               memory_has_room_for(s->memory, n->key.n + n->meta.n + size);
    return size <= most;
}

static struct record
record_of(const struct store_new *n, struct store_hash hash)
{
    return (struct record){.h = {.kind = RECORD_HEAD,
                                 .hash = hash,
                                 .stamp = n->stamp,
                                 .n_key = (uint32_t)n->key.n,
                                 .n_meta = (uint32_t)n->meta.n,
                                 .n_tags = n->n_tags,
                                 .flags = n->flags},
                           .tags = n->tags,
                           .key = n->key,
                           .meta = n->meta};
}

struct store_writer *
store_writer_open(struct store *s, struct sl_loop *loop, const struct store_new *n)
{
    struct record r = record_of(n, store_hash(s, n->key));
    struct store_writer *w;

    if (!can_be_stored(s, n) || (w = calloc(1, sizeof *w)) == NULL)
        return NULL;
    w->s = s;
    w->loop = loop;
    w->size = n->size;
    w->data = n->data;
    w->room = n->room;
    w->object = object_make(s, &r, NULL, NULL);
    if (w->object != NULL && (w->object->arriving = arriving_new()) == NULL)
        object_drop(&w->object);
    if (w->object == NULL) {
        free(w);
        return NULL;
    }
    w->object->arriving->writer = w;
    return w;
}

struct store_object *
store_writer_object(struct store_writer *w)
{
    return &w->object->pub;
}

static void
chunk_done(struct sl_loop *loop, struct sl_mail *mail)
{
    struct op *op = (struct op *)((char *)mail - offsetof(struct op, mail));
    struct arriving *a = op->object->arriving;
    struct store_writer *w = a->writer;

    op_free(op);
    if (w != NULL && w->is_full && atomic_load(&a->n_unwritten) <= CHUNKS_BEHIND / 2) {
        w->is_full = 0;
        w->room(loop, w->data);
    }
}

/* 0, or -1: the disk does not take it. */
static int
chunk_queue(struct store_writer *w, uint32_t i)
{
    struct arriving *a = w->object->arriving;
    struct op *op = op_new(OP_CHUNK, w->object);

    if (op != NULL) {
        op->chunk = i;
        op->loop = w->loop;
        op->mail.fn = chunk_done;
        op->chunk_head = chunk_header(op->hash, a->chunks[i].n);
        op->append = (struct append){.head = (char *)&op->chunk_head,
                                     .n_head = sizeof op->chunk_head,
                                     .body = a->chunks[i].bytes->at,
                                     .n_body = a->chunks[i].n};
        /* the job reads these bytes until it says that they are written, and nobody drops them
         * before that */
        atomic_fetch_add(&a->n_unwritten, 1);
    }
    if (queue_op(w->s, w->loop, op))
        return 0;
    if (op != NULL)
        atomic_fetch_sub(&a->n_unwritten, 1);
    return -1;
}

/* One more chunk; 0, or -1. */
static int
chunk_begin(struct store_writer *w, size_t size)
{
    struct arriving *a = w->object->arriving;
    struct store_bytes *bytes = bytes_new(size);
    struct chunk *chunks = a->chunks;
    int rc = -1;

    pthread_mutex_lock(&a->lock);
    if (bytes != NULL && a->n_chunks == a->n_room) {
        chunks = realloc(chunks, (2 * (size_t)a->n_room + 1) * sizeof *chunks);
        if (chunks != NULL) {
            a->chunks = chunks;
            a->n_room = 2 * a->n_room + 1;
        }
    }
    if (bytes != NULL && chunks != NULL) {
        a->chunks[a->n_chunks++] = (struct chunk){.bytes = bytes};
        if (a->n_chunks > CHUNKS_KEPT)
            chunk_thin(a, a->n_chunks - 1 - CHUNKS_KEPT);
        rc = 0;
    }
    pthread_mutex_unlock(&a->lock);
    if (rc != 0)
        bytes_drop(&bytes);
    return rc;
}

/* Room for more in the first chunk of a body whose length is not known. */
static int
chunk_grow(struct arriving *a, struct chunk *c)
{
    size_t size = c->bytes->size * 2 < STORE_INLINE ? c->bytes->size * 2 : STORE_INLINE;
    struct store_bytes *larger = bytes_new(size), *smaller;

    if (larger == NULL)
        return -1;
    memcpy(larger->at, c->bytes->at, c->n);
    pthread_mutex_lock(&a->lock);
    smaller = c->bytes;
    c->bytes = larger;
    pthread_mutex_unlock(&a->lock);
    bytes_drop(&smaller);
    return 0;
}

/* What the next chunk has room for at first. */
static size_t
chunk_size(const struct store_writer *w)
{
    uint64_t n = w->object->arriving->n;
    uint64_t left = w->size >= 0 ? (uint64_t)w->size - n : n > 0 ? STORE_INLINE : CHUNK_FIRST;

    return left < STORE_INLINE ? left : STORE_INLINE;
}

/* The chunk that the next byte goes to, with room; NULL: there is none to be had. */
static struct chunk *
chunk_current(struct store_writer *w)
{
    struct arriving *a = w->object->arriving;
    struct chunk *c = a->n_chunks > 0 ? &a->chunks[a->n_chunks - 1] : NULL;

    if (c != NULL && c->n < c->bytes->size)
        return c;
    if (c != NULL && c->n < STORE_INLINE)
        return chunk_grow(a, c) == 0 ? c : NULL;
    if (c != NULL && chunk_queue(w, a->n_chunks - 1) != 0)
        return NULL;
    return chunk_begin(w, chunk_size(w)) == 0 ? &a->chunks[a->n_chunks - 1] : NULL;
}

static int
may_grow_by(const struct store_writer *w, size_t n)
{
    uint64_t most = w->s->layout.n_segments * w->s->layout.segment_size / OBJECT_SHARE;
    uint64_t to = w->object->arriving->n + n;

    if (w->size >= 0)
        return to <= (uint64_t)w->size;
    return to <= STORE_INLINE || (to <= most && to <= (uint64_t)STORE_SIZE_MAX);
}

enum sl_flow
store_append(struct store_writer *w, const char *at, size_t n)
{
    struct arriving *a = w->object->arriving;

    if (!may_grow_by(w, n) || disk_has_failed(a))
        return SL_FLOW_GONE;
    while (n > 0) {
        struct chunk *c = chunk_current(w);
        size_t part;

        if (c == NULL)
            return SL_FLOW_GONE;
        part = c->bytes->size - c->n < n ? c->bytes->size - c->n : n;
        memcpy(c->bytes->at + c->n, at, part);
        at += part;
        n -= part;
        c->n += (uint32_t)part;
        pthread_mutex_lock(&a->lock);
        a->n += part;
        arriving_wake(a);
        pthread_mutex_unlock(&a->lock);
    }
    w->is_full = atomic_load(&a->n_unwritten) >= CHUNKS_BEHIND;
    return w->is_full ? SL_FLOW_FULL : SL_FLOW_ROOM;
}

static void
writer_end(struct store_writer *w, int is_complete)
{
    struct arriving *a = w->object->arriving;

    pthread_mutex_lock(&a->lock);
    a->is_complete = is_complete;
    a->is_broken = !is_complete;
    arriving_wake(a);
    pthread_mutex_unlock(&a->lock);
    a->writer = NULL;
    object_drop(&w->object);
    free(w);
}

/* A body in one chunk, or none. */
static void
commit_small(struct store_writer *w)
{
    struct arriving *a = w->object->arriving;
    struct store_bytes *bytes = a->n_chunks > 0 ? a->chunks[0].bytes : NULL, *fitting;
    struct record r = object_record(w->object);
    struct object *o;

    if (bytes != NULL && bytes->size - a->n > bytes->size / 4 && /* what is kept shall fit */
        (fitting = bytes_new(a->n)) != NULL) {
        memcpy(fitting->at, bytes->at, a->n);
        pthread_mutex_lock(&a->lock);
        a->chunks[0].bytes = fitting;
        pthread_mutex_unlock(&a->lock);
        bytes_drop(&bytes);
        bytes = fitting;
    }
    r.h.size = a->n;
    r.h.n_inline = (uint32_t)a->n;
    o = object_make(w->s, &r, a->n > 0 ? bytes : NULL, a->n > 0 ? bytes->at : NULL);
    if (o == NULL)
        return;
    object_commit(w->s, w->loop, o);
    object_drop(&o);
}

void
store_commit(struct store_writer **writer)
{
    struct store_writer *w = *writer;
    struct arriving *a = w->object->arriving;

    *writer = NULL;
    if (w->size >= 0 && a->n != (uint64_t)w->size) {
        writer_end(w, 0);
        return;
    }
    w->object->change = atomic_load(change_of(w->s, w->object->hash));
    if (a->n_chunks < 2)
        commit_small(w);
    else if (chunk_queue(w, a->n_chunks - 1) != 0 ||
             !queue_op(w->s, w->loop, op_new(OP_FINISH, w->object)))
        atomic_fetch_add_explicit(&w->s->n_unwritten, 1, memory_order_relaxed);
    writer_end(w, 1);
}

void
store_forgo(struct store_writer **writer)
{
    struct store_writer *w = *writer;

    *writer = NULL;
    writer_end(w, w->size < 0 || w->object->arriving->n == (uint64_t)w->size);
}

void
store_abort(struct store_writer **writer)
{
    struct store_writer *w = *writer;

    *writer = NULL;
    writer_end(w, 0);
}

struct object *
arriving_finish(struct store *s, struct object *arrived)
{
    struct arriving *a = arrived->arriving;
    struct record r = object_record(arrived);
    struct store_extent *extents = calloc(a->n_chunks, sizeof *extents);
    struct object *o = NULL;
    uint32_t i;

    for (i = 0; extents != NULL && i < a->n_chunks && a->chunks[i].is_written; i++)
        extents[i] = a->chunks[i].extent;
    if (extents != NULL && i == a->n_chunks) {
        r.h.size = a->n;
        r.h.n_inline = 0;
        r.h.n_extents = a->n_chunks;
        r.extents = extents;
        o = object_make(s, &r, NULL, NULL);
    }
    free(extents);
    /* forgotten, or replaced, while its chunks were on their way */
    if (o != NULL && arrived->change != atomic_load(change_of(s, arrived->hash)))
        object_drop(&o);
    if (o != NULL)
        object_publish(s, o);
    return o;
}

struct store_object *
store_update(struct store *s, struct sl_loop *loop, struct store_object *held,
             const struct store_new *n)
{
    struct object *before = object_of(held), *o;
    struct record r = record_of(n, before->hash);

    if (before->arriving != NULL || n->meta.n > STORE_META_MAX || n->n_tags > STORE_TAGS_MAX ||
        !object_is_whole(s, before))
        return NULL;
    r.key = before->pub.key;
    r.h.n_key = (uint32_t)r.key.n;
    r.h.size = before->size;
    r.h.n_extents = before->n_extents;
    r.h.n_inline = before->n_extents == 0 ? (uint32_t)before->size : 0;
    r.extents = before->extents;
    o = object_make(s, &r, before->body, before->body_at);
    if (o == NULL)
        return NULL;
    object_commit(s, loop, o);
    return &o->pub;
}

/* ---- forgetting ---- */

void
store_invalidate(struct store *s, struct sl_loop *loop, struct sl_span key)
{
    struct store_hash hash = store_hash(s, key);
    struct record r = {
        .h = {.kind = RECORD_TOMB, .hash = hash, .n_key = (uint32_t)key.n}, .key = key};
    struct op *op;

    if (key.n == 0 || key.n > STORE_KEY_MAX)
        return;
    atomic_fetch_add(change_of(s, hash), 1);
    memory_forget(s->memory, hash);
    if (!disk_is_on(s))
        return;
    index_forget(&s->index, hash);
    op = op_new(OP_TOMB, NULL);
    if (op == NULL)
        return;
    op->hash = hash;
    op->head = bytes_new(record_head_size(&r));
    if (op->head != NULL)
        record_encode(op->head->at, &r, store_id(s));
    if (op->head != NULL)
        queue_op(s, loop, op);
    else
        op_free(op);
}
