/* HTTP/1 towards clients.
 *
 *   head ---------> answer ------------> head        keep-alive, or what was pipelined
 *    |  a request    |  settled and      linger      the client still sends: read to the
 *    |  begins       |  written                      end, so that the answer is not lost
 *    '--> closed     '--> closed <-------'           in a reset
 *
 * One request at a time: while it is answered nothing is read but its own body, so
 * pipelined requests wait in the buffer and the socket.  No function that the answer's
 * source calls (head, body, trailers, reset) ever closes the connection or frees the
 * request; that is done in events and in ended(), which are the last to run.
 *
 * After 101 the same body paths carry raw bytes both ways until either side ends. */
#include "http/http1_server.h"

#include "net/handover.h"

#define LINGER_MS 2000
#define LINGER_BYTES 1048576

static void h1_complete(struct sl_conn *c);

/* ---- the request head ---- */

static struct sl_req *
h1_begin(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    h->r = sl_req_new(c, &http1_protocol);
    h->r->head_buf = h->in;
    if (h->in != NULL)
        sl_buf_hold(h->in);
    h->state = H1_ANSWER;
    h->late_armed = h->ended = h->wants = h->broken = h->head_held = h->in_trailers = h->waits_room = 0;
    h->out_framing = FRAMING_NONE;
    h->n_requests++;
    h->body_due = h->waits_since = h->waited_ms = 0;
    h1_due_send(c, -1);
    return h->r;
}

/* What does not parse is answered and ends the connection: who knows where the next
 * request would begin. */
static void
h1_refuse(struct sl_conn *c, const struct sl_cause *why)
{
    struct h1 *h = h1_of(c);
    struct sl_req *r = h->r != NULL ? h->r : h1_begin(c);

    h->persists = 0;
    if (h->in != NULL)
        h->in->begin = h->in->end;
    req_refuse(r, why);
}

static void
h1_start(struct sl_conn *c, const struct request_head *head, const struct sl_field *fields)
{
    struct h1 *h = h1_of(c);
    enum framing framing = FRAMING_NONE;
    struct sl_req *r = h1_begin(c);
    const struct sl_cause *why;
    uint64_t left = 0;

    why = http1_take_request(r, head, fields, &framing, &left);
    h->persists = (uint8_t)connection_persists(head->version, fields, head->n_fields, head->ids);
    h->in->begin += (unsigned)head->size;
    h->framing = (uint8_t)framing;
    h->left = left;
    memset(&h->chunked, 0, sizeof h->chunked);
    if (why != NULL) {
        h1_refuse(c, why);
        return;
    }
    sl_req_start(r, framing == FRAMING_CHUNKED ? -1 : (int64_t)left);
}

/* Tries what is buffered: 1 when a request began (or was refused). */
static int
h1_parse(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    struct request_head head;

    h->unparsed = 0;
    switch (head_parse_request(h->in->bytes + h->in->begin, buf_used(h->in), &c->listener->limits, &head,
                               c->loop->parsed)) {
    case PARSE_MORE:
        return 0;
    case PARSE_BAD:
        if (head.method.n > 0)
            h1_begin(c)->method = head.method;
        if (h->r != NULL && head.target.n > 0)
            h->r->target = head.target;
        h1_refuse(c, head.why);
        return 1;
    case PARSE_OK:
        h1_start(c, &head, c->loop->parsed);
        return 1;
    }
    return 1;
}

/* Room for more of a head: a new buffer where this one's free end is too short. */
static void
h1_make_room(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    struct sl_buf *old = h->in, *b;

    if (old == NULL) {
        h->in = buf_take(c->loop, BUF_SMALL);
        return;
    }
    if (buf_room(old) >= 1024 || (buf_room(old) > 0 && old->begin == 0))
        return;
    b = buf_take(c->loop, buf_used(old) > BUF_SMALL / 2 ? BUF_LARGE : BUF_SMALL);
    memcpy(b->bytes, old->bytes + old->begin, buf_used(old));
    b->end = (unsigned)buf_used(old);
    sl_buf_drop(&h->in);
    h->in = b;
}

