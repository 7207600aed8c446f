/* HTTP/1 towards servers.
 *
 *   idle -> head -> body -> (idle or closed)
 *            ^__|  1xx
 *
 * Bytes are read into a small buffer first: most responses fit one.  A body of known
 * length goes from socket to socket through a pipe when neither side needs to see it
 * (splice.c), and a subrequest's to where its owner keeps it.  When the receiver has no
 * room nothing is read: the socket's window does the rest.
 *
 * A call into the attempt may end it and with it this connection's work: after each, h->a
 * tells whether to go on. */
#include "http/chunked.h"
#include "http/http1.h"
#include "upstream/exchange.h"
#include "upstream/splice.h"

#include <errno.h>
#include <sys/socket.h>

#define TURN_BYTES 65536
#define ROOM_LEAST 512

enum h1c_state { H1C_IDLE, H1C_HEAD, H1C_BODY };

struct h1c {
    struct sl_buf *in;
    struct sl_attempt *a; /* NULL: idle */
    uint64_t left;        /* of the response body */
    uint8_t state;
    uint8_t framing;
    uint8_t persists;
    uint8_t in_trailers;
    uint8_t is_full;     /* the receiver has no room */
    uint8_t out_chunked; /* of the request body */
    struct splice splice;
    struct chunked chunked;
};

_Static_assert(sizeof(struct h1c) <= CONN_SPACE, "the state of HTTP/1 lies in the connection");

static inline struct h1c *
h1c_of(struct sl_conn *c)
{
    return (struct h1c *)(void *)c->space;
}

static void h1c_read(struct sl_conn *c);

/* ---- the request ---- */

void
http1_put_request(struct writer *w, struct sl_attempt *a)
{
    int64_t length = sl_attempt_body_length(a);

    put_span(w, a->method);
    PUT(w, " ");
    put_span(w, a->path);
    PUT(w, " HTTP/1.1\r\n");
    put_fields(w, &a->head);
    if (length < 0)
        PUT(w, "Transfer-Encoding: chunked\r\n");
    else if (length > 0 && !fields_may_have(&a->head, SL_F_CONTENT_LENGTH)) {
        PUT(w, "Content-Length: "); /* the client's protocol had its own way to say it */
        put_number(w, (uint64_t)length);
        PUT(w, "\r\n");
    }
    if (exchange_of(a)->wants_upgrade)
        PUT(w, "Connection: upgrade\r\n");
    PUT(w, "\r\n");
}

static enum sl_flow
h1c_start(struct sl_attempt *a, struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    struct writer w = writer_begin(c);

    h->a = a;
    h->state = H1C_HEAD;
    h->is_full = h->in_trailers = 0;
    h->out_chunked = sl_attempt_body_length(a) < 0;
    http1_put_request(&w, a);
    if (w.is_full) {
        sl_req_log(sl_attempt_req(a), SL_ERROR, "SL0530", "the request head does not fit %d bytes",
                   LOOP_SCRATCH);
        a->is_unsendable = 1;
        return SL_FLOW_GONE;
    }
    return conn_send_one(c, writer_written(&w, c));
}

static enum sl_flow
h1c_body(struct sl_attempt *a, struct sl_data data, int ends)
{
    struct sl_conn *c = a->conn;
    struct h1c *h = h1c_of(c);
    char line[24];
    struct sl_span size = {line, 0}, tail = {"", 0};

    if (h->out_chunked) {
        if (data.n > 0) {
            size.n = chunked_size_line(line, data.n);
            tail = ends ? SL_SPAN("\r\n0\r\n\r\n") : SL_SPAN("\r\n");
        } else if (ends)
            tail = SL_SPAN("0\r\n\r\n");
    }
    if (a->status == 101 && ends) {
        conn_shutdown(c);
        return SL_FLOW_ROOM;
    }
    return conn_send(c, size, data, tail);
}

static enum sl_flow
h1c_trailers(struct sl_attempt *a, struct sl_fields *fields)
{
    struct sl_conn *c = a->conn;
    struct writer w = writer_begin(c);

    if (!h1c_of(c)->out_chunked)
        return SL_FLOW_ROOM;
    PUT(&w, "0\r\n");
    put_trailers(&w, fields);
    PUT(&w, "\r\n");
    if (w.is_full)
        return SL_FLOW_GONE;
    return conn_send_one(c, writer_written(&w, c));
}

