/* Writers, updates, and forgetting.
 *
 * A body is gathered in chunks of STORE_INLINE.  When there is no second one, the chunk becomes
 * the inline body of the record.  Else a run of chunks is written when the next begins, and the
 * head, which names them, last.  A body that turns out too large, or that the disk does not take,
 * goes on as it came for those who read it, and is not stored: store_arriving.c. */
#include "store_impl.h"

#include <stdlib.h>

#define CHUNK_FIRST (16 * 1024) /* of a body of unknown length; doubled as it grows */
#define CHUNKS_BEHIND (2 * SEGMENT_RUN) /* so many in the queue, and the writer is asked to wait */
#define OBJECT_SHARE 4  /* one object takes at most a quarter of the disk */

struct store_writer {
    struct store *s;
    struct sl_loop *loop;
    struct object *object; /* held */
    int64_t size;
    uint32_t n_queued; /* chunks */
    void *data;
    void (*room)(struct sl_loop *loop, void *data);
    int is_full;
    enum store_relayed relayed;
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
    struct object *o = object_new(s->memory, record_head_size(r));
    struct record own;

    if (o == NULL)
        return NULL;
    own = record_write(o->head->at, r); /* its checksum comes with its place on disk */
    if (object_fill(o, &own, body, body_at) != 0)
        object_drop(&o);
    else if (body != NULL)
        bytes_hold(body);
    return o;
}

int
object_publish(struct store *s, struct object *o, uint64_t from)
{
    _Atomic(uint64_t) *change = change_of(s, o->hash);
    uint64_t found[INDEX_FOUND_MAX];
    int is_noticed = sl_places_others() != 0 || atomic_load(coming_of(s, o->hash)) > 0 ||
                     (disk_is_on(s) && (queue_is_long(s) || memory_may_have(s->memory, o->hash) ||
                                        index_find(&s->index, o->hash, found) > 0));

    /* before the change: who reads until this one is written would take what the disk has for it */
    if (is_noticed && index_is_used(s) && atomic_load(change) == from)
        index_forget(&s->index, o->hash);
    /* others' memory, reads under way, and an older one that is to be published or written have to
     * notice */
    if (is_noticed ? !atomic_compare_exchange_strong(change, &from, from + 1)
                   : atomic_load(change) != from)
        return 0;
    o->change = from + (uint64_t)is_noticed;
    memory_put(s->memory, o);
    return 1;
}

/* Publishes a complete object and sends it on its way to the disk, where it is found at once if
 * memory did not take it. */
static void
object_commit(struct store *s, struct sl_loop *loop, struct object *o)
{
    int is_in_memory;

    while (!object_publish(s, o, atomic_load(change_of(s, o->hash))))
        ;
    is_in_memory = (atomic_load(&o->holds) & OBJECT_LIVES) != 0;
    if (!queue_object(s, loop, o, is_in_memory ? QUEUE_SOON : QUEUE_NOW))
        head_not_written(s, o->hash);
}

/* All of it has come, in chunks, and it is published when they are written: unless something else is
 * meanwhile, which is later. */
static void
object_comes(struct store *s, struct object *arrived)
{
    _Atomic(uint64_t) *change = change_of(s, arrived->hash);

    if (atomic_fetch_add(coming_of(s, arrived->hash), 1) == 0 && sl_places_others() == 0)
        arrived->change = atomic_load(change);
    else /* perhaps an older one of its key comes, too */
        arrived->change = atomic_fetch_add(change, 1) + 1;
}

void
object_came(struct store *s, const struct object *arrived)
{
    atomic_fetch_sub(coming_of(s, arrived->hash), 1);
}

void
object_lost(struct store *s, const struct object *arrived)
{
    uint64_t from = arrived->change;

    count(&s->n_unwritten, 1);
    if (!atomic_compare_exchange_strong(change_of(s, arrived->hash), &from, from + 1))
        return; /* what its key has is later */
    memory_forget(s->memory, arrived->hash);
    if (index_is_used(s))
        index_forget(&s->index, arrived->hash);
}