static void
h1_head_waits(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    h1_drop_used(h);
    if (h->in != NULL && !h->late_armed) {
        h->late_armed = 1;
        conn_due(c, h1_conf(c)->header_ms);
    }
}

/* Whether new bytes may complete a head, or show early that it is none. */
static int
h1_worth_parsing(const struct h1 *h, size_t had, size_t got, size_t limit)
{
    const char *fresh = h->in->bytes + h->in->end - got;

    return had == 0 || memchr(fresh, '\n', got) != NULL || buf_used(h->in) >= limit;
}

static void
h1_read_head(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    if (h->unparsed && h->in != NULL && h1_parse(c)) {
        h1_look_again(c);
        return;
    }
    for (;;) {
        size_t had = h->in != NULL ? buf_used(h->in) : 0;
        ssize_t k;

        if (!conn_may_read(c) && c->transport == NULL)
            break;
        h1_make_room(c);
        k = sl_conn_read(c, h->in->bytes + h->in->end, buf_room(h->in));
        if (k == SL_IO_AGAIN)
            break;
        if (k <= 0) {
            sl_conn_close(&c);
            return;
        }
        h->in->end += (unsigned)k;
        if (h1_worth_parsing(h, had, (size_t)k, c->listener->limits.line) && h1_parse(c)) {
            h1_look_again(c);
            return;
        }
    }
    h1_head_waits(c);
}

static void
h1_ended(struct sl_req *r)
{
    struct sl_conn *c = r->conn;
    struct h1 *h = h1_of(c);

    h->ended = 1;
    if (h->broken || !conn_is_writing(c))
        h1_complete(c);
}

/* ---- between requests ---- */

static void
h1_linger(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    ssize_t k;

    for (;;) {
        k = sl_conn_read(c, c->loop->scratch, LOOP_SCRATCH);
        if (k == SL_IO_AGAIN)
            return;
        if (k > 0)
            h->lingered += (uint32_t)k;
        if (k <= 0 || h->lingered > LINGER_BYTES) {
            sl_conn_close(&c);
            return;
        }
    }
}

/* The answer is written and the request let go: on to the next, or to the end. */
static void
h1_complete(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    struct sl_req *r = h->r;
    int body_done = (r->flags & REQ_BODY_DONE) != 0, is_tunnel = (r->flags & REQ_UPGRADED) != 0;
    int64_t keepalive_ms = h1_conf(c)->keepalive_ms;

    h->r = NULL;
    sl_req_finish(&r);
    if (h->broken) {
        sl_conn_close(&c);
        return;
    }
    h1_drop_used(h);
    if (!h->persists || !body_done || is_tunnel) {
        if (body_done && h->in == NULL && !conn_may_read(c)) {
            conn_end(&c);
            return;
        }
        if (h->in != NULL)
            sl_buf_drop(&h->in);
        h->state = H1_LINGER;
        conn_shutdown(c);
        conn_due(c, LINGER_MS);
        h1_linger(c);
        return;
    }
    h->state = H1_HEAD;
    h->unparsed = h->in != NULL;
    conn_due(c, keepalive_ms);
    if (h->in != NULL || conn_may_read(c))
        loop_queue(c->loop, &c->io);
    else
        conn_leave(c);
}

/* ---- events ---- */

static void
h1_late(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    switch ((enum h1_state)h->state) {
    case H1_HEAD:
        if (h->in != NULL)
            h1_refuse(c, &sl_cause_head_timeout);
        else
            conn_end(&c);
        return;
    case H1_ANSWER:
        if (h->send_due != 0 && c->loop->now_ms >= h->send_due) {
            h->r->cause = &sl_cause_send_timeout;
            sl_req_log(h->r, SL_INFO, sl_cause_send_timeout.id, "%s", sl_cause_send_timeout.text);
            sl_conn_close(&c);
        } else if (h->body_due != 0 && c->loop->now_ms >= h->body_due)
            h1_body_fails(c, &sl_cause_body_timeout);
        return;
    case H1_LINGER:
        sl_conn_close(&c);
        return;
    }
}

