/* See giver.h.  What is asked for may still be arriving, or in a slice that has to be fetched. */
#include "giver.h"

#include <stdlib.h>

#define PART 65536 /* what a full connection does not take of one is copied */

static void
giver_free(struct giver *g)
{
    if (g->read.piece.n > 0)
        store_piece_drop(&g->read.piece);
    if (g->slices != NULL)
        slices_free(&g->slices);
    store_drop(&g->object);
    free(g);
}

static void giver_go(struct giver *g);

static void
giver_fail(struct giver *g)
{
    sl_source_fail(g->r, g->cause != NULL ? g->cause : &sl_cause_truncated);
}

/* The disk does not have what it had: whoever asks from now on has it fetched anew.  What arrives and
 * breaks off was not to be found; and what had to make place is not, or where it was moved to. */
static void
giver_torn(struct giver *g)
{
    int is_complete;

    store_size(g->read.object, &is_complete);
    if (is_complete && store_stands(cache_store, g->read.object))
        store_invalidate(cache_store, sl_req_loop(g->r), g->read.object->key, NULL);
    giver_fail(g);
}

static void
giver_read(struct sl_loop *loop, struct store_read *read, enum store_io io)
{
    struct giver *g = (struct giver *)(void *)read;

    (void)loop;
    g->io = io;
    g->is_reading = 0;
    if (g->r == NULL)
        giver_free(g);
    else if (io == STORE_IO_BROKEN) /* it would be read again */
        giver_torn(g);
    else
        giver_go(g);
}

/* ---- what is at hand ---- */

/* A part of it; 0: that was all. */
static size_t
giver_part(struct giver *g, struct sl_data *data)
{
    struct portion *s = &g->at[g->i];
    size_t n = g->read.piece.n - g->used;

    if (n > PART)
        n = PART;
    if (s->n >= 0 && (int64_t)n > s->n)
        n = (size_t)s->n;
    *data = (struct sl_data){g->read.piece.at + g->used, n, NULL};
    g->used += n;
    s->from += (int64_t)n;
    if (s->n >= 0)
        s->n -= (int64_t)n;
    return n;
}

static int
giver_is_last(const struct giver *g)
{
    return g->i + 1 == g->n_portions;
}

static void
piece_done(struct giver *g)
{
    if (g->read.piece.n > 0)
        store_piece_drop(&g->read.piece);
    g->read.piece.n = 0;
    g->used = 0;
}

/* ---- the next bytes ---- */

/* What is still to be given between two bytes begins here: ranges may come in any order. */
static int64_t
giver_least(const struct giver *g, int64_t begin, int64_t end)
{
    int64_t least = g->at[g->i].from;
    unsigned i;

    for (i = g->i + 1; i < g->n_portions; i++)
        if (g->at[i].text.n == 0 && g->at[i].from < least && g->at[i].from >= begin &&
            g->at[i].from < end)
            least = g->at[i].from;
    return least;
}

static enum store_io
giver_read_whole(struct giver *g)
{
    g->read.object = g->object;
    g->read.from = (uint64_t)g->at[g->i].from;
    store_reader_move(&visit_of(g->r)->reader, (uint64_t)giver_least(g, 0, INT64_MAX));
    return store_read(cache_store, sl_req_loop(g->r), &g->read);
}

static enum store_io
giver_read_slice(struct giver *g)
{
    int64_t from = g->at[g->i].from, size = g->slices->meta.slice, begin = from - from % size;

    g->read.object = g->slices->object;
    g->read.from = (uint64_t)(from - begin);
    store_reader_move(&g->slices->visit.reader,
                      (uint64_t)(giver_least(g, begin, begin + size) - begin));
    return store_read(cache_store, sl_req_loop(g->r), &g->read);
}

static enum store_io
io_of_slice(struct giver *g, enum slice_answer answer)
{
    switch (answer) {
    case SLICE_HERE:
        return giver_read_slice(g);
    case SLICE_WAIT:
        return STORE_IO_WAIT;
    case SLICE_FAILED:
        g->cause = g->slices->cause;
        break;
    case SLICE_CHANGED:
        break;
    }
    return STORE_IO_BROKEN;
}

static void
giver_slice(struct slices *s, enum slice_answer answer)
{
    struct giver *g = s->ctx;

    g->io = io_of_slice(g, answer);
    if (g->io == STORE_IO_WAIT)
        return;
    g->is_reading = 0;
    if (g->io == STORE_IO_BROKEN) /* it would be fetched again */
        giver_fail(g);
    else
        giver_go(g);
}

