/* Encoded forms: the body of an object in a coding, made once and stored beside it.
 *
 * A form is an object of its own, under the key of its base and the coding.  It has neither fields
 * nor a lifetime: its meta names the bytes it was made of, and it holds wherever the base with
 * these bytes does.  What renews the base (304) keeps the name, what replaces it brings another, and
 * where the base is forgotten nobody asks for its forms; so no form is given beside a body it was
 * not made of.  Who gets it, and with which fields, is the encoders' to say: see encoder.h.
 *
 * The first hit that could have used it has it made, behind its own answer, which is encoded on its
 * way.  The body is read from the store piece by piece; an offload thread encodes each.
 *
 *   reading -> encoding -> appended -+-> reading ... -> committed
 *                 ^------------------+   while the coder has more to give */
#include "cache.h"

#include <pthread.h>
#include <stdlib.h>

#define OUT_BYTES 65536
#define MAKERS_MAX 2 /* or about so many: the disk needs the offload threads, too */
#define CLAIMS 4096
#define CLAIM_S 60 /* for so long nobody else makes it, nor tries again after a failure */
#define CLAIM_SECONDS UINT64_C(0xffffff)

struct sl_span
form_key(apr_pool_t *pool, struct sl_span key, const char *coding)
{
    /* no field of a variant's key has such a name */
    struct sl_span parts[] = {key, SL_SPAN("\n="), sl_span(coding)};

    return sl_spans_join(pool, parts, 3);
}

int
form_is_of(const struct store_object *o, const struct meta *base, const struct sl_encoded *e)
{
    struct form form;
    int is_complete;

    return (o->flags & FORM) && form_read(o->meta, &form) == 0 && form.body == base->body &&
           form.level == e->level && store_size(o, &is_complete) > 0;
}

/* ---- the name of a body ---- */

static _Atomic(uint64_t) bodies;

void
body_names_begin(void)
{
    uint64_t first;

    sl_random_bytes(&first, sizeof first);
    atomic_store(&bodies, first);
}

uint64_t
body_name(void)
{
    return atomic_fetch_add_explicit(&bodies, 1, memory_order_relaxed);
}

/* ---- who makes it ---- */

/* 40 bits of what it is, 24 of the second somebody began. */
static _Atomic(uint64_t) claims[CLAIMS];
static atomic_uint n_makers;

/* 1: it is the caller's to make. */
static int
claim(struct store_hash form, uint64_t body, int64_t now_s)
{
    uint64_t hash = form.lo ^ (body * UINT64_C(0x9e3779b97f4a7c15));
    _Atomic(uint64_t) *cell = &claims[(hash >> 32) % CLAIMS];
    uint64_t was = atomic_load(cell), now = (uint64_t)now_s & CLAIM_SECONDS;

    if ((was & ~CLAIM_SECONDS) == (hash & ~CLAIM_SECONDS) &&
        ((now - was) & CLAIM_SECONDS) < CLAIM_S)
        return 0;
    return atomic_compare_exchange_strong(cell, &was, (hash & ~CLAIM_SECONDS) | now);
}

/* ---- making it ---- */

struct maker {
    struct sl_offload job;
    struct store_read read; /* of the base, which it holds */
    struct sl_loop *loop;
    struct sl_mail mail; /* to itself */
    struct maker *next, **prev;
    struct store_writer *writer;
    const struct sl_coder *coder;
    int level;
    void *state; /* NULL: not yet */
    int64_t size; /* of the base */
    struct sl_coder_io io;
    enum sl_coder_op op;
    enum sl_coded coded;
    int is_full; /* the store has no room for more yet */
    char out[OUT_BYTES];
};

/* All of them, for the end of the worker. */
static struct {
    pthread_mutex_t lock;
    struct maker *first;
} makers = {PTHREAD_MUTEX_INITIALIZER, NULL};

static void
maker_list(struct maker *m)
{
    pthread_mutex_lock(&makers.lock);
    m->next = makers.first;
    m->prev = &makers.first;
    if (m->next != NULL)
        m->next->prev = &m->next;
    makers.first = m;
    pthread_mutex_unlock(&makers.lock);
}

static void
maker_unlist(struct maker *m)
{
    pthread_mutex_lock(&makers.lock);
    *m->prev = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
    pthread_mutex_unlock(&makers.lock);
}

static void
piece_done(struct maker *m)
{
    if (m->read.piece.n > 0)
        store_piece_drop(&m->read.piece);
}

static void
maker_free(struct maker *m)
{
    if (m->writer != NULL)
        store_abort(&m->writer);
    if (m->state != NULL)
        m->coder->close(m->state);
    piece_done(m);
    store_drop(&m->read.object);
    maker_unlist(m);
    free(m);
    atomic_fetch_sub(&n_makers, 1);
}

static void
maker_commit(struct maker *m)
{
    store_commit(&m->writer);
    sl_count(m->loop, cache_counters[N_ENCODED], 1);
    maker_free(m);
}

static void
maker_run(struct maker *m)
{
    m->io.out = m->out;
    m->io.n_out = OUT_BYTES;
    if (sl_offload(m->loop, &m->job) != 0)
        maker_free(m);
}

