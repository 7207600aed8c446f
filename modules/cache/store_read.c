/* Finding objects, and their bodies.
 *
 * A hit in memory: the table, a hold, the key, the cell of changes, the purges; nothing else is
 * touched.  On disk: the index, and if it has something, one read by an offload job, of the head
 * and an inline body together. */
#include "page_cache.h"
#include "store_impl.h"

#include <errno.h>
#include <stdlib.h>

#define HINT_MIN 1024
#define AT_HAND_MAX 65536u /* a record up to this is read on the loop if that cannot wait */

/* ---- records ---- */

/* Reads n bytes at offset, or what the segment has of them. */
static struct store_bytes *
segment_bytes(struct store *s, uint64_t offset, uint64_t n)
{
    uint64_t room = s->layout.segment_size - offset % s->layout.segment_size;
    struct store_bytes *bytes = bytes_new(n < room ? n : room);

    if (bytes != NULL && disk_read(s, bytes->at, bytes->size, offset) != 0)
        bytes_drop(&bytes);
    return bytes;
}

/* The record at offset with its inline body, in bytes that are the caller's. */
static enum read_found
record_read(struct store *s, uint64_t offset, uint64_t n, struct record *r,
            struct store_bytes **bytes)
{
    enum record_found found = RECORD_MORE;
    int tries;

    for (tries = 0; tries < 3; tries++) { /* the head's lengths, then all of it */
        *bytes = segment_bytes(s, offset, n);
        if (*bytes == NULL)
            return READ_ERROR;
        found = record_decode((*bytes)->at, (*bytes)->size, store_id(s), r);
        if (found == RECORD_BAD)
            break;
        n = found == RECORD_OK ? r->n_head + r->h.n_inline : r->n_head;
        if (found == RECORD_OK && n <= (*bytes)->size)
            return READ_OK;
        bytes_drop(bytes);
    }
    bytes_drop(bytes);
    return READ_WRONG;
}

/* The same from the system's page cache; n: what the record has at most.  READ_LATER: it is not
 * there, or looks wrong. */
static enum read_found
record_read_now(struct store *s, uint64_t offset, uint64_t n, struct record *r,
                struct store_bytes **bytes)
{
    uint64_t room = s->layout.segment_size - offset % s->layout.segment_size;
    ssize_t got;

    *bytes = n <= AT_HAND_MAX ? bytes_new(n < room ? n : room) : NULL;
    if (*bytes == NULL)
        return READ_LATER;
    got = disk_read_now(s, (*bytes)->at, (*bytes)->size, offset);
    if (got > 0 && record_decode((*bytes)->at, (size_t)got, store_id(s), r) == RECORD_OK &&
        r->n_head + r->h.n_inline <= (uint64_t)got)
        return READ_OK;
    bytes_drop(bytes);
    return READ_LATER;
}

/* What was read at offset, taken over. */
static enum read_found
object_of_record(struct store *s, uint64_t offset, struct record r, struct store_bytes *bytes,
                 struct object **found)
{
    size_t n = r.n_head + r.h.n_inline;
    int is_held = segment_holds(s, offset, r.h.seq);
    struct object *o;

    if (r.h.kind != RECORD_HEAD || !is_held ||
        !record_body_is_good(&r, bytes->at + r.n_head, store_id(s))) {
        bytes_drop(&bytes);
        return is_held ? READ_WRONG : READ_GONE;
    }
    bytes = bytes_trim(bytes, n);
    record_decode(bytes->at, n, store_id(s), &r); /* the bytes may have moved */
    o = object_new(s->memory, 0);
    if (o == NULL) {
        bytes_drop(&bytes);
        return READ_ERROR;
    }
    o->head = bytes;
    if (object_fill(o, &r, r.h.n_inline > 0 ? bytes : NULL,
                    r.h.n_inline > 0 ? bytes->at + r.n_head : NULL) != 0) {
        object_drop(&o);
        return READ_ERROR;
    }
    *found = o;
    return READ_OK;
}

enum read_found
object_read(struct store *s, uint64_t offset, uint64_t n_hint, enum read_when when,
            struct object **found)
{
    struct store_bytes *bytes;
    struct record r;
    enum read_found how;

    if (offset / s->layout.segment_size >= s->layout.n_segments)
        return READ_WRONG;
    n_hint = n_hint < HINT_MIN ? HINT_MIN : n_hint;
    how = when == READ_NOW ? record_read_now(s, offset, n_hint, &r, &bytes)
                           : record_read(s, offset, n_hint, &r, &bytes);
    if (how != READ_LATER)
        count(&s->head->n_disk_reads, 1);
    return how == READ_OK ? object_of_record(s, offset, r, bytes, found) : how;
}

