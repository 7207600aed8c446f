/* What waits to be written, and the job that writes it: one at a time in a process, so that its
 * segment has one writer.  What gathers meanwhile goes out in one call.  The index learns of a
 * record when it is written, in the order of the queue. */
#include "store_impl.h"

#include <stdlib.h>

#define QUEUE_BYTES_MAX (64 << 20)
#define GATHER_BYTES (STRETCH_BYTES / 4 * 3) /* so many are worth a write */
#define GATHER_MS 20                         /* fewer wait so long for more */
#define SPARE_MAX 2
#define BATCH 64
#define BYTES_A_RUN (8 << 20) /* then other work of the offload threads has its turn */

void
queue_open(struct store *s)
{
    pthread_mutex_init(&s->queued.lock, NULL);
    s->queued.last = &s->queued.first;
    s->current = -1;
}

void
queue_close(struct store *s)
{
    struct stretch *t;

    SL_ASSERT(s->queued.first == NULL);
    while ((t = s->queued.spare) != NULL) {
        s->queued.spare = t->next;
        free(t);
    }
    pthread_mutex_destroy(&s->queued.lock);
}

/* ---- what is queued ---- */

struct op *
op_new(enum op_kind kind, struct object *o)
{
    struct op *op = malloc(sizeof *op);

    if (op == NULL)
        return NULL;
    memset(op, 0, offsetof(struct op, append));
    op->kind = kind;
    op->object = o;
    if (o != NULL)
        object_hold(o);
    return op;
}

void
op_free(struct op *op)
{
    unsigned i;

    if (op->object != NULL)
        object_drop(&op->object);
    for (i = 0; i < SEGMENT_RUN && op->held[i] != NULL; i++)
        bytes_drop(&op->held[i]);
    free(op->stretch);
    free(op);
}

static size_t
op_size(const struct op *op)
{
    switch (op->kind) {
    case OP_STRETCH: return op->stretch->n_bytes;
    case OP_HEAD: return object_head_size(op->object) + (size_t)op->object->size;
    case OP_CHUNK: return append_size(&op->append);
    case OP_FINISH: return 0;
    }
    return 0;
}

/* Under the lock. */
static void
queue_put(struct queued *q, struct op *op)
{
    op->next = NULL;
    *q->last = op;
    q->last = &op->next;
    q->open = op->stretch;
}

/* Under the lock: a stretch with room for a record, the last of the queue; NULL: no memory. */
static struct stretch *
stretch_open(struct queued *q, size_t n)
{
    struct stretch *t = q->spare;
    struct op *op;

    if (q->open != NULL && stretch_has_room(q->open, n))
        return q->open;
    op = op_new(OP_STRETCH, NULL);
    if (op == NULL || (t == NULL && (t = malloc(sizeof *t)) == NULL)) {
        free(op);
        return NULL;
    }
    if (t == q->spare) {
        q->spare = t->next;
        q->n_spare--;
    }
    t->n = t->n_bytes = 0;
    t->forgets = NULL;
    op->stretch = t;
    queue_put(q, op);
    return t;
}

static void
stretch_close(struct queued *q, struct stretch *t)
{
    pthread_mutex_lock(&q->lock);
    if (q->n_spare < SPARE_MAX) {
        t->next = q->spare;
        q->spare = t;
        q->n_spare++;
        t = NULL;
    }
    pthread_mutex_unlock(&q->lock);
    free(t);
}

/* ---- the job ---- */

/* Takes what is written together: a STRETCH is as much already, and a FINISH needs what went before
 * it, so these come alone. */
static unsigned
queue_take(struct queued *q, struct op *ops[BATCH], size_t *bytes)
{
    unsigned n = 0;

    pthread_mutex_lock(&q->lock);
    while (n < BATCH && q->first != NULL) {
        struct op *op = q->first;
        int is_alone = op->kind == OP_FINISH || op->kind == OP_STRETCH;

        if (is_alone && n > 0)
            break;
        ops[n++] = op;
        *bytes += op_size(op);
        q->first = op->next;
        if (is_alone)
            break;
    }
    if (q->first == NULL) {
        q->last = &q->first;
        q->open = NULL;
        q->is_urgent = 0;
    }
    pthread_mutex_unlock(&q->lock);
    return n;
}

