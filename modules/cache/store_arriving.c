/* Objects that arrive, as those see them who read them.
 *
 * The latest chunks stay in memory for those who are close behind; who is further behind reads the
 * file.  Of a body that is relayed, because it is not going to be stored after all, what is not on
 * disk stays until the last reader has it, and the writer waits for the slowest: a server need
 * not give the rest of the same response a second time, so that whoever lost bytes would have to
 * be cut.  How long the others wait for one who does not read at all is up to Timeout send=.
 *
 * Readers on other loops, the flushing job and the writer meet under the lock of the object that
 * arrives, held for a few stores; a complete object has none. */
#include "store_impl.h"

#include <stdlib.h>

#define CHUNKS_KEPT 4
#define RELAY_AHEAD (4 * STORE_INLINE) /* of the slowest reader */

/* ---- life ---- */

struct arriving *
arriving_new(struct object *o, struct sl_loop *loop)
{
    struct arriving *a = store_zeros(sizeof *a);

    if (a == NULL)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    a->last_waiting = &a->waiting;
    a->object = o;
    a->loop = loop;
    return a;
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

/* ---- reading ---- */

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

/* Under the lock: what has come, from memory, or *e says where it is on disk. */
static enum store_io
chunk_read(struct arriving *a, struct store_read *r, struct store_extent *e)
{
    uint64_t i = r->from / STORE_INLINE, skip = r->from % STORE_INLINE;
    uint64_t n = a->n - i * STORE_INLINE;
    const struct chunk *c = i >= a->first ? &a->chunks[i - a->first] : NULL;

    if (c == NULL || (c->bytes == NULL && !c->is_written))
        return STORE_IO_BROKEN; /* it was relayed, and nobody had said that it is needed */
    if (c->bytes == NULL) {
        *e = c->extent;
        return STORE_IO_OK;
    }
    r->piece = (struct store_piece){.at = c->bytes->at + skip,
                                    .n = (n < STORE_INLINE ? n : STORE_INLINE) - skip,
                                    .fd = -1,
                                    .hold = bytes_hold(c->bytes)};
    return STORE_IO_OK;
}

enum store_io
arriving_read(struct store *s, struct store_read *r)
{
    struct arriving *a = object_of(r->object)->arriving;
    struct store_extent e = {.n = 0};
    enum store_io io;

    pthread_mutex_lock(&a->lock);
    if (r->from < a->n)
        io = chunk_read(a, r, &e);
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

/* ---- chunks ---- */

/* Under the lock: a chunk that is on disk and far behind needs no memory. */
static void
chunk_thin(struct arriving *a, uint32_t at)
{
    if (a->chunks[at].is_written && at + CHUNKS_KEPT < a->n_chunks)
        bytes_drop(&a->chunks[at].bytes);
}

/* Under the lock, the writer's. */
static int
chunks_make_room(struct arriving *a)
{
    struct chunk *chunks;

    if (a->n_chunks < a->n_room)
        return 0;
    chunks = realloc(a->chunks, (2 * (size_t)a->n_room + 1) * sizeof *chunks);
    if (chunks == NULL)
        return -1;
    a->chunks = chunks;
    a->n_room = 2 * a->n_room + 1;
    return 0;
}

/* Under the lock, the writer's: of a body without end, what is behind everyone is forgotten. */
static void
chunks_forget(struct arriving *a)
{
    uint32_t n = 0;

    while (n < a->n_chunks && a->chunks[n].is_gone)
        n++;
    if (n == 0 || 2 * n < a->n_chunks)
        return;
    memmove(a->chunks, a->chunks + n, (a->n_chunks - n) * sizeof *a->chunks);
    a->n_chunks -= n;
    a->first += n;
}

int
arriving_begin_chunk(struct arriving *a, size_t size)
{
    struct store_bytes *bytes = bytes_new(size);
    int rc = -1;

    pthread_mutex_lock(&a->lock);
    chunks_forget(a);
    if (bytes != NULL && chunks_make_room(a) == 0) {
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

void
arriving_replace(struct arriving *a, struct chunk *c, struct store_bytes *bytes)
{
    struct store_bytes *before;

    pthread_mutex_lock(&a->lock);
    before = c->bytes;
    c->bytes = bytes;
    pthread_mutex_unlock(&a->lock);
    bytes_drop(&before);
}

void
arriving_written(struct arriving *a, uint32_t chunk, const struct store_extent *e)
{
    pthread_mutex_lock(&a->lock);
    if (chunk >= a->first) {
        a->chunks[chunk - a->first].extent = *e;
        a->chunks[chunk - a->first].is_written = 1;
        chunk_thin(a, chunk - a->first);
    }
    pthread_mutex_unlock(&a->lock);
}

void
arriving_not_written(struct arriving *a)
{
    pthread_mutex_lock(&a->lock);
    a->disk_failed = 1;
    pthread_mutex_unlock(&a->lock);
}

int
arriving_disk_failed(struct arriving *a)
{
    int failed;

    pthread_mutex_lock(&a->lock);
    failed = a->disk_failed;
    pthread_mutex_unlock(&a->lock);
    return failed;
}

/* ---- readers, and what is relayed to them ---- */

/* Under the lock: nobody will ask for what is before it. */
static uint64_t
least_needed(const struct arriving *a)
{
    const struct store_reader *reader;
    uint64_t least = a->n;

    for (reader = a->readers; reader != NULL; reader = reader->next)
        if (reader->least < least)
            least = reader->least;
    return least;
}

/* Under the lock: bytes in memory that the slowest has not read. */
static uint64_t
relay_ahead(const struct arriving *a, uint64_t least)
{
    return a->n - (least > a->relayed_from ? least : a->relayed_from);
}

static void
relay_has_room(struct sl_loop *loop, struct sl_mail *mail)
{
    struct arriving *a = (struct arriving *)((char *)mail - offsetof(struct arriving, mail));
    struct object *o = a->object;
    struct store_writer *w = a->writer;

    pthread_mutex_lock(&a->lock);
    a->is_posted = 0;
    a->is_full = 0;
    pthread_mutex_unlock(&a->lock);
    if (w != NULL)
        writer_has_room(w, loop);
    object_drop(&o);
}

/* Under the lock, of a body that is relayed: a reader has moved on.  The last chunk is the
 * writer's. */
static void
relay_moved(struct arriving *a)
{
    uint64_t least = least_needed(a);
    uint32_t i;

    for (i = a->n_gone > a->first ? a->n_gone - a->first : 0;
         i + 1 < a->n_chunks && (uint64_t)(a->first + i + 1) * STORE_INLINE <= least; i++) {
        bytes_drop(&a->chunks[i].bytes);
        a->chunks[i].is_gone = 1;
        a->n_gone = a->first + i + 1;
    }
    if (!a->is_full || a->is_posted || a->is_complete || a->is_broken ||
        relay_ahead(a, least) > RELAY_AHEAD / 2)
        return;
    a->is_posted = 1;
    a->mail.fn = relay_has_room;
    object_hold(a->object);
    sl_loop_post(a->loop, &a->mail);
}

int
store_reader_add(struct store_object *held, struct store_reader *reader)
{
    struct arriving *a = object_of(held)->arriving;
    int is_late = 0;

    *reader = (struct store_reader){.least = 0};
    if (a == NULL)
        return 0;
    pthread_mutex_lock(&a->lock);
    is_late = a->is_relayed;
    if (!is_late) {
        reader->next = a->readers;
        a->readers = reader;
        reader->object = held;
        store_hold(held);
    }
    pthread_mutex_unlock(&a->lock);
    return is_late ? -1 : 0;
}

void
store_reader_move(struct store_reader *reader, uint64_t least)
{
    struct arriving *a;

    if (reader->object == NULL)
        return;
    a = object_of(reader->object)->arriving;
    pthread_mutex_lock(&a->lock);
    reader->least = least;
    if (a->is_relayed)
        relay_moved(a);
    pthread_mutex_unlock(&a->lock);
}

void
store_reader_remove(struct store_reader *reader)
{
    struct store_reader **link;
    struct arriving *a;

    if (reader->object == NULL)
        return;
    a = object_of(reader->object)->arriving;
    pthread_mutex_lock(&a->lock);
    for (link = &a->readers; *link != reader; link = &(*link)->next)
        ;
    *link = reader->next;
    if (a->is_relayed)
        relay_moved(a);
    pthread_mutex_unlock(&a->lock);
    store_drop(&reader->object);
}

void
arriving_relay(struct arriving *a, uint32_t n_queued)
{
    pthread_mutex_lock(&a->lock);
    a->is_relayed = 1;
    a->relayed_from = (uint64_t)n_queued * STORE_INLINE;
    relay_moved(a);
    pthread_mutex_unlock(&a->lock);
}

/* ---- the writer's end ---- */

void
arriving_grown(struct arriving *a, size_t n)
{
    pthread_mutex_lock(&a->lock);
    a->n += n;
    arriving_wake(a);
    pthread_mutex_unlock(&a->lock);
}

enum sl_flow
arriving_flow(struct arriving *a)
{
    enum sl_flow flow = SL_FLOW_GONE;

    pthread_mutex_lock(&a->lock);
    if (a->readers != NULL) {
        a->is_full = relay_ahead(a, least_needed(a)) > RELAY_AHEAD;
        flow = a->is_full ? SL_FLOW_FULL : SL_FLOW_ROOM;
    }
    pthread_mutex_unlock(&a->lock);
    return flow;
}

void
arriving_end(struct arriving *a, int is_complete)
{
    pthread_mutex_lock(&a->lock);
    a->is_complete = is_complete;
    a->is_broken = !is_complete;
    arriving_wake(a);
    pthread_mutex_unlock(&a->lock);
    a->writer = NULL;
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
    if (o != NULL && !object_publish(s, o, arrived->change))
        object_drop(&o);
    return o;
}