int
object_is_whole(const struct store *s, const struct object *o)
{
    uint32_t i;

    for (i = 0; i < o->n_extents; i++)
        if (!segment_holds(s, o->extents[i].offset, o->extents[i].seq))
            return 0;
    return 1;
}

int
store_stands(const struct store *s, const struct store_object *held)
{
    return object_is_whole(s, object_of(held));
}

struct store_bytes *
extent_read(struct store *s, const struct store_extent *e)
{
    struct store_bytes *bytes = segment_bytes(s, e->offset, e->n);

    count(&s->head->n_disk_reads, 1);
    if (bytes == NULL) {
        disk_failed(s, "cannot read objects", 0);
        return NULL;
    }
    if (bytes->size == e->n && body_checksum(bytes->at, e->n, store_id(s)) == e->check &&
        segment_holds(s, e->offset, e->seq))
        return bytes;
    if (segment_holds(s, e->offset, e->seq))
        disk_is_damaged(s, "a part of a body");
    bytes_drop(&bytes);
    return NULL;
}

/* ---- finding ---- */

/* What the tier has under the hash if it is still right, held; *state: what purges say of it. */
static struct object *
memory_look(struct store *s, struct store_hash hash, struct sl_span key, enum store_state *state)
{
    struct object *o = memory_find(s->memory, hash);

    if (o == NULL)
        return NULL;
    if (key_is(o, key) &&
        o->change == atomic_load_explicit(change_of(s, hash), memory_order_acquire) &&
        (*state = purges_state(&s->purges, &o->pub)) != STORE_GONE && object_is_whole(s, o))
        return o;
    memory_remove(s->memory, o);
    object_drop(&o);
    return NULL;
}

static void
hit(struct store *s, struct object *o)
{
    uint32_t hits = atomic_fetch_add_explicit(&o->hits, 1, memory_order_relaxed);

    if (hits < ENTRY_USED_MAX && disk_is_on(s))
        index_use(&s->index, o->hash);
}

/* 1: the object of an entry is what was asked for; g->found has it.  -1: not to be had now. */
static int
get_entry(struct store_get *g, uint64_t entry, uint64_t change, enum read_when when)
{
    struct store *s = g->store;
    uint64_t offset = entry_place(entry) * SEGMENT_UNIT;
    struct object *o = NULL;

    switch (object_read(s, offset, entry_bytes_max(entry), when, &o)) {
    case READ_LATER:
        return -1;
    case READ_ERROR:
        disk_failed(s, "cannot read objects", 0);
        return 0;
    case READ_WRONG:
        /* else it has left the index while it was read, and others may be written there */
        if (index_drop(&s->index, g->hash, entry_place(entry)))
            disk_is_damaged(s, "what the index leads to");
        return 0;
    case READ_GONE:
        index_drop(&s->index, g->hash, entry_place(entry));
        return 0;
    case READ_OK:
        break;
    }
    if (!key_is(o, g->key)) {
        object_drop(&o);
        return 0;
    }
    g->state = purges_state(&s->purges, &o->pub);
    if (g->state == STORE_GONE || !object_is_whole(s, o)) {
        index_drop(&s->index, g->hash, entry_place(entry));
        object_drop(&o);
        return 0;
    }
    o->change = change;
    hit(s, o);
    memory_put_read(s->memory, o);
    g->found = &o->pub;
    return 1;
}

/* As get_entry(), of all the index has. */
static int
get_entries(struct store_get *g, enum read_when when)
{
    struct store *s = g->store;
    uint64_t change = atomic_load(change_of(s, g->hash)), found[INDEX_FOUND_MAX];
    unsigned i, n = index_find(&s->index, g->hash, found);
    int is_it = 0;

    for (i = 0; i < n && is_it == 0; i++)
        is_it = get_entry(g, found[i], change, when);
    return is_it;
}

/* A look-up that an offload thread is at, with a copy of its key behind it: who asked may be gone
 * before it is over. */
struct store_pending {
    struct sl_offload job;
    struct store_get get, *asker; /* asker NULL: it was cancelled */
};

static void
get_work(struct sl_offload *job)
{
    struct store_get *g = &((struct store_pending *)job)->get;

    disk_load_index_page(g->store, index_page(&g->store->index, g->hash));
    get_entries(g, READ_WAITING);
}