/* The index learns where an object stands, unless it was replaced or forgotten since it was published,
 * perhaps by another process. */
static void
head_written(struct store *s, struct store_hash hash, uint64_t change, uint64_t offset, size_t n)
{
    const _Atomic(uint64_t) *now = change_of(s, hash);

    count(&s->head->n_written, 1);
    if (change != atomic_load(now))
        return;
    disk_load_index_page(s, index_page(&s->index, hash));
    index_put(&s->index, hash, entry_make(hash, offset, n));
    if (change != atomic_load(now)) /* just now */
        index_drop(&s->index, hash, offset / SEGMENT_UNIT);
}

/* What the disk has of its key is older, and is not to come back; what another process has
 * stored meanwhile goes with it, and is fetched again. */
void
head_not_written(struct store *s, struct store_hash hash)
{
    count(&s->n_unwritten, 1);
    if (index_is_used(s))
        index_forget(&s->index, hash);
}

/* Whoever asked before may have read the page of the index, which had it, and keeps what it
 * led to. */
static void
tomb_written(struct store *s, struct store_hash hash)
{
    disk_load_index_page(s, index_page(&s->index, hash));
    if (index_forget(&s->index, hash) > 0)
        atomic_fetch_add(change_of(s, hash), 1);
}

static void
tombs_end(const struct store *s, struct stretch *t, int is_kept)
{
    struct store_forget *f;

    while ((f = t->forgets) != NULL && !s->is_closing) {
        t->forgets = f->next;
        forgotten(f, is_kept);
    }
}

static void
stretch_write(struct store *s, struct op *op)
{
    struct stretch *t = op->stretch;
    unsigned i, n = disk_is_on(s) ? segment_append_stretch(s, t) : 0;

    for (i = 0; i < n; i++) {
        const struct stretch_record *r = &t->records[i];

        if (i + SEND_AHEAD < n)
            disk_send_for(s, t->records[i + SEND_AHEAD].hash);
        if (r->is_tomb)
            tomb_written(s, r->hash);
        else
            head_written(s, r->hash, r->change, r->offset, r->n);
    }
    for (; i < t->n; i++)
        if (t->records[i].is_tomb)
            count(&s->n_unwritten, 1);
        else
            head_not_written(s, t->records[i].hash);
    tombs_end(s, t, n == t->n);
    op->stretch = NULL;
    op_free(op);
    stretch_close(&s->queued, t);
}

/* 1: there is something to be written. */
static int
op_prepare(struct store *s, struct op *op)
{
    if (op->kind == OP_FINISH) {
        struct object *o = arriving_finish(s, op->object);

        object_came(s, op->object);
        if (o == NULL) {
            object_lost(s, op->object);
            return 0;
        }
        object_drop(&op->object);
        op->object = o;
        op->kind = OP_HEAD;
    }
    if (op->kind == OP_HEAD) {
        append_begin(&op->append, op->object->head->at, object_head_size(op->object));
        if (op->object->body_at != NULL)
            append_add(&op->append, op->object->body_at, op->object->size);
    }
    return 1;
}

static void
op_written(struct store *s, struct op *op)
{
    const struct append *a = &op->append;
    struct store_extent e;
    unsigned i;

    if (op->kind == OP_HEAD)
        head_written(s, op->object->hash, op->object->change, a->offset, append_size(a));
    else
        for (i = 0; i < a->n_parts; i++) {
            e = append_extent(a, i);
            arriving_written(op->object->arriving, op->chunk + i, &e);
        }
}

static void
op_failed(struct store *s, struct op *op)
{
    if (op->kind == OP_CHUNK)
        arriving_not_written(op->object->arriving);
    else
        head_not_written(s, op->object->hash);
}