static void
maker_has_read(struct sl_loop *loop, struct store_read *read, enum store_io io)
{
    struct maker *m = (struct maker *)(void *)((char *)read - offsetof(struct maker, read));
    int64_t to = (int64_t)(read->from + read->piece.n);

    (void)loop;
    if (io != STORE_IO_OK || to > m->size) {
        maker_free(m);
        return;
    }
    m->io.in = read->piece.at;
    m->io.n_in = read->piece.n;
    m->op = to == m->size ? SL_CODER_END : SL_CODER_GO;
    maker_run(m);
}

static void
maker_read(struct maker *m)
{
    enum store_io io;

    m->read.from += m->read.piece.n;
    piece_done(m);
    m->read.how = STORE_MEMORY;
    m->read.done = maker_has_read;
    io = store_read(cache_store, m->loop, &m->read);
    if (io != STORE_IO_WAIT)
        maker_has_read(m->loop, &m->read, io);
}

/* On an offload thread. */
static void
maker_work(struct sl_offload *job)
{
    struct maker *m = (struct maker *)(void *)job;

    m->coded = SL_CODED_BAD;
    if (m->state == NULL && ((m->state = m->coder->open(m->level)) == NULL ||
                             m->coder->reset(m->state, m->size) != 0))
        return;
    m->coded = m->coder->run(m->state, &m->io, m->op);
}

static void
maker_next(struct maker *m)
{
    if (m->coded == SL_CODED_FULL)
        maker_run(m);
    else if (m->op == SL_CODER_END)
        maker_commit(m);
    else
        maker_read(m);
}

static void
maker_has_room(struct sl_loop *loop, void *data)
{
    struct maker *m = data;

    (void)loop;
    if (m->is_full) {
        m->is_full = 0;
        maker_next(m);
    }
}

static void
maker_has_run(struct sl_loop *loop, struct sl_offload *job)
{
    struct maker *m = (struct maker *)(void *)job;
    size_t n = OUT_BYTES - m->io.n_out;
    enum sl_flow flow = SL_FLOW_ROOM;

    (void)loop;
    if (m->coded != SL_CODED_BAD && n > 0)
        flow = store_append(m->writer, m->out, n);
    if (m->coded == SL_CODED_BAD || flow == SL_FLOW_GONE) {
        maker_free(m);
        return;
    }
    m->is_full = flow == SL_FLOW_FULL;
    if (!m->is_full)
        maker_next(m);
}

static struct store_writer *
maker_writer(struct maker *m, const struct visit *v)
{
    struct form form = {v->meta.body, m->level};
    struct store_new n = {.key = v->form_key,
                          .meta = form_write(sl_req_pool(v->r), &form),
                          .tags = v->found->tags,
                          .n_tags = v->found->n_tags,
                          .flags = FORM,
                          .stamp = v->found->stamp,
                          .size = -1,
                          .data = m,
                          .room = maker_has_room};

    return store_writer_open(cache_store, m->loop, &n);
}

/* When the hook is over, and the answer on its way. */
static void
maker_start(struct sl_loop *loop, struct sl_mail *mail)
{
    struct maker *m = (struct maker *)(void *)((char *)mail - offsetof(struct maker, mail));

    (void)loop;
    maker_read(m);
}

static void
maker_begin(struct visit *v, int64_t size)
{
    struct maker *m = calloc(1, sizeof *m);

    SL_ASSERT(m != NULL);
    atomic_fetch_add(&n_makers, 1);
    m->job.work = maker_work;
    m->job.done = maker_has_run;
    m->loop = sl_req_loop(v->r);
    m->coder = v->form.encoder->encode;
    m->level = v->form.level;
    m->size = size;
    m->read.object = v->found;
    store_hold(v->found);
    maker_list(m);
    m->writer = maker_writer(m, v);
    m->mail.fn = maker_start;
    if (m->writer != NULL)
        sl_loop_post(m->loop, &m->mail);
    else
        maker_free(m);
}

void
makers_close(void)
{
    while (makers.first != NULL)
        maker_free(makers.first);
}

/* ---- looking for it ---- */

void
form_found(struct visit *v, struct store_object *o)
{
    int is_complete;
    int64_t size = store_size(v->found, &is_complete);

    if (o != NULL && form_is_of(o, &v->meta, &v->form)) {
        v->form_object = o;
        v->form.length = store_size(o, &is_complete);
        return;
    }
    if (o != NULL)
        store_drop(&o);
    if (size > 0 && atomic_load(&n_makers) < MAKERS_MAX &&
        claim(v->get.hash, v->meta.body, wall_s(sl_req_loop(v->r))))
        maker_begin(v, size);
}

int
form_look(struct visit *v, int64_t size)
{
    struct store_object *found = NULL;

    if (v->is_new)
        return 0;
    sl_encoding_expect(v->r, v->meta.status, size, &v->form);
    if (v->form.encoder == NULL)
        return 0;
    v->form_key = form_key(sl_req_pool(v->r), v->found->key, v->form.encoder->coding);
    switch (visit_get(v, v->form_key, store_hash(cache_store, v->form_key), &found)) {
    case STORE_WAIT:
        return 1;
    case STORE_HIT:
    case STORE_MISS:
        break;
    }
    form_found(v, found);
    return 0;
}
