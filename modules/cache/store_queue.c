/* What waits to be written, and the job that writes it: one at a time in a process, so that its
 * segment has one writer.  What gathers meanwhile goes out in one call.  The index learns of a
 * record when it is written, in the order of the queue. */
#include "store_impl.h"

#include <stdlib.h>

#define QUEUE_BYTES_MAX (64 << 20)
#define BATCH 64
#define SPARE_MAX (4 * BATCH)
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
    struct op *op;

    SL_ASSERT(s->queued.first == NULL);
    while ((op = s->queued.spare) != NULL) {
        s->queued.spare = op->next;
        free(op);
    }
    pthread_mutex_destroy(&s->queued.lock);
}

/* ---- what is queued ---- */

static struct op *
spare_take(struct queued *q)
{
    struct op *op;

    pthread_mutex_lock(&q->lock);
    op = q->spare;
    if (op != NULL) {
        q->spare = op->next;
        q->n_spare--;
    }
    pthread_mutex_unlock(&q->lock);
    return op;
}

/* Under the lock: 0: there are enough. */
static int
spare_keep(struct queued *q, struct op *op)
{
    if (q->n_spare == SPARE_MAX)
        return 0;
    op->next = q->spare;
    q->spare = op;
    q->n_spare++;
    return 1;
}

struct op *
op_new(struct store *s, enum op_kind kind, struct object *o)
{
    struct op *op = spare_take(&s->queued);

    if (op == NULL && (op = malloc(sizeof *op)) == NULL)
        return NULL;
    memset(op, 0, offsetof(struct op, append));
    op->kind = kind;
    op->object = o;
    if (o != NULL) {
        object_hold(o);
        op->hash = o->hash;
    }
    return op;
}

/* What it holds. */
static void
op_let_go(struct op *op)
{
    unsigned i;

    if (op->object != NULL)
        object_drop(&op->object);
    for (i = 0; i < SEGMENT_RUN && op->held[i] != NULL; i++)
        bytes_drop(&op->held[i]);
}

void
op_free(struct op *op)
{
    op_let_go(op);
    free(op);
}

static size_t
op_size(const struct op *op)
{
    switch (op->kind) {
    case OP_HEAD: return object_head_size(op->object) + (size_t)op->object->size;
    case OP_CHUNK: return append_size(&op->append);
    case OP_FINISH: return 0;
    case OP_TOMB: return op->held[0]->size;
    }
    return 0;
}

/* ---- the job ---- */

/* Takes what is written together: a FINISH needs what went before it, so it comes alone. */
static unsigned
queue_take(struct store *s, struct op *ops[BATCH], size_t *bytes)
{
    struct queued *q = &s->queued;
    unsigned n = 0;

    pthread_mutex_lock(&q->lock);
    while (n < BATCH && q->first != NULL) {
        struct op *op = q->first;

        if (op->kind == OP_FINISH && n > 0)
            break;
        ops[n++] = op;
        *bytes += op_size(op);
        q->first = op->next;
        if (op->kind == OP_FINISH)
            break;
    }
    if (q->first == NULL)
        q->last = &q->first;
    pthread_mutex_unlock(&q->lock);
    return n;
}

/* 1: there is something to be written. */
static int
op_prepare(struct store *s, struct op *op)
{
    switch (op->kind) {
    case OP_FINISH: {
        struct object *o = arriving_finish(s, op->object);

        if (o == NULL) {
            atomic_fetch_add_explicit(&s->n_unwritten, 1, memory_order_relaxed);
            return 0;
        }
        object_drop(&op->object);
        op->object = o;
        op->kind = OP_HEAD;
    }
        /* fall through */
    case OP_HEAD:
        append_begin(&op->append, op->object->head->at, object_head_size(op->object));
        if (op->object->body_at != NULL)
            append_add(&op->append, op->object->body_at, op->object->size);
        return 1;
    case OP_TOMB:
        append_begin(&op->append, op->held[0]->at, op->held[0]->size);
        return 1;
    case OP_CHUNK:
        return 1;
    }
    return 0;
}

static void
op_written(struct store *s, struct op *op)
{
    const struct append *a = &op->append;
    struct store_extent e;
    unsigned i;

    switch (op->kind) {
    case OP_CHUNK:
        for (i = 0; i < a->n_parts; i++) {
            e = append_extent(a, i);
            arriving_written(op->object->arriving, op->chunk + i, &e);
        }
        break;
    case OP_HEAD:
        count(&s->head->n_written, 1);
        /* replaced or forgotten since it was published, perhaps by another process */
        if (op->object->change != atomic_load(change_of(s, op->hash)))
            break;
        disk_load_index_page(s, index_page(&s->index, op->hash));
        atomic_store(&op->object->offset, a->offset);
        index_put(&s->index, op->hash, entry_make(op->hash, a->offset, append_size(a)));
        if (op->object->change != atomic_load(change_of(s, op->hash))) /* just now */
            index_drop(&s->index, op->hash, a->offset / SEGMENT_UNIT);
        break;
    case OP_TOMB:
        disk_load_index_page(s, index_page(&s->index, op->hash));
        index_forget(&s->index, op->hash);
        break;
    case OP_FINISH:
        break;
    }
}