/* A CHUNK is its writer's, who frees it. */
static void
op_end(struct store *s, struct op *op)
{
    if (op->kind == OP_CHUNK)
        atomic_fetch_sub(&op->object->arriving->n_unwritten, op->append.n_parts);
    if (op->kind == OP_CHUNK && !s->is_closing)
        sl_loop_post(op->loop, &op->mail);
    else
        op_free(op);
}

static void
ops_write(struct store *s, struct op *ops[BATCH], unsigned n_taken)
{
    struct append *appends[BATCH];
    unsigned i, n = 0, n_written = 0;

    for (i = 0; i < n_taken; i++)
        if (op_prepare(s, ops[i])) {
            ops[n] = ops[i];
            appends[n] = &ops[n]->append;
            n++;
        } else
            op_end(s, ops[i]);
    if (n > 0 && disk_is_on(s))
        n_written = segment_append(s, appends, n);
    for (i = 0; i < n; i++) {
        if (i < n_written)
            op_written(s, ops[i]);
        else
            op_failed(s, ops[i]);
        op_end(s, ops[i]);
    }
}

/* How many bytes; 0: the queue is empty. */
static size_t
queue_write(struct store *s)
{
    struct queued *q = &s->queued;
    struct op *ops[BATCH];
    size_t bytes = 0;
    unsigned n = queue_take(q, ops, &bytes);

    if (n == 0)
        return 0;
    if (ops[0]->kind == OP_STRETCH)
        stretch_write(s, ops[0]);
    else
        ops_write(s, ops, n);
    pthread_mutex_lock(&q->lock);
    q->bytes -= bytes;
    pthread_mutex_unlock(&q->lock);
    return bytes + 1;
}

static struct store *
flush_store(struct sl_offload *job)
{
    return (struct store *)((char *)job - offsetof(struct store, flush_job));
}

static void
flush_work(struct sl_offload *job)
{
    struct store *s = flush_store(job);
    size_t sum = 0, n;

    while (sum < BYTES_A_RUN && (n = queue_write(s)) > 0)
        sum += n;
}

static void flush_done(struct sl_loop *loop, struct sl_offload *job);

enum flush { FLUSH_NOT, FLUSH_TIMED, FLUSH_NOW };

/* Under the lock: what the caller, whose loop it is, has to do when it is free again. */
static enum flush
flush_due(struct queued *q, struct sl_loop *loop, enum queue_when when)
{
    if (q->first == NULL)
        return FLUSH_NOT;
    q->is_urgent |= when == QUEUE_NOW; /* also where a job at its end saw nothing of it */
    if (q->is_running)
        return FLUSH_NOT;
    if (q->is_urgent || q->bytes >= GATHER_BYTES) {
        q->is_running = 1;
        return FLUSH_NOW;
    }
    if (q->is_timed)
        return FLUSH_NOT;
    q->is_timed = 1;
    if (q->loop == NULL)
        q->loop = loop;
    return FLUSH_TIMED;
}

/* Not under the lock: the thread that is woken wants it, too. */
static void
flush_start(struct store *s, struct sl_loop *loop)
{
    s->flush_job.work = flush_work;
    s->flush_job.done = flush_done;
    if (sl_offload(loop, &s->flush_job) == 0)
        return;
    pthread_mutex_lock(&s->queued.lock);
    s->queued.is_running = 0;
    pthread_mutex_unlock(&s->queued.lock);
}

void
queue_kick(struct store *s, struct sl_loop *loop)
{
    struct queued *q = &s->queued;
    enum flush flush;

    pthread_mutex_lock(&q->lock);
    flush = flush_due(q, loop, QUEUE_NOW);
    pthread_mutex_unlock(&q->lock);
    if (flush == FLUSH_NOW)
        flush_start(s, loop);
}

static void
timer_fired(struct sl_loop *loop, struct sl_timer *timer)
{
    struct store *s = (struct store *)((char *)timer - offsetof(struct store, queued.timer));

    pthread_mutex_lock(&s->queued.lock);
    s->queued.is_timed = 0;
    pthread_mutex_unlock(&s->queued.lock);
    queue_kick(s, loop);
}

