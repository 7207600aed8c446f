/* The two filters.  Encoding gives less than it takes, so its output is bounded by the pieces
 * of the source.  Decoding may give a thousand times as much: it stops when the receiver is
 * full and goes on where it was when there is room. */
#include "http/coders.h"
#include "http/encode.h"

#include "sluice/filter.h"

#define OUT_BYTES 32768
#define PIECE_BYTES 4096 /* of a body of known length, shorter pieces come from a slow server */

/* A decoded body may be encoded anew: they are on the stack at once. */
static _Thread_local char encoded[OUT_BYTES], decoded[OUT_BYTES];

/* Bodies of unknown length may be streams somebody waits for; of others only the pieces of a
 * server that is slow are worth the bytes of a flush. */
static enum sl_coder_op
encode_op(const struct coding *c, size_t n, unsigned flags)
{
    if (flags & SL_FILTER_END)
        return SL_CODER_END;
    if (c->length < 0)
        return SL_CODER_FLUSH;
    return n < PIECE_BYTES && flags != SL_FILTER_MORE ? SL_CODER_FLUSH : SL_CODER_GO;
}

/* The last output of a piece: nothing is written where nothing has to leave. */
static enum sl_verdict
encode_piece_end(struct sl_filter *f, enum sl_coder_op op, size_t n)
{
    if (op == SL_CODER_END) {
        coding_end(sl_filter_ctx(f));
        return sl_filter_write(f, encoded, n, SL_FILTER_END);
    }
    if (n == 0 && op == SL_CODER_GO)
        return SL_NEXT;
    return sl_filter_write(f, encoded, n, SL_FILTER_FLUSH);
}

static enum sl_verdict
encode_bytes(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    struct coding *c = sl_filter_ctx(f);
    enum sl_coder_op op = encode_op(c, n, flags);
    struct sl_coder_io io = {at, n, encoded, OUT_BYTES};
    enum sl_coded coded = SL_CODED;

    c->is_dirty |= n > 0;
    if (op == SL_CODER_FLUSH && !c->is_dirty)
        return sl_filter_write(f, at, 0, SL_FILTER_FLUSH); /* the head may wait to leave */
    if (coding_state(c) == NULL)
        return SL_FAIL;
    while ((coded = c->coder->run(c->state, &io, op)) == SL_CODED_FULL) {
        if (sl_filter_write(f, encoded, OUT_BYTES - io.n_out, 0) != SL_NEXT)
            return SL_FAIL;
        io.out = encoded;
        io.n_out = OUT_BYTES;
    }
    if (coded == SL_CODED_BAD)
        return SL_FAIL;
    if (op != SL_CODER_GO)
        c->is_dirty = 0;
    return encode_piece_end(f, op, OUT_BYTES - io.n_out);
}

static const struct sl_filter_type encode_type = {"encode", encode_bytes, NULL};

void
encode_filter_add(struct sl_req *r, const struct sl_coder *coder, int level, int64_t length)
{
    sl_filter_add(r, &encode_type, coding_begin(r->loop, r->pool, coder, level, length), 0);
}

static enum sl_verdict
decode_bad(struct sl_req *r)
{
    if (r->cause == NULL)
        r->cause = &sl_cause_bad_response;
    return SL_FAIL;
}

static enum sl_verdict
decode_bytes(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    struct coding *c = sl_filter_ctx(f);
    int ends = (flags & SL_FILTER_END) != 0;
    struct sl_coder_io io = {at + c->skip, n - c->skip, NULL, 0};
    enum sl_coded coded;
    enum sl_verdict v;

    if (coding_state(c) == NULL)
        return SL_FAIL;
    do {
        io.out = decoded;
        io.n_out = OUT_BYTES;
        coded = c->coder->run(c->state, &io, ends ? SL_CODER_END : SL_CODER_FLUSH);
        if (coded == SL_CODED_BAD)
            return decode_bad(sl_filter_req(f));
        v = sl_filter_write(f, decoded, OUT_BYTES - io.n_out,
                            coded == SL_CODED && ends ? SL_FILTER_END : SL_FILTER_FLUSH);
        c->skip = n - io.n_in;
        if (coded == SL_CODED_FULL && sl_filter_waits_for_room(f))
            return SL_WAIT;
    } while (coded == SL_CODED_FULL && v == SL_NEXT);
    c->skip = 0;
    if (ends)
        coding_end(c);
    return v;
}

static const struct sl_filter_type decode_type = {"decode", decode_bytes, NULL};

void
decode_filter_add(struct sl_req *r, const struct sl_coder *coder)
{
    sl_filter_add(r, &decode_type, coding_begin(r->loop, r->pool, coder, 0, -1), 0);
}