static void
get_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct store_pending *p = (struct store_pending *)job;
    struct store_get *asker = p->asker, get = p->get;

    free(p);
    if (asker == NULL) {
        if (get.found != NULL)
            store_drop(&get.found);
        return;
    }
    asker->pending = NULL;
    asker->state = get.state;
    asker->done(loop, asker, get.found);
}

static enum store_answer
get_offload(struct store_get *g, struct sl_loop *loop)
{
    struct store_pending *p = malloc(sizeof *p + g->key.n);

    if (p == NULL)
        return STORE_MISS;
    *p = (struct store_pending){{.work = get_work, .done = get_done}, *g, g};
    p->get.key.at = memcpy(p + 1, g->key.at, g->key.n);
    if (sl_offload(loop, &p->job) != 0) {
        free(p);
        return STORE_MISS;
    }
    g->pending = p;
    return STORE_WAIT;
}

void
store_get_cancel(struct store_get *g)
{
    g->pending->asker = NULL;
    g->pending = NULL;
}

static int
index_is_at_hand(struct store *s, struct store_hash hash)
{
    return page_is_loaded(&s->index.pages[index_page(&s->index, hash)]);
}

/* Whether the disk may have it. */
static int
disk_may_have(struct store *s, struct store_hash hash)
{
    uint64_t found[INDEX_FOUND_MAX];

    return disk_is_on(s) && (!index_is_at_hand(s, hash) || index_find(&s->index, hash, found) > 0);
}

/* On the loop if the system has it in memory, else by an offload thread. */
static enum store_answer
get_from_disk(struct store_get *g, struct sl_loop *loop)
{
    int is_it = index_is_at_hand(g->store, g->hash) ? get_entries(g, READ_NOW) : -1;

    if (is_it >= 0)
        return is_it ? STORE_HIT : STORE_MISS;
    return get_offload(g, loop);
}

void
store_send_for(const struct store *s, struct store_hash hash)
{
    memory_send_for(s->memory, hash);
    if (disk_is_on(s))
        disk_send_for(s, hash);
}

enum store_answer
store_get(struct store *s, struct sl_loop *loop, struct store_get *g, struct store_object **found)
{
    struct object *o;
    enum store_answer answer;

    g->pending = NULL;
    o = memory_look(s, g->hash, g->key, &g->state);
    if (o != NULL) {
        hit(s, o);
        *found = &o->pub;
        return STORE_HIT;
    }
    g->store = s;
    g->found = NULL;
    answer = disk_is_on(s) ? get_from_disk(g, loop) : STORE_MISS;
    *found = g->found;
    return answer;
}

struct store_object *
store_at_hand(struct store *s, struct store_hash hash, struct sl_span key)
{
    enum store_state state;
    struct object *o = memory_look(s, hash, key, &state);

    return o != NULL ? &o->pub : NULL;
}

enum store_answer
store_peek(struct store *s, struct sl_span key, struct store_object **found)
{
    struct store_hash hash = store_hash(s, key);

    *found = store_at_hand(s, hash, key);
    return *found != NULL ? STORE_HIT : disk_may_have(s, hash) ? STORE_WAIT : STORE_MISS;
}

/* ---- bodies ---- */

static int
is_checked(const struct object *o, uint64_t extent)
{
    return atomic_load_explicit(&o->checked[extent / 64], memory_order_acquire) >> extent % 64 & 1;
}

static struct object *
read_object(const struct store_read *r)
{
    return object_of(r->object);
}

static enum store_io
piece_of_file(struct store *s, struct store_read *r, const struct store_extent *e)
{
    uint64_t skip = r->from % STORE_INLINE;

    if (!segment_pin(s, e->offset, e->seq))
        return STORE_IO_BROKEN;
    atomic_store(segment_given(s, e->offset / s->layout.segment_size), 1);
    r->piece = (struct store_piece){.n = e->n - skip,
                                    .fd = s->fd_objects,
                                    .offset = (int64_t)(e->offset + skip),
                                    .store = s};
    return STORE_IO_OK;
}

