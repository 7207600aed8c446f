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
#include "http/http1.h"

#include "http/chunked.h"
#include "http/request.h"
#include "net/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#define TURN_BYTES 65536  /* of one connection before others have their turn */
#define LINGER_MS 2000
#define LINGER_BYTES 1048576
#define COPY_MAX 2048     /* a body this short leaves in one piece with its head */
#define RATE_GRACE_MS 5000

enum h1_state { H1_HEAD, H1_ANSWER, H1_LINGER };

/* In sl_conn.space: what a connection keeps between requests and during one. */
struct h1 {
    struct sl_buf *in; /* NULL: nothing read that is not used up */
    struct sl_req *r;
    uint64_t left;     /* of the request body */
    uint64_t out_left; /* of the response body, FRAMING_LENGTH */
    int64_t body_began_ms;
    struct chunked chunked;
    uint32_t n_requests;
    uint32_t lingered;
    uint8_t state;
    uint8_t framing;     /* of the request */
    uint8_t out_framing; /* of the response */
    uint8_t persists;
    uint8_t unparsed;   /* the buffer may hold a head */
    uint8_t late_armed; /* the time for this head runs */
    uint8_t wants;      /* the reader of the request body has room */
    uint8_t head_held;  /* the response head is not written yet */
    uint8_t ended;
    uint8_t broken; /* writing failed, or the answer was cut */
    uint8_t in_trailers;
    uint8_t waits_room; /* a splice found the socket full */
};

_Static_assert(sizeof(struct h1) <= CONN_SPACE, "the state of HTTP/1 lies in the connection");

static inline struct h1 *
h1_of(struct sl_conn *c)
{
    return (struct h1 *)(void *)c->space;
}

static const struct core_conf *
h1_conf(const struct sl_conn *c)
{
    return c->listener->scope->core;
}

static void h1_answer_event(struct sl_conn *c);
static void h1_complete(struct sl_conn *c);

static void
h1_drop_used(struct h1 *h)
{
    if (h->in != NULL && buf_used(h->in) == 0)
        sl_buf_drop(&h->in);
}

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
    conn_due(c, -1);
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

static int
h1_may_persist(const struct sl_conn *c, const struct h1 *h, const struct request_head *head,
               const struct sl_field *fields)
{
    int64_t limit = h1_conf(c)->keepalive_requests;

    return connection_persists(head->version, fields, head->n_fields, head->ids) &&
           (limit < 0 || h->n_requests < limit) &&
           conn_may_stay(c);
}

static void
h1_start(struct sl_conn *c, const struct request_head *head, const struct sl_field *fields)
{
    struct h1 *h = h1_of(c);
    const struct sl_cause *why = NULL;
    enum framing framing = FRAMING_NONE;
    struct sl_req *r = h1_begin(c);
    uint64_t left = 0;
    enum parse ok;

    ok = framing_of_request(head, fields, &framing, &left, &why);
    h->persists = (uint8_t)h1_may_persist(c, h, head, fields);
    fields_take(&r->head, r->pool, fields, head->n_fields, head->ids);
    h->in->begin += (unsigned)head->size;
    h->framing = (uint8_t)framing;
    h->left = left;
    memset(&h->chunked, 0, sizeof h->chunked);
    h->body_began_ms = c->loop->now_ms;
    sl_req_set_line(r, head->method, head->target, head->version);
    if (ok != PARSE_OK) {
        h1_refuse(c, why);
        return;
    }
    if (fields_may_have(&r->head, SL_F_EXPECT) &&
        !sl_span_eqi(sl_fields_get_id(&r->head, SL_F_EXPECT), SL_SPAN("100-continue"))) {
        h1_refuse(c, &sl_cause_expectation); /* RFC 9110, 10.1.1 */
        return;
    }
    sl_req_start(r, framing == FRAMING_CHUNKED ? -1 : (int64_t)left);
}