/* Whether somebody still makes the answer, and for a client that would hear of it no more. */
static int
h1_may_abort(struct sl_conn *c)
{
    const struct h1 *h = h1_of(c);

    return !h->ended && (h->r->flags & (REQ_BODY_DONE | REQ_UPGRADED)) == REQ_BODY_DONE &&
           h1_conf(c)->abort_on_close;
}

/* Reads to the client's end: 1 when it is there.  Requests before it are kept for their turn; who
 * has sent many of them has this one answered. */
static int
h1_has_closed(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    ssize_t k;

    do {
        if (h->in != NULL && buf_used(h->in) >= BUF_SMALL)
            return 0;
        h1_make_room(c);
        k = sl_conn_read(c, h->in->bytes + h->in->end, buf_room(h->in));
        if (k > 0)
            h->in->end += (unsigned)k;
    } while (k > 0);
    return k != SL_IO_AGAIN;
}

/* A client that reset or closed while its answer is made: 1 when the connection went. */
static int
h1_is_gone(struct sl_conn *c)
{
    if ((c->io.ready & SL_HANGUP) == 0 ||
        (conn_peer_state(c) >= 0 && !(h1_may_abort(c) && h1_has_closed(c))))
        return 0;
    sl_conn_close(&c);
    return 1;
}

/* The client has room again: on with what is queued, then with the source. */
static void
h1_answer_on(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    switch (conn_flush(c)) {
    case SL_FLOW_GONE:
        sl_conn_close(&c);
        return;
    case SL_FLOW_FULL:
        h1_due_send(c, h1_conf(c)->send_ms);
        return;
    case SL_FLOW_ROOM:
        h->waits_room = 0;
        h1_due_send(c, -1);
        if (h->ended)
            h1_complete(c);
        else
            sl_req_writable(h->r);
        return;
    }
}

/* Writing may end the request: what can be read meanwhile has a turn of its own. */
static void
h1_answer_event(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    if ((conn_is_writing(c) || h->waits_room) && (c->io.ready & SL_WRITABLE)) {
        if (h->wants && conn_may_read(c))
            loop_queue(c->loop, &c->io);
        h1_look_again(c);
        h1_answer_on(c);
        return;
    }
    if (h1_is_gone(c))
        return;
    if (h->wants)
        h1_body_read(c);
}

static void
h1_ready(struct sl_conn *c, unsigned what)
{
    struct h1 *h = h1_of(c);

    if (what & SL_TIMEOUT) {
        h1_late(c);
        return;
    }
    switch ((enum h1_state)h->state) {
    case H1_HEAD:
        h1_read_head(c);
        return;
    case H1_ANSWER:
        h1_answer_event(c);
        return;
    case H1_LINGER:
        h1_linger(c);
        return;
    }
}

static void
h1_open(struct sl_conn *c, struct sl_data first)
{
    struct h1 *h = h1_of(c);

    memset(h, 0, sizeof *h);
    if (first.n > 0) {
        h->in = buf_take(c->loop, first.n > BUF_SMALL / 2 ? BUF_LARGE : BUF_SMALL);
        memcpy(h->in->bytes, first.at, first.n);
        h->in->end = (unsigned)first.n;
        h->unparsed = 1;
        loop_queue(c->loop, &c->io);
    }
}

static void
h1_drain(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    if (h->state == H1_HEAD && h->in == NULL)
        conn_leave(c);
}

static void
h1_closed(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    struct sl_req *r = h->r;

    h->r = NULL;
    if (h->in != NULL)
        sl_buf_drop(&h->in);
    if (r != NULL)
        sl_req_gone(r);
}

static int
h1_sniff(const char *bytes, size_t n)
{
    (void)bytes;
    (void)n;
    return 1;
}

const struct sl_protocol http1_protocol = {
    .name = "http/1.1",
    .sniff = h1_sniff,
    .open = h1_open,
    .ready = h1_ready,
    .drain = h1_drain,
    .closed = h1_closed,
    .head = h1_head,
    .interim = h1_interim,
    .body = h1_body,
    .trailers = h1_trailers,
    .reset = h1_reset,
    .want = h1_want,
    .ended = h1_ended,
    .splice = h1_splice,
    .file = h1_file,
    .take_back = h1_take_back,
};