static void
timer_asked_for(struct sl_loop *loop, struct sl_mail *mail)
{
    struct store *s = (struct store *)((char *)mail - offsetof(struct store, queued.mail));

    s->queued.timer.fn = timer_fired;
    sl_timer_set(loop, &s->queued.timer, sl_loop_now(loop) + GATHER_MS);
}

static void
flush_do(struct store *s, struct sl_loop *loop, enum flush flush)
{
    if (flush == FLUSH_NOW)
        flush_start(s, loop);
    if (flush == FLUSH_TIMED) {
        s->queued.mail.fn = timer_asked_for;
        sl_loop_post(s->queued.loop, &s->queued.mail);
    }
}

static void
flush_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct store *s = flush_store(job);
    struct queued *q = &s->queued;
    enum flush flush;

    pthread_mutex_lock(&q->lock);
    q->is_running = 0;
    flush = flush_due(q, loop, QUEUE_SOON);
    pthread_mutex_unlock(&q->lock);
    flush_do(s, loop, flush);
}

/* ---- adding ---- */

int
queue_is_long(const struct store *s)
{
    return atomic_load_explicit(&s->queued.bytes, memory_order_relaxed) > QUEUE_BYTES_MAX / 2;
}

int
queue_add(struct store *s, struct sl_loop *loop, struct op *op)
{
    struct queued *q = &s->queued;
    size_t size = op_size(op);
    enum flush flush;
    int is_taken;

    pthread_mutex_lock(&q->lock);
    is_taken = disk_is_on(s) && (op->kind != OP_HEAD || q->bytes + size <= QUEUE_BYTES_MAX);
    if (is_taken) {
        queue_put(q, op);
        q->bytes += size;
    }
    flush = flush_due(q, loop, QUEUE_NOW);
    pthread_mutex_unlock(&q->lock);
    flush_do(s, loop, flush);
    return is_taken;
}

/* By copy. */
static int
queue_small(struct store *s, struct sl_loop *loop, const struct object *o, size_t size,
            enum queue_when when)
{
    struct queued *q = &s->queued;
    uint64_t check = o->body_at != NULL ? body_checksum(o->body_at, o->size, store_id(s)) : 0;
    struct stretch *t = NULL;
    enum flush flush;

    pthread_mutex_lock(&q->lock);
    if (disk_is_on(s) && q->bytes + size <= QUEUE_BYTES_MAX && (t = stretch_open(q, size)) != NULL) {
        stretch_add_object(t, o, check);
        q->bytes += size;
    }
    flush = flush_due(q, loop, when);
    pthread_mutex_unlock(&q->lock);
    flush_do(s, loop, flush);
    return t != NULL;
}

int
queue_object(struct store *s, struct sl_loop *loop, struct object *o, enum queue_when when)
{
    size_t size = stretch_object_size(o);
    struct op *op;

    if (!disk_is_on(s))
        return 0;
    if (size <= STRETCH_RECORD_MAX)
        return queue_small(s, loop, o, size, when);
    op = op_new(OP_HEAD, o);
    if (op != NULL && queue_add(s, loop, op))
        return 1;
    if (op != NULL)
        op_free(op);
    return 0;
}

int
queue_tomb(struct store *s, struct sl_loop *loop, const struct record *r, struct store_forget *f)
{
    struct queued *q = &s->queued;
    size_t size = stretch_tomb_size(r);
    struct stretch *t;
    enum flush flush;

    pthread_mutex_lock(&q->lock);
    t = disk_is_on(s) ? stretch_open(q, size) : NULL;
    if (t != NULL) {
        stretch_add_tomb(t, r);
        q->bytes += size;
        if (f != NULL) {
            f->next = t->forgets;
            t->forgets = f;
        }
    }
    flush = flush_due(q, loop, QUEUE_NOW); /* a crash shall not bring it back */
    pthread_mutex_unlock(&q->lock);
    flush_do(s, loop, flush);
    return t != NULL;
}

void
queue_drain(struct store *s)
{
    s->is_closing = 1;
    while (queue_write(s) > 0)
        ;
}