/* Tries what is buffered: 1 when a request began (or was refused). */
static int
h1_parse(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    const struct core_conf *conf = h1_conf(c);
    struct head_limits limits = {(size_t)conf->limit_line, (size_t)conf->limit_head,
                                 (unsigned)conf->limit_fields};
    struct request_head head = {.size = 0};

    h->unparsed = 0;
    switch (head_parse_request(h->in->bytes + h->in->begin, buf_used(h->in), &limits, &head,
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
h1_worth_parsing(const struct h1 *h, size_t had, size_t got, int64_t limit)
{
    const char *fresh = h->in->bytes + h->in->end - got;

    return had == 0 || memchr(fresh, '\n', got) != NULL || buf_used(h->in) >= (size_t)limit;
}

static void
h1_read_head(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    if (h->unparsed && h->in != NULL && h1_parse(c))
        return;
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
        if (h1_worth_parsing(h, had, (size_t)k, h1_conf(c)->limit_line) && h1_parse(c))
            return;
    }
    h1_head_waits(c);
}

/* ---- the request body ---- */

/* The reader or the client has given up: settle with what the cause says. */
static void
h1_body_fails(struct sl_conn *c, const struct sl_cause *why)
{
    struct h1 *h = h1_of(c);

    h->persists = 0;
    h->wants = 0;
    req_abort(h->r, why);
}

static int
h1_body_is_slow(const struct sl_conn *c, const struct h1 *h)
{
    int64_t rate = h1_conf(c)->min_rate, ms = c->loop->now_ms - h->body_began_ms;

    return rate > 0 && ms > RATE_GRACE_MS && h->r->body_seen * 1000 / ms < rate;
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

/* A buffer with room: what was read is used up, or begins a line that is not complete. */
static void
h1_body_room(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);
    struct sl_buf *old = h->in;
    size_t want = h->framing == FRAMING_LENGTH && h->left < BUF_SMALL ? BUF_SMALL : BUF_LARGE;

    if (old != NULL && buf_used(old) == 0 && (old->n_refs > 1 || buf_room(old) < 1024)) {
        sl_buf_drop(&h->in);
        old = NULL;
    }
    if (old == NULL) {
        h->in = buf_take(c->loop, (unsigned)want);
        return;
    }
    if (buf_room(old) > 0)
        return;
    h->in = buf_take(c->loop, BUF_LARGE);
    memcpy(h->in->bytes, old->bytes + old->begin, buf_used(old));
    h->in->end = (unsigned)buf_used(old);
    sl_buf_drop(&old);
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

static void
h1_read_body(struct sl_conn *c)
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
            h1_drop_used(h);
            conn_due(c, h->framing == FRAMING_CLOSE ? -1 : h1_conf(c)->body_ms);
            return;
        }
        if (k <= 0) {
            h1_body_client_ended(c);
            return;
        }
        h->in->end += (unsigned)k;
        turn += (size_t)k;
        if (h1_body_is_slow(c, h)) {
            h1_body_fails(c, &sl_cause_body_timeout);
            return;
        }
    }
}

static void
h1_want(struct sl_req *r)
{
    struct h1 *h = h1_of(r->conn);

    if (h->wants || h->r != r || (r->flags & REQ_BODY_DONE))
        return;
    h->wants = 1;
    h1_read_body(r->conn);
}

/* ---- the response ---- */

/* RFC 9112, 6: how the client will know where the body ends. */
static enum framing
h1_out_framing(const struct sl_req *r, int ends)
{
    if (r->status == 101)
        return FRAMING_CLOSE;
    if (!answer_has_body(r))
        return FRAMING_NONE;
    if (ends || r->length >= 0)
        return FRAMING_LENGTH;
    return r->version == 10 ? FRAMING_CLOSE : FRAMING_CHUNKED;
}