static void
op_failed(struct store *s, struct op *op)
{
    if (op->kind == OP_CHUNK)
        arriving_not_written(op->object->arriving);
    else
        atomic_fetch_add_explicit(&s->n_unwritten, 1, memory_order_relaxed);
}

/* 0: it is its writer's, who frees it. */
static int
op_end(struct store *s, struct op *op)
{
    if (op->kind == OP_CHUNK)
        atomic_fetch_sub(&op->object->arriving->n_unwritten, op->append.n_parts);
    if (op->kind == OP_CHUNK && !s->is_closing) {
        sl_loop_post(op->loop, &op->mail);
        return 0;
    }
    op_let_go(op);
    return 1;
}

/* The ended ones, and what they counted for, leave the queue. */
static void
queue_left(struct queued *q, struct op *ended[BATCH], unsigned n, size_t bytes)
{
    pthread_mutex_lock(&q->lock);
    q->bytes -= bytes;
    while (n > 0 && spare_keep(q, ended[n - 1]))
        n--;
    pthread_mutex_unlock(&q->lock);
    while (n > 0)
        free(ended[--n]);
}

/* How many bytes; 0: the queue is empty. */
static size_t
queue_write(struct store *s)
{
    struct op *ops[BATCH], *ended[BATCH];
    struct append *appends[BATCH];
    size_t bytes = 0;
    unsigned i, n, n_taken = queue_take(s, ops, &bytes), n_ops = 0, n_written = 0, n_ended = 0;

    for (i = 0; i < n_taken; i++)
        if (op_prepare(s, ops[i]))
            ops[n_ops++] = ops[i];
        else if (op_end(s, ops[i]))
            ended[n_ended++] = ops[i];
    for (n = 0; n < n_ops; n++)
        appends[n] = &ops[n]->append;
    if (n_ops > 0 && disk_is_on(s))
        n_written = segment_append(s, appends, n_ops);
    for (i = 0; i < n_ops; i++) {
        if (i < n_written)
            op_written(s, ops[i]);
        else
            op_failed(s, ops[i]);
        if (op_end(s, ops[i]))
            ended[n_ended++] = ops[i];
    }
    queue_left(&s->queued, ended, n_ended, bytes);
    return n_taken > 0 ? bytes + 1 : 0;
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

/* Under the lock.  1: there is something for the job, which the caller is to start. */
static int
flush_is_due(struct queued *q)
{
    if (q->first == NULL || q->is_running)
        return 0;
    q->is_running = 1;
    return 1;
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

static void
flush_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct store *s = flush_store(job);
    int is_due;

    pthread_mutex_lock(&s->queued.lock);
    s->queued.is_running = 0;
    is_due = flush_is_due(&s->queued);
    pthread_mutex_unlock(&s->queued.lock);
    if (is_due)
        flush_start(s, loop);
}

static void
flush_gathered(struct sl_loop *loop, struct sl_mail *mail)
{
    flush_done(loop, (struct sl_offload *)mail);
}

/* ---- adding ---- */

int
queue_add(struct store *s, struct sl_loop *loop, struct op *op)
{
    struct queued *q = &s->queued;
    size_t size = op_size(op);
    int is_taken, is_due;

    pthread_mutex_lock(&q->lock);
    is_taken = disk_is_on(s) && (op->kind != OP_HEAD || q->bytes + size <= QUEUE_BYTES_MAX);
    if (is_taken) {
        op->next = NULL;
        *q->last = op;
        q->last = &op->next;
        q->bytes += size;
    }
    is_due = flush_is_due(q);
    pthread_mutex_unlock(&q->lock);
    if (is_due) { /* what else this turn of the loop brings goes along */
        s->flush_job.mail.fn = flush_gathered;
        sl_loop_post(loop, &s->flush_job.mail);
    }
    return is_taken;
}

void
queue_kick(struct store *s, struct sl_loop *loop)
{
    int is_due;

    pthread_mutex_lock(&s->queued.lock);
    is_due = flush_is_due(&s->queued);
    pthread_mutex_unlock(&s->queued.lock);
    if (is_due)
        flush_start(s, loop);
}

void
queue_drain(struct store *s)
{
    s->is_closing = 1;
    while (queue_write(s) > 0)
        ;
}
