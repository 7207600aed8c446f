/* A response as it is written: the head waits for the first of its body, so that a short
 * answer leaves in one piece; bodies of a known length may be spliced past the process. */
#include "http/http1_server.h"

#include "net/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define FILE_TURN_BYTES 1048576u /* of one answer's file in one turn of the loop */
#define COPY_MAX 2048 /* a body this short leaves in one piece with its head */

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

    if (fields_may_have(&r->response, SL_F_UPGRADE)) {
        PUT(w, "Connection: upgrade\r\n");
        if (r->status == 101)
            return;
    }
    if (!h->persists)
        PUT(w, "Connection: close\r\n");
    else if (r->version == 10)
        PUT(w, "Connection: keep-alive\r\n");
}

static void
put_status(struct writer *w, int status, struct sl_span reason)
{
    char line[] = "HTTP/1.1 000 ";

    line[9] = (char)('0' + status / 100);
    line[10] = (char)('0' + status / 10 % 10);
    line[11] = (char)('0' + status % 10);
    put(w, line, sizeof line - 1);
    put_span(w, reason);
    PUT(w, "\r\n");
}

static void
h1_put_head(struct writer *w, struct sl_conn *c, struct sl_req *r)
{
    const char *server = r->scope->core->server_header;

    put_status(w, r->status, r->reason.at != NULL ? r->reason : sl_span(status_reason(r->status)));
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
        h1_due_send(c, h1_conf(c)->send_ms);
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
    struct writer w = writer_begin(c);
    int is_chunked = h->out_framing == FRAMING_CHUNKED && answer_has_body(r);
    struct sl_span tail = {"", 0};
    enum sl_flow flow;

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
    c->ends = ends && !h->persists && h->out_framing != FRAMING_CLOSE;
    flow = data.n + tail.n == 0 && w.at > c->loop->scratch
               ? conn_send_one(c, writer_written(&w, c))
               : conn_send(c, writer_written(&w, c), data, tail);
    c->ends = 0;
    return h1_sent(c, flow);
}

enum sl_flow
h1_head(struct sl_req *r, int ends)
{
    struct sl_conn *c = r->conn;
    struct h1 *h = h1_of(c);
    int64_t limit = r->scope->core->keepalive_requests;

    h->out_framing = (uint8_t)h1_out_framing(r, ends);
    h->out_left = r->length > 0 ? (uint64_t)r->length : 0;
    if (h->out_framing == FRAMING_CLOSE || (r->flags & REQ_NO_REUSE) || !conn_may_stay(c) ||
        (limit >= 0 && h->n_requests >= limit))
        h->persists = 0;
    /* An answer before the request's end may be its last word: nobody waits for the rest. */
    if ((r->flags & (REQ_BODY_DONE | REQ_UPGRADED)) == 0)
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

int
h1_take_back(struct sl_req *r)
{
    struct h1 *h = h1_of(r->conn);

    if (!h->head_held || h->broken || (r->flags & REQ_UPGRADED))
        return 0;
    h->head_held = 0;
    return 1;
}

enum sl_flow
h1_interim(struct sl_req *r, int status, struct sl_fields *fields)
{
    struct sl_conn *c = r->conn;
    struct writer w = writer_begin(c);

    if (r->version == 10) /* RFC 9110, 15.2: not to HTTP/1.0 */
        return SL_FLOW_ROOM;
    put_status(&w, status, sl_span(status_reason(status)));
    put_fields(&w, fields);
    PUT(&w, "\r\n");
    if (w.is_full)
        return SL_FLOW_ROOM;
    return h1_sent(c, conn_send_one(c, writer_written(&w, c)));
}

enum sl_flow
h1_body(struct sl_req *r, struct sl_data data, int ends)
{
    struct h1 *h = h1_of(r->conn);

    if (data.n == 0 && !ends && !h->head_held)
        return conn_is_writing(r->conn) ? SL_FLOW_FULL : SL_FLOW_ROOM;
    return h1_write(r->conn, r, data, ends);
}

enum sl_flow
h1_trailers(struct sl_req *r, struct sl_fields *fields)
{
    struct sl_conn *c = r->conn;
    struct h1 *h = h1_of(c);
    struct writer w = writer_begin(c);

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
    return h1_sent(c, conn_send_one(c, writer_written(&w, c)));
}

void
h1_reset(struct sl_req *r)
{
    struct h1 *h = h1_of(r->conn);
    struct linger hard = {1, 0};

    if (h->out_framing == FRAMING_CLOSE)
        setsockopt(r->conn->io.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    h->broken = 1;
    h->persists = 0;
}

/* ---- bodies past the process ---- */

/* What has to leave before n bytes may: 1, or SL_IO_*. */
static ssize_t
h1_clear_way(struct sl_req *r, size_t n)
{
    struct sl_conn *c = r->conn;
    struct h1 *h = h1_of(c);

    if (h->broken || n > h->out_left)
        return SL_IO_ERROR;
    if (h->head_held && h1_write(c, r, (struct sl_data){NULL, 0, NULL}, 0) == SL_FLOW_GONE)
        return SL_IO_ERROR;
    if (!conn_is_writing(c))
        return 1;
    h1_due_send(c, h1_conf(c)->send_ms);
    return SL_IO_AGAIN;
}

/* k as the kernel gave it: > 0, or SL_IO_*. */
static ssize_t
h1_moved(struct sl_conn *c, ssize_t k)
{
    struct h1 *h = h1_of(c);

    if (k > 0) {
        h->out_left -= (uint64_t)k;
        return k;
    }
    if (k == 0 || errno != EAGAIN)
        return SL_IO_ERROR;
    h->waits_room = 1;
    c->io.ready &= (uint8_t)~SL_WRITABLE;
    h1_due_send(c, h1_conf(c)->send_ms);
    return SL_IO_AGAIN;
}

ssize_t
h1_splice(struct sl_req *r, int pipe, size_t n)
{
    struct sl_conn *c = r->conn;
    ssize_t k = h1_clear_way(r, n);
    unsigned more = h1_of(c)->out_left > n ? SPLICE_F_MORE : 0;

    if (k <= 0)
        return k;
    return h1_moved(c, splice(pipe, NULL, c->io.fd, NULL, n,
                              SPLICE_F_NONBLOCK | SPLICE_F_MOVE | more));
}

/* A client that takes all there is would keep the loop for itself: the next turn goes on. */
static ssize_t
h1_file_pause(struct sl_conn *c)
{
    h1_of(c)->file_turn = 0;
    h1_of(c)->waits_room = 1;
    loop_queue(c->loop, &c->io);
    return SL_IO_AGAIN;
}

ssize_t
h1_file(struct sl_req *r, int fd, int64_t offset, size_t n)
{
    struct sl_conn *c = r->conn;
    struct h1 *h = h1_of(c);
    off_t from = offset;
    ssize_t k = h1_clear_way(r, n);

    if (k <= 0)
        return k;
    if (h->file_turn >= FILE_TURN_BYTES)
        return h1_file_pause(c);
    k = sendfile(c->io.fd, fd, &from, n);
    if (k == 0 || (k < 0 && errno == EIO))
        return SL_IO_EOF;
    k = h1_moved(c, k);
    h->file_turn = k > 0 ? h->file_turn + (uint32_t)k : 0;
    return k;
}