static void
h1_put_framing(struct writer *w, struct sl_conn *c, struct sl_req *r)
{
    struct h1 *h = h1_of(c);

    if (h->out_framing == FRAMING_LENGTH) {
        PUT(w, "Content-Length: ");
        put_number(w, r->length > 0 ? (uint64_t)r->length : 0);
        PUT(w, "\r\n");
    } else if (h->out_framing == FRAMING_CHUNKED)
        PUT(w, "Transfer-Encoding: chunked\r\n");
}

static void
h1_put_connection(struct writer *w, struct sl_conn *c, struct sl_req *r)
{
    struct h1 *h = h1_of(c);

    if (r->status == 101)
        PUT(w, "Connection: upgrade\r\n");
    else if (!h->persists)
        PUT(w, "Connection: close\r\n");
    else if (r->version == 10)
        PUT(w, "Connection: keep-alive\r\n");
}

static void
h1_put_head(struct writer *w, struct sl_conn *c, struct sl_req *r)
{
    const char *server = r->scope->core->server_header;
    char status[3] = {(char)('0' + r->status / 100), (char)('0' + r->status / 10 % 10),
                      (char)('0' + r->status % 10)};

    PUT(w, "HTTP/1.1 ");
    put(w, status, 3);
    PUT(w, " ");
    put_span(w, r->reason.at != NULL ? r->reason : sl_span(status_reason(r->status)));
    PUT(w, "\r\n");
    put_fields(w, &r->response);
    if (!fields_may_have(&r->response, SL_F_CONTENT_LENGTH) ||
        h1_of(c)->out_framing == FRAMING_CHUNKED)
        h1_put_framing(w, c, r);
    if (!fields_may_have(&r->response, SL_F_DATE)) {
        PUT(w, "Date: ");
        put_span(w, sl_loop_http_date(c->loop));
        PUT(w, "\r\n");
    }
    if (server != NULL && !fields_may_have(&r->response, SL_F_SERVER)) {
        PUT(w, "Server: ");
        put_span(w, sl_span(server));
        PUT(w, "\r\n");
    }
    h1_put_connection(w, c, r);
    PUT(w, "\r\n");
}

static enum sl_flow
h1_sent(struct sl_conn *c, enum sl_flow flow)
{
    if (flow == SL_FLOW_GONE)
        h1_of(c)->broken = 1;
    else if (flow == SL_FLOW_FULL)
        conn_due(c, h1_conf(c)->send_ms);
    return flow;
}

/* Counts the body against its length: too much is never sent, too little is a cut. */
static int
h1_count(struct h1 *h, size_t n, int ends)
{
    if (h->out_framing != FRAMING_LENGTH)
        return 1;
    if (n > h->out_left)
        return 0;
    h->out_left -= n;
    return !ends || h->out_left == 0;
}

/* Head (if it is held), chunk frame and data in one write. */
static enum sl_flow
h1_write(struct sl_conn *c, struct sl_req *r, struct sl_data data, int ends)
{
    struct h1 *h = h1_of(c);
    struct writer w = {c->loop->scratch, c->loop->scratch + LOOP_SCRATCH, 0};
    int is_chunked = h->out_framing == FRAMING_CHUNKED && answer_has_body(r);
    struct sl_span tail = {"", 0};

    if (h->broken || !h1_count(h, data.n, ends)) {
        h->broken = 1;
        return SL_FLOW_GONE;
    }
    if (h->head_held)
        h1_put_head(&w, c, r);
    h->head_held = 0;
    if (w.end - w.at <= 32)
        w.is_full = 1;
    else if (is_chunked && data.n > 0)
        w.at += chunked_size_line(w.at, data.n);
    if (is_chunked)
        tail = data.n > 0 ? ends ? SL_SPAN("\r\n0\r\n\r\n") : SL_SPAN("\r\n")
                          : ends ? SL_SPAN("0\r\n\r\n") : tail;
    if (data.n <= COPY_MAX && (size_t)(w.end - w.at) > data.n + 16 && w.at > c->loop->scratch) {
        put(&w, data.at, data.n);
        put_span(&w, tail);
        data.n = tail.n = 0;
    }
    if (w.is_full) {
        sl_req_log(r, SL_ERROR, "SL0462", "the response head does not fit %d bytes",
                   LOOP_SCRATCH);
        h->broken = 1;
        return SL_FLOW_GONE;
    }
    return h1_sent(c, conn_send(c,
                                (struct sl_span){c->loop->scratch,
                                                 (size_t)(w.at - c->loop->scratch)},
                                data, tail));
}