/* The next bytes of the body are asked for: 1 they are at hand, or will not come. */
static int
giver_fetch(struct giver *g)
{
    piece_done(g);
    g->read.how = sl_source_takes_files(g->r) ? STORE_FILE : STORE_MEMORY;
    g->read.done = giver_read;
    g->is_reading = 1;
    g->io = g->slices != NULL ? io_of_slice(g, slices_open(g->slices, g->at[g->i].from))
                              : giver_read_whole(g);
    if (g->io == STORE_IO_WAIT)
        return 0;
    g->is_reading = 0;
    return 1;
}

/* ---- giving ---- */

/* The piece at hand is a file's: what the client takes of it.  As giver_body(). */
static int
giver_file(struct giver *g)
{
    struct portion *s = &g->at[g->i];
    struct store_piece *piece = &g->read.piece;
    size_t left = piece->n - g->used, n = left;
    int64_t at = piece->offset + (int64_t)g->used;
    enum sl_flow flow;
    int ends;

    if (s->n >= 0 && (int64_t)n > s->n)
        n = left = (size_t)s->n;
    ends = giver_is_last(g) && s->n == (int64_t)n;
    flow = sl_source_file(g->r, piece->fd, &at, &left, ends);
    if (flow == SL_FLOW_GONE || (ends && flow == SL_FLOW_ROOM && left == 0))
        return 0; /* g may be free */
    if (flow == SL_FLOW_ROOM && left > 0) {
        giver_torn(g);
        return 0;
    }
    n -= left;
    g->used += n;
    s->from += (int64_t)n;
    if (s->n >= 0)
        s->n -= (int64_t)n;
    return flow == SL_FLOW_ROOM;
}

/* One step: 1 go on, 0 stop, r may be gone. */
static int
giver_body(struct giver *g)
{
    struct portion *s = &g->at[g->i];
    struct sl_data data = {NULL, 0, NULL};
    int ends;

    if (s->n == 0) {
        piece_done(g);
        g->i++;
        return 1;
    }
    if (g->used == g->read.piece.n && !giver_fetch(g))
        return 0;
    if (g->io == STORE_IO_BROKEN || (g->io == STORE_IO_END && s->n > 0)) {
        giver_fail(g);
        return 0;
    }
    if (g->io == STORE_IO_OK && g->read.piece.at == NULL)
        return giver_file(g);
    if (g->io == STORE_IO_OK)
        giver_part(g, &data);
    ends = giver_is_last(g) && (g->io == STORE_IO_END || s->n == 0);
    if (g->io == STORE_IO_END)
        s->n = 0;
    return sl_source_body(g->r, data, ends) == SL_FLOW_ROOM && !ends;
}

static int
giver_text(struct giver *g)
{
    struct sl_span text = g->at[g->i].text;
    struct sl_data data = {text.at, text.n, NULL};
    int ends = giver_is_last(g);

    g->i++;
    return sl_source_body(g->r, data, ends) == SL_FLOW_ROOM && !ends;
}

static void
giver_go(struct giver *g)
{
    int more = 1;

    while (more)
        more = g->at[g->i].text.n > 0 ? giver_text(g) : giver_body(g);
}

/* ---- the source ---- */

/* The head has left, and says which of the two bodies follows. */
static void
giver_begin(struct giver *g, const struct visit *v)
{
    g->is_begun = 1;
    if (!v->form.is_taken)
        return;
    store_drop(&g->object);
    g->object = v->form_object;
    store_hold(g->object);
    g->at[0].n = v->form.length;
}

static void
giver_want(struct sl_req *r, void *ctx)
{
    struct giver *g = ctx;

    if (!g->is_begun)
        giver_begin(g, visit_of(r));
    if (!g->is_reading)
        giver_go(g);
}

/* What the store is at work on lasts until it is done; a slice that is waited for is not needed. */
static void
giver_closed(struct sl_req *r, void *ctx)
{
    struct giver *g = ctx;
    int waits_for_slice = g->slices != NULL && g->slices->object == NULL;

    (void)r;
    g->r = NULL;
    if (g->slices != NULL)
        slices_leave(g->slices);
    if (!g->is_reading || waits_for_slice || store_read_cancel(&g->read))
        giver_free(g);
}

const struct sl_source giver_source = {giver_want, giver_closed};

struct giver *
giver_new(struct visit *v, unsigned n)
{
    struct giver *g = store_zeros(sizeof *g + n * sizeof g->at[0]);

    SL_ASSERT(g != NULL);
    g->r = v->r;
    g->object = v->found;
    store_hold(g->object);
    g->n_portions = n;
    if (v->meta.whole > 0) {
        g->slices = v->slices != NULL ? v->slices : slices_new(v);
        g->slices->done = giver_slice;
        g->slices->ctx = g;
        v->slices = NULL;
    }
    return g;
}