/* ---- the response head ---- */

static void
h1c_fail(struct sl_conn *c, const struct sl_cause *cause)
{
    struct sl_attempt *a = h1c_of(c)->a;

    sl_attempt_fail(a, cause);
}

static void
h1c_interim(struct sl_conn *c, const struct response_head *head)
{
    struct h1c *h = h1c_of(c);
    struct sl_fields fields = {c->loop->parsed, head->n_fields, head->n_fields, head->ids,
                               NULL};

    h->in->begin += (unsigned)head->size;
    sl_attempt_interim(h->a, head->status, &fields);
}

/* The fields go to the request, which keeps the buffer they lie in. */
static void
h1c_take_fields(struct sl_conn *c, const struct response_head *head)
{
    struct h1c *h = h1c_of(c);
    struct sl_req *r = exchange_of(h->a)->r;

    fields_take(h->a->response, r->pool, c->loop->parsed, head->n_fields, head->ids);
    if (r->response_buf != NULL)
        sl_buf_drop(&r->response_buf);
    r->response_buf = h->in;
    sl_buf_hold(h->in);
    r->reason = head->reason;
}

/* Who watches the request gets the body with the head where it is short and has come already.  An
 * end is met once more by who reads on. */
static void
h1c_gather(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    ssize_t k;

    if (h->in->size - h->in->begin < h->left)
        buf_move(c->loop, &h->in);
    do {
        k = sl_conn_read(c, h->in->bytes + h->in->end, buf_room(h->in));
        if (k > 0)
            h->in->end += (unsigned)k;
    } while (k > 0 && buf_used(h->in) < h->left && conn_may_read(c));
    if (k <= 0 && k != SL_IO_AGAIN)
        c->io.ready |= SL_READABLE;
}

static int
h1c_may_gather(struct sl_conn *c, enum framing framing)
{
    const struct h1c *h = h1c_of(c);

    return framing == FRAMING_LENGTH && h->left > buf_used(h->in) && h->left <= BUF_LARGE &&
           exchange_of(h->a)->r->watch != NULL && conn_may_read(c);
}

/* The body, if all of it is at hand. */
static struct sl_span
h1c_whole(const struct h1c *h, enum framing framing)
{
    if (framing == FRAMING_NONE)
        return SL_SPAN("");
    if (framing != FRAMING_LENGTH || h->left > buf_used(h->in))
        return (struct sl_span){NULL, 0};
    return (struct sl_span){h->in->bytes + h->in->begin, (size_t)h->left};
}

/* 1: go on with the body; 0: the attempt is over or waits. */
static int
h1c_final(struct sl_conn *c, const struct response_head *head)
{
    struct h1c *h = h1c_of(c);
    struct sl_attempt *a = h->a;
    enum framing framing = FRAMING_NONE;
    const struct sl_cause *why = NULL;
    int64_t length;

    if (framing_of_response(head, c->loop->parsed, a->method, &framing, &h->left, &why) !=
        PARSE_OK) {
        h1c_fail(c, why);
        return 0;
    }
    if (head->status == 101)
        framing = FRAMING_CLOSE;
    h->framing = (uint8_t)framing;
    memset(&h->chunked, 0, sizeof h->chunked);
    h->persists = framing != FRAMING_CLOSE &&
                  connection_persists(head->version, c->loop->parsed, head->n_fields, head->ids);
    c->peer_keeps_ms = keep_alive_ms(c->loop->parsed, head->n_fields, head->ids);
    h1c_take_fields(c, head);
    h->in->begin += (unsigned)head->size;
    h->state = H1C_BODY;
    if (h1c_may_gather(c, framing))
        h1c_gather(c);
    a->whole = h1c_whole(h, framing);
    length = framing == FRAMING_NONE ? 0 : framing == FRAMING_LENGTH ? (int64_t)h->left : -1;
    if (attempt_head(a, head->status, length) == SL_FLOW_FULL)
        h->is_full = h->a == a;
    return h->a == a;
}