static enum sl_flow
h1_head(struct sl_req *r, int ends)
{
    struct sl_conn *c = r->conn;
    struct h1 *h = h1_of(c);

    h->out_framing = (uint8_t)h1_out_framing(r, ends);
    h->out_left = r->length > 0 ? (uint64_t)r->length : 0;
    if (h->out_framing == FRAMING_CLOSE || (r->flags & REQ_NO_REUSE) ||
        !conn_may_stay(c))
        h->persists = 0;
    /* The client is not told to go on, so the rest of its body is not waited for. */
    if ((r->flags & (REQ_BODY_DONE | REQ_UPGRADED)) == 0 && r->status >= 300)
        h->persists = 0;
    h->head_held = 1;
    if (r->flags & REQ_UPGRADED) {
        h->framing = FRAMING_CLOSE;
        r->flags &= ~(unsigned)REQ_BODY_DONE;
        h->wants = 0;
    }
    if (!ends)
        return SL_FLOW_ROOM;
    if (h->out_framing == FRAMING_NONE)
        h->out_left = 0;
    return h1_write(c, r, (struct sl_data){NULL, 0, NULL}, 1);
}

static enum sl_flow
h1_interim(struct sl_req *r, int status, struct sl_fields *fields)
{
    struct sl_conn *c = r->conn;
    struct writer w = {c->loop->scratch, c->loop->scratch + LOOP_SCRATCH, 0};

    if (r->version == 10) /* RFC 9110, 15.2: not to HTTP/1.0 */
        return SL_FLOW_ROOM;
    PUT(&w, "HTTP/1.1 ");
    put_number(&w, (uint64_t)status);
    PUT(&w, " ");
    put_span(&w, sl_span(status_reason(status)));
    PUT(&w, "\r\n");
    put_fields(&w, fields);
    PUT(&w, "\r\n");
    if (w.is_full)
        return SL_FLOW_ROOM;
    return h1_sent(c, conn_send(c,
                                (struct sl_span){c->loop->scratch,
                                                 (size_t)(w.at - c->loop->scratch)},
                                (struct sl_data){NULL, 0, NULL}, SL_SPAN("")));
}

static enum sl_flow
h1_body(struct sl_req *r, struct sl_data data, int ends)
{
    struct h1 *h = h1_of(r->conn);

    if (data.n == 0 && !ends && !h->head_held)
        return conn_is_writing(r->conn) ? SL_FLOW_FULL : SL_FLOW_ROOM;
    return h1_write(r->conn, r, data, ends);
}

static enum sl_flow
h1_trailers(struct sl_req *r, struct sl_fields *fields)
{
    struct sl_conn *c = r->conn;
    struct h1 *h = h1_of(c);
    struct writer w = {c->loop->scratch, c->loop->scratch + LOOP_SCRATCH, 0};

    if (h->out_framing != FRAMING_CHUNKED)
        return h1_write(c, r, (struct sl_data){NULL, 0, NULL}, 1);
    if (h->head_held)
        h1_put_head(&w, c, r);
    h->head_held = 0;
    PUT(&w, "0\r\n");
    put_trailers(&w, fields);
    PUT(&w, "\r\n");
    if (w.is_full || h->broken) {
        h->broken = 1;
        return SL_FLOW_GONE;
    }
    return h1_sent(c, conn_send(c,
                                (struct sl_span){c->loop->scratch,
                                                 (size_t)(w.at - c->loop->scratch)},
                                (struct sl_data){NULL, 0, NULL}, SL_SPAN("")));
}