static void
read_work(struct sl_offload *job)
{
    struct store_read *r = (struct store_read *)((char *)job - offsetof(struct store_read, job));
    struct store *s = r->piece.store;
    uint64_t skip = r->from % STORE_INLINE, i = r->from / STORE_INLINE;
    struct object *o = read_object(r);
    struct store_bytes *bytes = extent_read(s, &r->extent);

    r->io = bytes != NULL ? STORE_IO_OK : STORE_IO_BROKEN;
    if (bytes == NULL)
        return;
    if (o->checked != NULL)
        atomic_fetch_or(&o->checked[i / 64], UINT64_C(1) << i % 64);
    if (r->how == STORE_MEMORY) {
        r->piece = (struct store_piece){.at = bytes->at + skip, .n = r->extent.n - skip, .fd = -1};
        r->piece.hold = bytes;
        return;
    }
    bytes_drop(&bytes);
    r->io = piece_of_file(s, r, &r->extent);
}

static void
read_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct store_read *r = (struct store_read *)((char *)job - offsetof(struct store_read, job));

    r->done(loop, r, r->io);
}

/* An extent checked before, from the system's page cache: an offload thread would cost more than
 * the copy.  0, or -1: not all of it is there. */
static int
piece_now(struct store *s, struct store_read *r)
{
    const struct store_extent *e = &r->extent;
    uint64_t skip = r->from % STORE_INLINE;
    struct store_bytes *bytes = bytes_new(e->n);

    if (bytes == NULL)
        return -1;
    if (disk_read_now(s, bytes->at, e->n, e->offset) != (ssize_t)e->n ||
        !segment_holds(s, e->offset, e->seq)) {
        bytes_drop(&bytes);
        return -1;
    }
    r->piece = (struct store_piece){.at = bytes->at + skip, .n = e->n - skip, .fd = -1};
    r->piece.hold = bytes;
    return 0;
}

/* Whether the loop can have these bytes without waiting for the disk. */
static int
is_at_hand(const struct store *s, uint64_t offset, uint64_t n)
{
    return page_cache_has(s->fd_objects, s->counts_pages, offset, n);
}

enum store_io
read_extent(struct store *s, struct store_read *r, const struct store_extent *e, int checked)
{
    int now = checked && is_at_hand(s, e->offset, e->n);

    if (!s->gives_files)
        r->how = STORE_MEMORY;
    if (now && r->how == STORE_FILE)
        return piece_of_file(s, r, e);
    r->extent = *e;
    if (now && piece_now(s, r) == 0)
        return STORE_IO_OK;
    r->piece = (struct store_piece){.store = s};
    r->job.work = read_work;
    r->job.done = read_done;
    return sl_offload(r->job.loop, &r->job) == 0 ? STORE_IO_WAIT : STORE_IO_BROKEN;
}

/* Bytes behind extent i, in its segment without anything between, that can be given with it. */
static uint64_t
run_behind(struct store *s, const struct object *o, uint64_t i)
{
    uint64_t n = 0, k;

    for (k = i + 1; k < o->n_extents && k < i + SEGMENT_RUN; k++) {
        const struct store_extent *before = &o->extents[k - 1], *e = &o->extents[k];

        if (e->offset != before->offset + before->n || e->seq != before->seq || !is_checked(o, k))
            break;
        n += e->n;
    }
    return n > 0 && is_at_hand(s, o->extents[i + 1].offset, n) ? n : 0;
}

enum store_io
store_read(struct store *s, struct sl_loop *loop, struct store_read *r)
{
    struct object *o = read_object(r);
    uint64_t i = r->from / STORE_INLINE;
    enum store_io io;

    r->job.loop = loop;
    r->piece = (struct store_piece){.fd = -1};
    r->is_waiting = 0;
    if (o->arriving != NULL)
        return arriving_read(s, r);
    if (r->from >= o->size)
        return STORE_IO_END;
    if (o->body_at != NULL) {
        r->piece = (struct store_piece){
            .at = o->body_at + r->from, .n = o->size - r->from, .fd = -1};
        return STORE_IO_OK;
    }
    io = read_extent(s, r, &o->extents[i], is_checked(o, i));
    if (io == STORE_IO_OK && r->piece.at == NULL)
        r->piece.n += run_behind(s, o, i);
    return io;
}

int
store_read_cancel(struct store_read *r)
{
    return read_object(r)->arriving != NULL ? arriving_cancel(r) : 0;
}

void
store_piece_drop(struct store_piece *piece)
{
    if (piece->hold != NULL)
        bytes_drop(&piece->hold);
    else if (piece->at == NULL && piece->n > 0)
        segment_unpin(piece->store, (uint64_t)piece->offset);
    *piece = (struct store_piece){.fd = -1};
}