/* 1: a final head was taken; 0: more is needed, or the attempt is over. */
static int
h1c_parse(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    struct head_limits limits = {BUF_LARGE - 4096, BUF_LARGE - 4096, FIELDS_MAX};

    while (h->a != NULL && buf_used(h->in) > 0) {
        struct sl_attempt *a = h->a;
        struct response_head head;

        switch (head_parse_response(h->in->bytes + h->in->begin, buf_used(h->in), &limits, &head,
                                    c->loop->parsed)) {
        case PARSE_MORE:
            return 0;
        case PARSE_BAD:
            h1c_fail(c, head.why);
            return 0;
        case PARSE_OK:
            break;
        }
        if (head.status >= 200 || head.status == 101)
            return h1c_final(c, &head);
        h1c_interim(c, &head);
        if (h->a != a)
            return 0;
    }
    return 0;
}

/* ---- the response body ---- */

/* Reads what a transport keeps to itself; 1: the protocol has nothing to read. */
static int
h1c_transport_is_quiet(struct sl_conn *c)
{
    char byte;

    return sl_conn_read(c, &byte, 1) == SL_IO_AGAIN;
}

/* A read that filled its buffer, and one through a pipe, do not tell whether more has come. */
static int
h1c_is_drained(struct sl_conn *c)
{
    const struct h1c *h = h1c_of(c);
    char byte;

    if (h->in != NULL && buf_used(h->in) > 0)
        return 0;
    if (!conn_may_read(c))
        return 1;
    if (c->transport != NULL)
        return h1c_transport_is_quiet(c);
    if (recv(c->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN)
        return 0;
    c->io.ready &= (uint8_t)~SL_READABLE;
    return 1;
}

/* The end: bytes behind it are nobody's, and mean the server cannot be trusted with more. */
static void
h1c_end(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    struct sl_attempt *a = h->a;
    int reusable = h->persists && (c->io.ready & SL_HANGUP) == 0 && h1c_is_drained(c);

    if (h->in != NULL)
        sl_buf_drop(&h->in);
    h->a = NULL;
    h->state = H1C_IDLE;
    sl_attempt_end(a, reusable);
}

/* 1: may go on. */
static int
h1c_given(struct sl_conn *c, struct sl_attempt *a, enum sl_flow flow)
{
    struct h1c *h = h1c_of(c);

    if (h->a != a || flow == SL_FLOW_GONE)
        return 0;
    if (flow == SL_FLOW_FULL)
        h->is_full = 1;
    return flow == SL_FLOW_ROOM;
}

static int
h1c_trailer_section(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    struct head_limits limits = {BUF_LARGE - 4096, BUF_LARGE - 4096, FIELDS_MAX};
    struct sl_fields trailers = {.at = c->loop->parsed, .ids = ~(uint64_t)0};
    size_t size = 0;
    unsigned n = 0;

    switch (head_parse_trailers(h->in->bytes + h->in->begin, buf_used(h->in), &limits, &size, &n,
                                c->loop->parsed)) {
    case PARSE_MORE:
        return 1;
    case PARSE_BAD:
        h1c_fail(c, &sl_cause_bad_response_chunk);
        return 0;
    case PARSE_OK:
        break;
    }
    h->in->begin += (unsigned)size;
    trailers.n = trailers.room = n;
    if (n > 0)
        sl_attempt_trailers(h->a, &trailers);
    h1c_end(c);
    return 0;
}

/* Each gives what is buffered: 1 when more must be read. */
static int
h1c_chunked(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    struct sl_attempt *a = h->a;

    while (!h->in_trailers && buf_used(h->in) > 0) {
        struct sl_span data = {NULL, 0};
        size_t used = 0;
        enum chunked_step step = chunked_next(&h->chunked, h->in->bytes + h->in->begin,
                                              buf_used(h->in), &used, &data);

        h->in->begin += (unsigned)used;
        if (step == CHUNKED_BAD) {
            h1c_fail(c, &sl_cause_bad_response_chunk);
            return 0;
        }
        if (step == CHUNKED_TRAILERS)
            h->in_trailers = 1;
        if (step == CHUNKED_DATA &&
            !h1c_given(c, a, attempt_data(a, (struct sl_data){data.at, data.n, h->in}, 0)))
            return 0;
    }
    return h->in_trailers && h->in != NULL ? h1c_trailer_section(c) : 1;
}

/* Bytes of a body that is not chunked, all of them its own: 1 when more must be read. */
static int
h1c_pass(struct sl_conn *c, struct sl_data data)
{
    struct h1c *h = h1c_of(c);
    struct sl_attempt *a = h->a;
    int ends;

    if (h->framing != FRAMING_CLOSE)
        h->left -= data.n;
    ends = h->framing != FRAMING_CLOSE && h->left == 0;
    if (data.n > 0) {
        enum sl_flow flow = attempt_data(a, data, ends);

        if (h->a != a || flow == SL_FLOW_GONE)
            return 0;
        if (!ends && !h1c_given(c, a, flow))
            return 0;
    }
    if (!ends)
        return 1;
    h1c_end(c);
    return 0;
}

static int
h1c_plain(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    size_t n = h->in != NULL ? buf_used(h->in) : 0;
    const char *at = n > 0 ? h->in->bytes + h->in->begin : NULL;

    if (h->framing != FRAMING_CLOSE && n > h->left)
        n = (size_t)h->left;
    if (n > 0)
        h->in->begin += (unsigned)n;
    return h1c_pass(c, (struct sl_data){at, n, h->in});
}

/* Hands out what is buffered: 1 when the socket should be read. */
static int
h1c_give(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);

    if (h->is_full)
        return 0;
    return h->framing == FRAMING_CHUNKED ? h->in == NULL || h1c_chunked(c) : h1c_plain(c);
}