/* Closing before the announced end tells the client; where only the close would end the
 * body, a reset does (RFC 9112, 8). */
static void
h1_reset(struct sl_req *r)
{
    struct h1 *h = h1_of(r->conn);
    struct linger hard = {1, 0};

    if (h->out_framing == FRAMING_CLOSE)
        setsockopt(r->conn->io.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    h->broken = 1;
    h->persists = 0;
}

/* Only a body of announced length on a plain socket, with nothing queued before it. */
static ssize_t
h1_splice(struct sl_req *r, int pipe, size_t n)
{
    struct sl_conn *c = r->conn;
    struct h1 *h = h1_of(c);
    ssize_t k;

    if (h->broken || n > h->out_left)
        return SL_IO_ERROR;
    if (h->head_held && h1_write(c, r, (struct sl_data){NULL, 0, NULL}, 0) == SL_FLOW_GONE)
        return SL_IO_ERROR;
    if (conn_is_writing(c)) {
        conn_due(c, h1_conf(c)->send_ms);
        return SL_IO_AGAIN;
    }
    k = splice(pipe, NULL, c->io.fd, NULL, n,
               SPLICE_F_NONBLOCK | SPLICE_F_MOVE | (h->out_left > n ? SPLICE_F_MORE : 0));
    if (k > 0) {
        h->out_left -= (uint64_t)k;
        return k;
    }
    if (k < 0 && errno != EAGAIN)
        return SL_IO_ERROR;
    h->waits_room = 1;
    c->io.ready &= (uint8_t)~SL_WRITABLE;
    conn_due(c, h1_conf(c)->send_ms);
    return SL_IO_AGAIN;
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

    h->r = NULL;
    sl_req_finish(&r);
    if (h->broken || is_tunnel) {
        sl_conn_close(&c);
        return;
    }
    h1_drop_used(h);
    if (!h->persists || !body_done) {
        if (body_done && h->in == NULL && !conn_may_read(c)) {
            sl_conn_close(&c);
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
    conn_due(c, h1_conf(c)->keepalive_ms);
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
            sl_conn_close(&c);
        return;
    case H1_ANSWER:
        if (conn_is_writing(c) || h->waits_room) {
            h->r->cause = &sl_cause_send_timeout;
            sl_req_log(h->r, SL_INFO, sl_cause_send_timeout.id, "%s", sl_cause_send_timeout.text);
            sl_conn_close(&c);
        } else if ((h->r->flags & REQ_BODY_DONE) == 0 && h->wants && h->framing != FRAMING_CLOSE)
            h1_body_fails(c, &sl_cause_body_timeout);
        return;
    case H1_LINGER:
        sl_conn_close(&c);
        return;
    }
}

/* A client that reset or vanished while its answer is made: 1 when the connection went. */
static int
h1_is_gone(struct sl_conn *c)
{
    if ((c->io.ready & SL_HANGUP) == 0 || conn_peer_state(c) >= 0)
        return 0;
    sl_conn_close(&c);
    return 1;
}

static void
h1_answer_event(struct sl_conn *c)
{
    struct h1 *h = h1_of(c);

    if (conn_is_writing(c) && (c->io.ready & SL_WRITABLE)) {
        switch (conn_flush(c)) {
        case SL_FLOW_GONE:
            sl_conn_close(&c);
            return;
        case SL_FLOW_FULL:
            conn_due(c, h1_conf(c)->send_ms);
            break;
        case SL_FLOW_ROOM:
            conn_due(c, -1);
            if (h->ended) {
                h1_complete(c);
                return;
            }
            sl_req_writable(h->r);
            return;
        }
    }
    if (h->waits_room && (c->io.ready & SL_WRITABLE)) {
        h->waits_room = 0;
        conn_due(c, -1);
        sl_req_writable(h->r);
        return;
    }
    if (h1_is_gone(c))
        return;
    if (h->wants)
        h1_read_body(c);
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
};