/* ---- writers ---- */

uint64_t
store_stamp(const struct store *s)
{
    return purges_now(&s->purges);
}

/* Bytes of the largest body. */
static uint64_t
size_max(const struct store *s)
{
    uint64_t share = s->layout.n_segments * s->layout.segment_size / OBJECT_SHARE;

    return share < (uint64_t)STORE_SIZE_MAX ? share : (uint64_t)STORE_SIZE_MAX;
}

int
store_takes(const struct store *s, const struct store_new *n)
{
    uint64_t size = n->size > 0 ? (uint64_t)n->size : 0;

    if (n->key.n == 0 || n->key.n > STORE_KEY_MAX || n->meta.n > STORE_META_MAX ||
        n->n_tags > STORE_TAGS_MAX)
        return 0;
    if (!disk_is_on(s))
        return size <= STORE_INLINE &&
               memory_has_room_for(s->memory, n->key.n + n->meta.n + size);
    return size <= size_max(s);
}

static struct record
record_of(const struct store *s, const struct store_new *n)
{
    return (struct record){.h = {.kind = RECORD_HEAD,
                                 .hash = n->hash != NULL ? *n->hash : store_hash(s, n->key),
                                 .stamp = n->stamp,
                                 .n_key = (uint32_t)n->key.n,
                                 .n_meta = (uint32_t)n->meta.n,
                                 .n_tags = n->n_tags,
                                 .flags = n->flags},
                           .tags = n->tags,
                           .key = n->key,
                           .meta = n->meta};
}

/* The body stands behind the head, in the same bytes. */
struct store_object *
store_whole(struct store *s, const struct store_new *n, struct sl_span body)
{
    struct record r = record_of(s, n), own;
    size_t n_head = record_head_size(&r);
    struct object *o;
    char *at;
    int is_filled;

    SL_ASSERT(body.n <= STORE_INLINE);
    store_send_for(s, r.h.hash); /* for store_keep() */
    if (!store_takes(s, n) || (o = object_new(s->memory, n_head + body.n)) == NULL)
        return NULL;
    r.h.size = body.n;
    r.h.n_inline = (uint32_t)body.n;
    own = record_write(o->head->at, &r);
    at = o->head->at + n_head;
    if (body.n > 0)
        memcpy(at, body.at, body.n);
    is_filled = object_fill(o, &own, body.n > 0 ? o->head : NULL, body.n > 0 ? at : NULL) == 0;
    SL_ASSERT(is_filled); /* only extents need memory */
    return &o->pub;
}

void
store_keep(struct store *s, struct sl_loop *loop, struct store_object *o)
{
    object_commit(s, loop, object_of(o));
}