/* ---- reading ---- */

static void
h1c_room(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    int is_long = h->state == H1C_BODY && (h->framing != FRAMING_LENGTH || h->left > BUF_SMALL);

    buf_make_room(c->loop, &h->in, ROOM_LEAST, is_long ? BUF_LARGE : BUF_SMALL);
}

/* Where the receiver keeps the next bytes of the body, for no more than are its own; NULL: the
 * buffer is read into. */
static char *
h1c_kept(struct sl_conn *c, size_t *room)
{
    struct h1c *h = h1c_of(c);
    char *at;

    if (h->state != H1C_BODY || h->framing != FRAMING_LENGTH ||
        (h->in != NULL && buf_used(h->in) > 0))
        return NULL;
    at = subrequest_room(exchange_of(h->a)->r, room);
    if (*room > h->left)
        *room = (size_t)h->left;
    return at;
}

/* More of the response, into the buffer, or to where *kept says. */
static ssize_t
h1c_more(struct sl_conn *c, struct sl_data *kept)
{
    struct h1c *h = h1c_of(c);
    size_t room = 0;
    char *at = h1c_kept(c, &room);
    ssize_t k;

    if (at != NULL) {
        k = sl_conn_read(c, at, room);
        *kept = (struct sl_data){at, k > 0 ? (size_t)k : 0, NULL};
        return k;
    }
    h1c_room(c);
    k = sl_conn_read(c, h->in->bytes + h->in->end, buf_room(h->in));
    if (k > 0)
        h->in->end += (unsigned)k;
    return k;
}

static void
h1c_at_end(struct sl_conn *c, ssize_t k)
{
    struct h1c *h = h1c_of(c);

    if (h->state == H1C_HEAD) {
        h1c_fail(c, h->a->has_response ? &sl_cause_truncated : &sl_cause_no_response);
        return;
    }
    if (h->framing == FRAMING_CLOSE && k == SL_IO_EOF)
        h1c_end(c);
    else
        h1c_fail(c, &sl_cause_truncated);
}

/* Whether the rest of this body may pass unseen. */
static int
h1c_may_splice(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);

    return h->state == H1C_BODY && h->framing == FRAMING_LENGTH && h->left >= SPLICE_MIN &&
           (h->in == NULL || buf_used(h->in) == 0) && conn_can_splice(c) &&
           splice_may(exchange_of(h->a)->r);
}

