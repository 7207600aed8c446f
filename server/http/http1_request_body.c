/* The body of a request as its reader has room for it: plain, chunked, or the raw bytes of
 * a tunnel.  Nothing is read ahead of the reader. */
#include "http/http1_server.h"

#define TURN_BYTES 65536 /* of one connection before others have their turn */
#define RATE_GRACE_MS 5000
#define ROOM_LEAST 1024

void
h1_body_fails(struct sl_conn *c, const struct sl_cause *why)
{
    struct h1 *h = h1_of(c);

    h->persists = 0;
    h->wants = 0;
    req_abort(h->r, why);
}

/* Only the time in which bytes were waited for counts: not while the reader had no room. */
static int
h1_body_is_slow(struct sl_conn *c, struct h1 *h)
{
    int64_t rate = h1_conf(c)->min_rate;

    if (h->waits_since != 0)
        h->waited_ms += c->loop->now_ms - h->waits_since;
    h->waits_since = 0;
    return rate > 0 && h->framing != FRAMING_CLOSE && h->waited_ms > RATE_GRACE_MS &&
           h->r->body_seen * 1000 / h->waited_ms < rate / 1000;
}

enum body_step { BODY_GO_ON, BODY_NEED, BODY_STOP };

static enum body_step
h1_body_given(struct h1 *h, enum sl_flow flow)
{
    if (flow == SL_FLOW_GONE)
        return BODY_STOP;
    if (h->r->flags & REQ_BODY_DONE)
        return BODY_STOP;
    if (flow == SL_FLOW_FULL)
        h->wants = 0;
    return flow == SL_FLOW_FULL ? BODY_STOP : BODY_GO_ON;
}

static enum body_step
h1_body_trailers(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    struct sl_fields trailers = {.pool = h->r->pool};
    struct head_limits limits = {(size_t)h1_conf(c)->limit_line, (size_t)h1_conf(c)->limit_head,
                                 (unsigned)h1_conf(c)->limit_fields};
    unsigned n = 0;
    size_t size = 0;

    switch (head_parse_trailers(h->in->bytes + h->in->begin, buf_used(h->in), &limits, &size, &n,
                                c->loop->parsed)) {
    case PARSE_MORE:
        return BODY_NEED;
    case PARSE_BAD:
        h1_body_fails(c, &sl_cause_bad_chunk);
        return BODY_STOP;
    case PARSE_OK:
        break;
    }
    h->in->begin += (unsigned)size;
    fields_take(&trailers, h->r->pool, c->loop->parsed, n, ~(uint64_t)0);
    sl_req_trailers(h->r, &trailers);
    return BODY_STOP;
}

static enum body_step
h1_body_chunked(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    struct sl_span data = {NULL, 0};
    enum chunked_step step;
    size_t used = 0;

    if (h->in_trailers)
        return h1_body_trailers(c);
    step = chunked_next(&h->chunked, h->in->bytes + h->in->begin, buf_used(h->in), &used, &data);
    h->in->begin += (unsigned)used;
    switch (step) {
    case CHUNKED_DATA:
        return h1_body_given(h, sl_req_body(h->r, (struct sl_data){data.at, data.n, h->in}, 0));
    case CHUNKED_MORE:
        return BODY_NEED;
    case CHUNKED_TRAILERS:
        h->in_trailers = 1;
        return BODY_GO_ON;
    case CHUNKED_BAD:
        h1_body_fails(c, &sl_cause_bad_chunk);
        return BODY_STOP;
    }
    return BODY_STOP;
}

static enum body_step
h1_body_plain(struct h1 *h)
{
    size_t n = buf_used(h->in);
    const char *at = h->in->bytes + h->in->begin;

    if (h->framing == FRAMING_LENGTH && n > h->left)
        n = (size_t)h->left;
    h->in->begin += (unsigned)n;
    if (h->framing == FRAMING_LENGTH)
        h->left -= n;
    return h1_body_given(h, sl_req_body(h->r, (struct sl_data){at, n, h->in},
                                        h->framing == FRAMING_LENGTH && h->left == 0));
}

/* Hands out what is buffered. */
static enum body_step
h1_body_buffered(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    enum body_step step = BODY_GO_ON;

    while (step == BODY_GO_ON && h->in != NULL && (buf_used(h->in) > 0 || h->in_trailers))
        step = h->framing == FRAMING_CHUNKED ? h1_body_chunked(c) : h1_body_plain(h);
    return step == BODY_GO_ON ? BODY_NEED : step;
}

static void
h1_body_room(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    int is_short = h->framing == FRAMING_LENGTH && h->left < BUF_SMALL;

    buf_make_room(c->loop, &h->in, ROOM_LEAST, is_short ? BUF_SMALL : BUF_LARGE);
}

static void
h1_body_client_ended(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    if (h->framing == FRAMING_CLOSE) { /* a tunnel's client has no more to say */
        sl_req_body(h->r, (struct sl_data){NULL, 0, NULL}, 1);
        return;
    }
    sl_conn_close(&c);
}

void
h1_body_read(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    size_t turn = 0;

    while (h->r != NULL && h->wants && (h->r->flags & REQ_BODY_DONE) == 0) {
        ssize_t k;

        if (h1_body_buffered(c) == BODY_STOP)
            break;
        if (turn >= TURN_BYTES) {
            loop_queue(c->loop, &c->io);
            return;
        }
        h1_body_room(c);
        k = sl_conn_read(c, h->in->bytes + h->in->end, buf_room(h->in));
        if (k == SL_IO_AGAIN) {
            if (h->in != NULL && h->in->n_refs == 1) /* else it is kept anyway: fill it up */
                h1_drop_used(h);
            if (h->waits_since == 0)
                h->waits_since = c->loop->now_ms;
            h1_due_body(c, h->framing == FRAMING_CLOSE ? -1 : h1_conf(c)->body_ms);
            return;
        }
        if (k <= 0) {
            h1_body_client_ended(c);
            return;
        }
        h->in->end += (unsigned)k;
        turn += (size_t)k;
        if (h->body_due != 0)
            h1_due_body(c, -1);
        if (h1_body_is_slow(c, h)) {
            h1_body_fails(c, &sl_cause_body_timeout);
            return;
        }
    }
    h1_look_again(c);
}

void
h1_want(struct sl_req *r)
{
    struct h1 *h = h1_of(r->conn);

    if (h->wants || h->r != r || (r->flags & REQ_BODY_DONE))
        return;
    h->wants = 1;
    h1_body_read(r->conn);
}