struct store_writer *
store_writer_open(struct store *s, struct sl_loop *loop, const struct store_new *n)
{
    struct record r = record_of(s, n);
    struct store_writer *w;

    if (!store_takes(s, n) || (w = store_zeros(sizeof *w)) == NULL)
        return NULL;
    w->s = s;
    w->loop = loop;
    w->size = n->size;
    w->data = n->data;
    w->room = n->room;
    w->object = object_make(s, &r, NULL, NULL);
    if (w->object != NULL && (w->object->arriving = arriving_new(w->object, loop)) == NULL)
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

void
writer_has_room(struct store_writer *w, struct sl_loop *loop)
{
    w->is_full = 0;
    w->room(loop, w->data);
}

static void
run_done(struct sl_loop *loop, struct sl_mail *mail)
{
    struct op *op = (struct op *)((char *)mail - offsetof(struct op, mail));
    struct arriving *a = op->object->arriving;
    struct store_writer *w = a->writer;

    op_free(op);
    if (w != NULL && w->is_full && atomic_load(&a->n_unwritten) <= CHUNKS_BEHIND / 2)
        writer_has_room(w, loop);
}

static void
run_add(struct op *op, const struct chunk *c)
{
    op->held[op->append.n_parts] = bytes_hold(c->bytes);
    append_add(&op->append, c->bytes->at, c->n);
}

/* Takes the op, NULL if there was no memory: 0, or -1. */
static int
queue_op(struct store_writer *w, struct op *op)
{
    if (op != NULL && queue_add(w->s, w->loop, op))
        return 0;
    if (op != NULL)
        op_free(op);
    return -1;
}

/* The chunks that are not in the queue, all full but perhaps the last: 0, or -1: the disk does not
 * take them. */
static int
run_queue(struct store_writer *w)
{
    struct arriving *a = w->object->arriving;
    struct op *op = op_new(OP_CHUNK, w->object);
    uint32_t i, n = a->n_chunks - w->n_queued;

    if (op != NULL) {
        op->chunk = w->n_queued;
        op->loop = w->loop;
        op->mail.fn = run_done;
        append_begin(&op->append, (char *)&op->chunk_head, sizeof op->chunk_head);
        for (i = 0; i < n; i++)
            run_add(op, &a->chunks[w->n_queued + i]);
        op->chunk_head = chunk_header(
            w->object->hash, (uint32_t)(append_size(&op->append) - sizeof op->chunk_head));
        atomic_fetch_add(&a->n_unwritten, n);
    }
    if (queue_op(w, op) == 0) {
        w->n_queued += n;
        return 0;
    }
    if (op != NULL)
        atomic_fetch_sub(&a->n_unwritten, n);
    return -1;
}

/* Room for more in the first chunk of a body whose length is not known. */
static int
chunk_grow(struct arriving *a, struct chunk *c)
{
    size_t size = c->bytes->size * 2 < STORE_INLINE ? c->bytes->size * 2 : STORE_INLINE;
    struct store_bytes *larger = bytes_new(size);

    if (larger == NULL)
        return -1;
    memcpy(larger->at, c->bytes->at, c->n);
    arriving_replace(a, c, larger);
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

static struct chunk *
chunk_last(struct arriving *a)
{
    return a->n_chunks > 0 ? &a->chunks[a->n_chunks - 1] : NULL;
}

static void
writer_relay(struct store_writer *w, enum store_relayed why)
{
    if (w->relayed != STORE_NOT_RELAYED)
        return;
    w->relayed = why;
    arriving_relay(w->object->arriving, w->n_queued);
}

/* In memory alone, only what is small is stored. */
static enum store_relayed
why_not_taken(const struct store *s)
{
    return atomic_load(&s->disk) == DISK_NONE ? STORE_IS_TOO_LARGE : STORE_DISK_FAILS;
}

/* The chunk that the next byte goes to, with room; NULL: no memory. */
static struct chunk *
chunk_current(struct store_writer *w)
{
    struct arriving *a = w->object->arriving;
    struct chunk *c = chunk_last(a);

    if (c != NULL && c->n < c->bytes->size)
        return c;
    if (c != NULL && c->n < STORE_INLINE)
        return chunk_grow(a, c) == 0 ? c : NULL;
    if (c != NULL && w->relayed == STORE_NOT_RELAYED &&
        a->n_chunks - w->n_queued == w->s->layout.run && run_queue(w) != 0)
        writer_relay(w, why_not_taken(w->s));
    return arriving_begin_chunk(a, chunk_size(w)) == 0 ? chunk_last(a) : NULL;
}

static int
may_grow_to(const struct store_writer *w, uint64_t to)
{
    return to <= STORE_INLINE || to <= size_max(w->s);
}

char *
store_room(const struct store_writer *w, size_t *n)
{
    const struct chunk *c = chunk_last(w->object->arriving);

    if (c == NULL || c->n == c->bytes->size)
        return NULL;
    *n = c->bytes->size - c->n;
    return c->bytes->at + c->n;
}

enum sl_flow
store_append(struct store_writer *w, const char *at, size_t n)
{
    struct arriving *a = w->object->arriving;

    if (w->size >= 0 && a->n + n > (uint64_t)w->size)
        return SL_FLOW_GONE;
    if (!may_grow_to(w, a->n + n))
        writer_relay(w, STORE_IS_TOO_LARGE);
    else if (arriving_disk_failed(a))
        writer_relay(w, STORE_DISK_FAILS);
    else if (a->n + n > STORE_INLINE && !disk_is_on(w->s))
        writer_relay(w, why_not_taken(w->s));
    while (n > 0) {
        struct chunk *c = chunk_current(w);
        size_t part;

        if (c == NULL)
            return SL_FLOW_GONE;
        part = c->bytes->size - c->n < n ? c->bytes->size - c->n : n;
        if (at != c->bytes->at + c->n)
            memcpy(c->bytes->at + c->n, at, part);
        at += part;
        n -= part;
        c->n += (uint32_t)part;
        arriving_grown(a, part);
    }
    if (w->relayed != STORE_NOT_RELAYED)
        return arriving_flow(a);
    w->is_full = atomic_load(&a->n_unwritten) >= CHUNKS_BEHIND;
    return w->is_full ? SL_FLOW_FULL : SL_FLOW_ROOM;
}

void
store_relay(struct store_writer *w)
{
    writer_relay(w, STORE_IS_TOO_LARGE);
}

enum store_relayed
store_is_relayed(const struct store_writer *w)
{
    return w->relayed;
}

static void
writer_end(struct store_writer *w, int is_complete)
{
    arriving_end(w->object->arriving, is_complete);
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
        arriving_replace(a, &a->chunks[0], fitting);
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

static void
commit_chunks(struct store_writer *w)
{
    object_comes(w->s, w->object);
    if (run_queue(w) == 0 && queue_op(w, op_new(OP_FINISH, w->object)) == 0)
        return;
    object_came(w->s, w->object);
    object_lost(w->s, w->object);
}

void
store_commit(struct store_writer **writer)
{
    struct store_writer *w = *writer;
    struct arriving *a = w->object->arriving;

    *writer = NULL;
    if ((w->size >= 0 && a->n != (uint64_t)w->size) || w->relayed != STORE_NOT_RELAYED) {
        writer_end(w, w->size < 0 || a->n == (uint64_t)w->size);
        return;
    }
    if (a->n_chunks < 2)
        commit_small(w);
    else
        commit_chunks(w);
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

struct store_object *
store_update(struct store *s, struct sl_loop *loop, struct store_object *held,
             const struct store_new *n)
{
    struct object *before = object_of(held), *o;
    struct store_new of = *n;
    struct record r;

    if (before->arriving != NULL || n->meta.n > STORE_META_MAX || n->n_tags > STORE_TAGS_MAX ||
        !object_is_whole(s, before))
        return NULL;
    of.key = before->pub.key;
    of.hash = &before->hash;
    r = record_of(s, &of);
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

static void
forget_done(struct sl_loop *loop, struct sl_mail *mail)
{
    struct store_forget *f =
        (struct store_forget *)((char *)mail - offsetof(struct store_forget, mail));

    f->done(loop, f, f->is_kept);
}

void
forgotten(struct store_forget *f, int is_kept)
{
    f->is_kept = is_kept;
    f->mail.fn = forget_done;
    sl_loop_post(f->loop, &f->mail);
}

/* 0: the disk does not hear of it. */
static int
invalidate(struct store *s, struct sl_loop *loop, struct sl_span key, struct store_forget *f)
{
    struct store_hash hash = store_hash(s, key);
    struct record r = {
        .h = {.kind = RECORD_TOMB, .hash = hash, .n_key = (uint32_t)key.n}, .key = key};

    if (key.n == 0 || key.n > STORE_KEY_MAX)
        return 0;
    atomic_fetch_add(change_of(s, hash), 1);
    memory_forget(s->memory, hash);
    if (!index_is_used(s))
        return 0;
    index_forget(&s->index, hash);
    atomic_fetch_add(change_of(s, hash), 1); /* for who found it there since the first time */
    return queue_tomb(s, loop, &r, f);
}

void
store_invalidate(struct store *s, struct sl_loop *loop, struct sl_span key, struct store_forget *f)
{
    if (f != NULL)
        f->loop = loop;
    if (!invalidate(s, loop, key, f) && f != NULL)
        forgotten(f, 0);
}