/* Nothing to read for now: what is held back goes out. */
static void
h1c_wait(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);

    if (h->in != NULL && buf_used(h->in) == 0)
        sl_buf_drop(&h->in);
    if (h->state == H1C_BODY && h->a != NULL && !h->is_full)
        attempt_data(h->a, (struct sl_data){NULL, 0, NULL}, 0);
}

/* 1: go on by reading; 0: the turn is over. */
static int
h1c_splice(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    struct sl_attempt *a = h->a;

    attempt_lives(a);
    switch (splice_run(&h->splice, c, exchange_of(a)->r, &h->left)) {
    case SPLICE_EMPTY:
        h1c_wait(c);
        return 0;
    case SPLICE_TURN:
        loop_queue(c->loop, &c->io);
        return 0;
    case SPLICE_FULL:
        h->is_full = 1;
        attempt_waits(a);
        return 0;
    case SPLICE_DONE:
        h1c_end(c);
        return 0;
    case SPLICE_CUT:
        h1c_fail(c, &sl_cause_truncated);
        return 0;
    case SPLICE_GONE:
        attempt_client_gone(a);
        return 0;
    case SPLICE_NOT:
        return 1;
    }
    return 1;
}

static void
h1c_read(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);
    size_t turn = 0;

    while (h->a != NULL) {
        struct sl_data kept = {NULL, 0, NULL};
        ssize_t k;

        if (h->state == H1C_BODY && !h1c_give(c))
            return;
        if (turn >= TURN_BYTES) {
            loop_queue(c->loop, &c->io);
            return;
        }
        if ((h->splice.n_in_pipe > 0 || h1c_may_splice(c)) && !h1c_splice(c))
            return;
        if (!conn_may_read(c) && c->transport == NULL) {
            h1c_wait(c);
            return;
        }
        k = h1c_more(c, &kept);
        if (k == SL_IO_AGAIN) {
            h1c_wait(c);
            return;
        }
        if (k <= 0) {
            h1c_at_end(c, k);
            return;
        }
        turn += (size_t)k;
        if (h->state == H1C_BODY)
            attempt_lives(h->a);
        h->a->has_response = 1;
        if (h->state == H1C_HEAD && !h1c_parse(c) && h->a == NULL)
            return;
        if (kept.n > 0 && !h1c_pass(c, kept))
            return;
    }
}

static void
h1c_want(struct sl_attempt *a)
{
    struct sl_conn *c = a->conn;
    struct h1c *h = h1c_of(c);

    if (!h->is_full)
        return;
    h->is_full = 0;
    h1c_read(c);
}

/* ---- events ---- */

static void
h1c_ready(struct sl_conn *c, unsigned what)
{
    struct h1c *h = h1c_of(c);

    if (h->a == NULL) { /* idle: its time is over, or the server has ended it */
        if ((what & (SL_TIMEOUT | SL_HANGUP)) ||
            ((what & SL_READABLE) && (c->transport == NULL || !h1c_transport_is_quiet(c))))
            sl_conn_close(&c);
        return;
    }
    if (what & SL_TIMEOUT) {
        sl_attempt_late(h->a);
        return;
    }
    if (conn_is_writing(c) && (c->io.ready & SL_WRITABLE)) {
        if (conn_flush(c) == SL_FLOW_ROOM)
            sl_attempt_writable(h->a);
        else
            attempt_sends(h->a);
        if (h->a == NULL)
            return;
    }
    if (!h->is_full)
        h1c_read(c);
}

static void
h1c_open(struct sl_conn *c)
{
    memset(c->space, 0, sizeof(struct h1c));
}

static void
h1c_closed(struct sl_conn *c)
{
    struct h1c *h = h1c_of(c);

    h->a = NULL;
    if (h->in != NULL)
        sl_buf_drop(&h->in);
    splice_end(&h->splice, c->loop);
}

static void
h1c_cancel(struct sl_attempt *a, struct sl_conn *c)
{
    (void)a;
    sl_conn_close(&c);
}

const struct sl_upstream_protocol http1_upstream = {
    .name = "http",
    .open = h1c_open,
    .ready = h1c_ready,
    .closed = h1c_closed,
    .start = h1c_start,
    .body = h1c_body,
    .trailers = h1c_trailers,
    .want = h1c_want,
    .cancel = h1c_cancel,
};
