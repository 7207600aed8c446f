/* HTTP/2 towards clients: a stream is a request.
 *
 *   head comes -> started -> answered -> closed        nghttp2 closes a stream when both sides
 *       |            |          |                      have ended it or one has reset it; only
 *       '------------'----------'---- reset ---> '     then the request is let go
 *
 * A response's head is held until the turn is over, so that it leaves together with the first of
 * its body, and can be taken back before that.
 *
 * The connection ends by GOAWAY.  After an error of the client's what it still sends is read and
 * thrown away for a moment, or a reset would overtake the GOAWAY. */
#include "http2.h"

#include <apr_base64.h>
#include <apr_sha1.h>

#include <sys/socket.h>

#define LINGER_MS 1000
#define RATE_GRACE_MS 5000

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static nghttp2_session_callbacks *callbacks;

static struct stream *
stream_of(struct sl_req *r)
{
    return *sl_req_protocol_data(r);
}

static struct stream *
stream_by_id(struct http2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->session, id);
}

/* ---- times ---- */

/* The connection has one timer: set for what is due first, and looked at by server_late(). */
static void
server_due(struct http2 *h, int64_t due)
{
    if (due == 0 || (h->due != 0 && h->due <= due))
        return;
    h->due = due;
    sl_conn_timeout(h->conn, due > http2_now(h) ? due - http2_now(h) : 0);
}

static int64_t
server_in(struct http2 *h, int64_t ms)
{
    int64_t due = ms < 0 ? 0 : http2_now(h) + ms;

    server_due(h, due);
    return due;
}

/* ---- the response ---- */

static size_t
response_list(struct stream *s, nghttp2_nv *nva, char status[NUMBER_ROOM], char length[NUMBER_ROOM])
{
    struct sl_req *r = s->r;
    const struct sl_fields *f = sl_req_response(r);
    struct sl_span server = sl_req_server_name(r);
    int is_tunnel = sl_req_status(r) == 101;
    int says_length = !s->head_ends && !is_tunnel && sl_req_length(r) >= 0;
    size_t n;

    n = fields_put(nva, 0, ":status", fields_number(status, is_tunnel ? 200 : sl_req_status(r)));
    n = fields_list(nva, n, f, s->head_ends ? FIELDS_KEEP_LENGTH | FIELDS_KEEP_HOST
                                            : FIELDS_KEEP_HOST);
    if (n + 3 > NV_MAX)
        return 0;
    if (says_length)
        n = fields_put(nva, n, "content-length", fields_number(length, sl_req_length(r)));
    if (!sl_fields_has_id(f, SL_F_DATE))
        n = fields_put(nva, n, "date", sl_loop_http_date(sl_conn_loop(s->h->conn)));
    if (server.at != NULL && !sl_fields_has_id(f, SL_F_SERVER))
        n = fields_put(nva, n, "server", server);
    return n;
}

static void
response_submit(struct stream *s)
{
    nghttp2_nv *nva = fields_room(s->h->conn);
    nghttp2_data_provider source = stream_source(s);
    char status[NUMBER_ROOM], length[NUMBER_ROOM];
    size_t n = response_list(s, nva, status, length);

    s->head_held = 0;
    if (n == 0 || nghttp2_submit_response(s->h->session, s->id, nva, n,
                                          s->head_ends ? NULL : &source) != 0) {
        sl_req_log(s->r, SL_ERROR, "HTTP20004", "the response head does not fit");
        stream_cut(s, NGHTTP2_INTERNAL_ERROR);
    }
}

void
http2_server_say(struct stream *s)
{
    nghttp2_session *session = s->h->session;

    if (s->is_cut == 1) {
        s->is_cut = 2;
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, s->cut_code);
        return;
    }
    if (s->head_held)
        response_submit(s);
    else if (s->is_deferred && (s->n_out > 0 || s->out_ended)) {
        s->is_deferred = 0;
        nghttp2_session_resume_data(session, s->id);
    }
    if (s->is_full && s->n_out < STREAM_LOW) {
        s->is_full = 0;
        sl_req_writable(s->r);
    }
}

/* RFC 6455, 4.1: the server has understood.  The client cannot see to it. */
static int
websocket_is_accepted(struct stream *s)
{
    struct sl_span said = sl_fields_get(sl_req_response(s->r), "Sec-WebSocket-Accept");
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    char text[2 * APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha;

    if (s->websocket_key == NULL)
        return 1;
    apr_sha1_init(&sha);
    apr_sha1_update(&sha, s->websocket_key, 24);
    apr_sha1_update(&sha, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    apr_sha1_final(digest, &sha);
    apr_base64_encode_binary(text, digest, sizeof digest);
    return sl_span_eq(said, sl_span(text));
}

/* RFC 8441, 5: only a switch of protocols is a success; any other would be taken for one. */
static int
is_false_success(struct stream *s)
{
    int status = sl_req_status(s->r);

    return s->is_tunnel && (status / 100 == 2 || (status == 101 && !websocket_is_accepted(s)));
}

static enum sl_flow
server_head(struct sl_req *r, int ends)
{
    struct stream *s = stream_of(r);

    if (s->is_closed || s->is_cut)
        return SL_FLOW_GONE;
    if (is_false_success(s)) {
        stream_cut(s, NGHTTP2_CONNECT_ERROR);
        return SL_FLOW_GONE;
    }
    if (sl_req_status(r) == 101)
        sl_fields_unset(sl_req_response(r), "Sec-WebSocket-Accept"); /* RFC 8441, 5 */
    s->head_held = 1;
    s->head_ends = ends != 0;
    s->out_ended = s->head_ends;
    stream_touch(s);
    return SL_FLOW_ROOM;
}

static int
server_take_back(struct sl_req *r)
{
    struct stream *s = stream_of(r);

    if (!s->head_held || s->is_closed || s->is_cut)
        return 0;
    s->head_held = s->out_ended = s->is_full = 0;
    s->n_trailers_out = 0;
    stream_forget(s);
    return 1;
}

static enum sl_flow
server_interim(struct sl_req *r, int status, struct sl_fields *fields)
{
    struct stream *s = stream_of(r);
    nghttp2_nv *nva = fields_room(sl_req_conn(r));
    char text[NUMBER_ROOM];
    size_t n;

    if (s->is_closed || s->is_cut)
        return SL_FLOW_GONE;
    n = fields_put(nva, 0, ":status", fields_number(text, status));
    n = fields_list(nva, n, fields, 0);
    nghttp2_submit_headers(s->h->session, NGHTTP2_FLAG_NONE, s->id, NULL, nva, n, NULL);
    sl_conn_again(s->h->conn);
    return SL_FLOW_ROOM;
}

static enum sl_flow
server_body(struct sl_req *r, struct sl_data data, int ends)
{
    struct stream *s = stream_of(r);

    if (data.n > 0 && s->send_due == 0 && !s->is_closed)
        s->send_due = server_in(s->h, s->h->terms.send_ms);
    return stream_queue(s, data, ends);
}

static enum sl_flow
server_trailers(struct sl_req *r, struct sl_fields *fields)
{
    struct stream *s = stream_of(r);

    fields_keep_trailers(s, fields);
    return stream_queue(s, (struct sl_data){NULL, 0, NULL}, 1);
}

static void
server_reset(struct sl_req *r)
{
    stream_cut(stream_of(r), NGHTTP2_INTERNAL_ERROR);
}

static void
server_ended(struct sl_req *r)
{
    struct stream *s = stream_of(r);

    s->is_ended = 1;
    if (s->is_closed)
        sl_req_finish(&r);
}

/* ---- the request's body ---- */

static enum sl_flow
body_give(struct stream *s, struct sl_data data)
{
    int ends = s->in_ended && s->trailers_in == NULL;

    if (ends)
        s->in_given = 1;
    return sl_req_body(s->r, data, ends);
}

static void
body_give_end(struct stream *s)
{
    if (!s->in_ended || s->in_given || !s->wants || s->n_in > 0 || s->is_giving)
        return;
    s->in_given = 1;
    s->body_due = 0;
    if (s->trailers_in != NULL)
        sl_req_trailers(s->r, s->trailers_in);
    else
        sl_req_body(s->r, (struct sl_data){NULL, 0, NULL}, 1);
}

static void
body_waits(struct stream *s)
{
    if (s->in_ended || s->in_given || !s->wants || s->is_tunnel)
        return;
    if (s->waits_since == 0)
        s->waits_since = http2_now(s->h);
    s->body_due = server_in(s->h, s->h->terms.body_ms);
}

/* Only the time in which bytes were waited for counts: not while the reader had no room. */
static int
body_is_slow(struct stream *s)
{
    int64_t rate = s->h->terms.min_rate;

    if (s->waits_since != 0)
        s->waited_ms += http2_now(s->h) - s->waits_since;
    s->waits_since = 0;
    s->body_due = 0;
    return rate > 0 && !s->is_tunnel && s->waited_ms > RATE_GRACE_MS &&
           s->seen * 1000 / s->waited_ms < rate / 1000;
}

static void
server_want(struct sl_req *r)
{
    struct stream *s = stream_of(r);

    if (s->wants || s->is_closed || s->in_given)
        return;
    stream_wants(s, body_give);
    body_give_end(s);
    body_waits(s);
}

static int
body_came(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
          void *user)
{
    struct http2 *h = user;
    struct stream *s = stream_by_id(h, id);

    (void)session;
    h->frame_left -= n;
    if (s == NULL || s->is_closed) {
        nghttp2_session_consume_connection(h->session, n);
        return 0;
    }
    s->seen += (int64_t)n;
    if (body_is_slow(s)) {
        stream_ignore(s);
        sl_req_abort(s->r, &sl_cause_body_timeout);
    }
    if ((flags & (NGHTTP2_FLAG_END_STREAM | NGHTTP2_FLAG_PADDED)) == NGHTTP2_FLAG_END_STREAM &&
        h->frame_left == 0 && (s->length < 0 || s->length == s->seen))
        s->in_ended = 1;
    stream_receive(s, (const char *)data, n, body_give);
    body_waits(s);
    return 0;
}

/* ---- the request's head ---- */

/* RFC 9113, 8.3.1: the same host, where both are there.  Host is what the core goes by. */
static const struct sl_cause *
request_host(struct stream *s)
{
    struct sl_span host = sl_fields_get_id(s->fields, SL_F_HOST);

    if (s->authority.at == NULL)
        return NULL;
    if (host.at != NULL)
        return sl_span_eqi(host, s->authority) ? NULL : &sl_cause_bad_host;
    return sl_fields_receive(s->fields, SL_SPAN("Host"), s->authority) == 0 ? NULL
                                                                            : &sl_cause_bad_host;
}

/* A scheme that is not the connection's own is said to the core, which knows whom to believe. */
static struct sl_span
request_target(struct stream *s, struct sl_req *r)
{
    struct sl_span own = sl_req_is_tls(r) ? SL_SPAN("https") : SL_SPAN("http");

    if (s->path.at == NULL)
        return s->authority;
    if (sl_span_eqi(s->scheme, own))
        return s->path;
    return sl_spans_join(s->pool,
                         (struct sl_span[]){s->scheme, SL_SPAN("://"), s->authority,
                                            sl_span_eq(s->path, SL_SPAN("*")) ? SL_SPAN("") : s->path},
                         4);
}

/* RFC 6455, 4.1: the nonce that HTTP/2 has no need of, and a server of HTTP/1.1 has. */
static void
request_websocket_key(struct stream *s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char random[22];
    char *key = apr_palloc(s->pool, 25);
    unsigned i;

    sl_random_bytes(random, sizeof random);
    for (i = 0; i < 21; i++)
        key[i] = digits[random[i] & 63];
    key[21] = digits[random[21] & 48]; /* 16 bytes are 21 digits and two bits */
    memcpy(key + 22, "==", 3);
    s->websocket_key = key;
    sl_fields_set(s->fields, "Sec-WebSocket-Key", (struct sl_span){key, 24});
}

/* RFC 8441, 4: CONNECT with :protocol is what HTTP/1.1 asks by GET and Upgrade. */
static void
request_tunnel(struct stream *s)
{
    s->is_tunnel = 1;
    s->method = SL_SPAN("GET");
    if (sl_span_eq(s->protocol, SL_SPAN("websocket")))
        request_websocket_key(s);
    sl_req_ask_upgrade(s->r, s->protocol);
}

static int
is_expected(struct stream *s) /* RFC 9110, 10.1.1 */
{
    struct sl_span expect = sl_fields_get_id(s->fields, SL_F_EXPECT);

    return expect.at == NULL || sl_span_eqi(expect, SL_SPAN("100-continue"));
}

static const struct sl_cause *
request_take(struct stream *s)
{
    const struct sl_cause *why = s->is_too_large   ? &sl_cause_head_too_large
                                 : s->has_too_many ? &sl_cause_too_many_fields
                                                   : request_host(s);

    if (s->protocol.at != NULL)
        request_tunnel(s);
    if (why == NULL && fields_join_cookies(s) != 0)
        why = &sl_cause_bad_request;
    if (why == NULL && !is_expected(s))
        why = &sl_cause_expectation;
    sl_req_set_line(s->r, s->method, request_target(s, s->r), 20);
    sl_req_set_head_size(s->r, s->head_size);
    return why;
}

/* So many requests are enough for one connection. */
static void
server_count(struct http2 *h)
{
    h->n_requests++;
    if (h->terms.keepalive_requests >= 0 && h->n_requests >= h->terms.keepalive_requests &&
        h->drains == 0) {
        h->drains = 2;
        nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(h->session),
                              NGHTTP2_NO_ERROR, NULL, 0);
    }
}

static void
request_start(struct stream *s, int ends)
{
    const struct sl_cause *why = request_take(s);
    int64_t body = ends || s->is_tunnel ? 0 : s->length;

    s->is_started = 1;
    s->head_due = 0;
    s->in_ended = ends != 0;
    if (ends || why != NULL || (body == 0 && !s->is_tunnel))
        stream_ignore(s);
    server_count(s->h);
    if (why != NULL)
        sl_req_start_refused(s->r, why);
    else
        sl_req_start(s->r, body);
}

static int
head_begins(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    struct stream *s = stream_by_id(h, frame->hd.stream_id);
    struct sl_req *r;

    if (s != NULL) { /* trailers */
        s->fields = sl_fields_make(s->pool);
        return 0;
    }
    r = sl_req_new(h->conn, &http2_server);
    s = apr_pcalloc(sl_req_pool(r), sizeof *s);
    s->r = r;
    s->pool = sl_req_pool(r);
    s->id = frame->hd.stream_id;
    s->fields = sl_req_head(r);
    *sl_req_protocol_data(r) = s;
    stream_link(h, s);
    h->idle_due = 0;
    s->head_due = server_in(h, h->terms.header_ms);
    nghttp2_session_set_stream_user_data(session, s->id, s);
    return 0;
}

static int
field_came(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
           nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    struct stream *s = stream_by_id(user, frame->hd.stream_id);

    (void)session;
    (void)flags;
    if (s == NULL || fields_receive(s, name, value) == 0)
        return 0;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* What nghttp2 finds wrong with one field would else be left out, and the rest taken. */
static int
bad_field_came(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
               nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    (void)session;
    (void)frame;
    (void)name;
    (void)value;
    (void)flags;
    (void)user;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void
headers_came(struct stream *s, const nghttp2_frame *frame)
{
    int ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    if (!s->is_started) {
        request_start(s, ends);
        return;
    }
    s->in_ended = s->in_ended || ends;
    if (s->is_too_large || s->has_too_many) {
        stream_cut(s, NGHTTP2_ENHANCE_YOUR_CALM);
        return;
    }
    s->trailers_in = s->fields;
    body_give_end(s);
}

static int
frame_came(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct stream *s = stream_by_id(user, frame->hd.stream_id);

    (void)session;
    if (s == NULL || s->is_closed)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        headers_came(s, frame);
    else if (frame->hd.type == NGHTTP2_DATA && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        s->in_ended = 1;
        body_give_end(s);
    }
    return 0;
}

/* ---- streams and the connection end ---- */

static void
request_let_go(struct stream *s, const struct sl_cause *unstarted)
{
    struct sl_req *r = s->r;

    stream_unlink(s);
    s->is_closed = 1;
    if (!s->is_started) {
        s->is_started = 1;
        sl_req_start_refused(r, unstarted);
    } else if (s->is_ended)
        sl_req_finish(&r);
    else
        sl_req_gone(r);
}

/* Whoever caused it, a client can only once in a while have a request undone. */
static void
server_guard(struct http2 *h, struct stream *s, uint32_t code)
{
    if (code == NGHTTP2_NO_ERROR || s->is_cut || h->is_failing)
        return;
    sl_count(sl_conn_loop(h->conn), count_resets, 1);
    if (guard_reset(h))
        return;
    sl_count(sl_conn_loop(h->conn), count_abuse, 1);
    session_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "more streams reset than HTTP2Resets");
}

static int
stream_ends(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct http2 *h = user;
    struct stream *s = stream_by_id(h, id);

    if (s == NULL)
        return 0;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    server_guard(h, s, code);
    request_let_go(s, &sl_cause_bad_request);
    if (h->n_streams == 0)
        h->idle_due = server_in(h, h->terms.keepalive_ms);
    return 0;
}

static void
server_says_goodbye(struct http2 *h, const nghttp2_goaway *frame)
{
    if (frame->error_code == NGHTTP2_NO_ERROR || h->is_failing)
        return;
    h->is_failing = 1;
    h->why = nghttp2_http2_strerror(frame->error_code);
}

/* RFC 9113, 8.1: nobody waits for the rest of a request that is answered. */
static int
frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    struct stream *s;

    if (frame->hd.type == NGHTTP2_GOAWAY)
        server_says_goodbye(h, &frame->goaway);
    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    s = stream_by_id(h, frame->hd.stream_id);
    if (s != NULL && !s->in_ended)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
    return 0;
}

static int
frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    struct stream *s = stream_by_id(user, frame->hd.stream_id);

    (void)session;
    if (s == NULL || s->is_cut || frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    sl_req_log(s->r, SL_ERROR, "HTTP20005", "the response head cannot be sent: %s",
               nghttp2_strerror(error));
    stream_cut(s, NGHTTP2_INTERNAL_ERROR);
    return 0;
}

static void
server_let_all_go(struct http2 *h)
{
    while (h->streams != NULL) {
        struct stream *s = h->streams;

        nghttp2_session_set_stream_user_data(h->session, s->id, NULL);
        request_let_go(s, &sl_cause_client_gone);
    }
}

static void
server_shutdown(struct sl_conn *c)
{
    const struct sl_transport *t = sl_conn_transport(c);

    if (t != NULL)
        t->shutdown(c);
    else
        shutdown(sl_conn_fd(c), SHUT_WR);
}

static void
server_log_failure(const struct http2 *h)
{
    struct sl_span peer = sl_conn_peer_text(h->conn);

    sl_count(sl_conn_loop(h->conn), count_errors, 1);
    sl_log(SL_INFO, "HTTP20001", "client %.*s: %s; its connection is closed", (int)peer.n, peer.at,
           h->why);
}

static void
server_end(struct http2 *h)
{
    struct sl_conn *c = h->conn;

    if (h->lingers)
        return;
    if (h->is_failing)
        server_log_failure(h);
    if (!h->is_broken)
        server_shutdown(c);
    if (!h->is_failing || h->is_broken) {
        sl_conn_close(&c);
        return;
    }
    h->lingers = 1;
    server_let_all_go(h);
    h->due = 0;
    server_in(h, LINGER_MS);
}

/* All that this turn has brought is known: it leaves. */
static void
server_settle(struct http2 *h)
{
    session_flush(h);
    if (session_is_blocked(h) && h->send_due == 0)
        h->send_due = server_in(h, h->terms.send_ms);
    if (session_is_over(h))
        server_end(h);
}

/* ---- events ---- */

/* By the client: it opens no window, or reads nothing at all.  Others may just be more urgent. */
static int
stream_is_kept_waiting(struct http2 *h, const struct stream *s)
{
    return nghttp2_session_get_stream_remote_window_size(h->session, s->id) <= 0 ||
           http2_now(h) - h->data_at >= h->terms.send_ms;
}

static void
stream_late(struct http2 *h, struct stream *s, int64_t now)
{
    if (s->head_due != 0 && now >= s->head_due)
        session_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, sl_cause_head_timeout.text);
    if (s->body_due != 0 && now >= s->body_due) {
        s->body_due = 0;
        stream_ignore(s);
        sl_req_abort(s->r, &sl_cause_body_timeout);
    }
    if (s->send_due != 0 && now >= s->send_due && !stream_is_kept_waiting(h, s))
        s->send_due = now + h->terms.send_ms;
    if (s->send_due != 0 && now >= s->send_due) {
        s->send_due = 0;
        sl_req_log(s->r, SL_INFO, sl_cause_send_timeout.id, "%s", sl_cause_send_timeout.text);
        stream_cut(s, NGHTTP2_CANCEL);
    }
    server_due(h, s->head_due);
    server_due(h, s->body_due);
    server_due(h, s->send_due);
}

/* 0: it is closed. */
static int
server_late(struct http2 *h)
{
    int64_t now = http2_now(h);
    struct sl_conn *c = h->conn;
    struct stream *s;

    h->due = 0;
    if (h->lingers || (h->send_due != 0 && now >= h->send_due)) {
        if (!h->lingers)
            sl_log(SL_INFO, "HTTP20006", "client %.*s: %s", (int)sl_conn_peer_text(c).n,
                   sl_conn_peer_text(c).at, sl_cause_send_timeout.text);
        sl_conn_close(&c);
        return 0;
    }
    if (h->idle_due != 0 && now >= h->idle_due) {
        h->idle_due = 0;
        nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
    }
    for (s = h->streams; s != NULL; s = s->next)
        stream_late(h, s, now);
    server_due(h, h->idle_due);
    server_due(h, h->send_due);
    return 1;
}

static void
server_ready(struct sl_conn *c, unsigned what)
{
    struct http2 *h = http2_of(c);

    if ((what & SL_TIMEOUT) && !server_late(h))
        return;
    if (!session_read(h)) {
        if (h->is_failing && !h->lingers)
            server_log_failure(h);
        sl_conn_close(&c);
        return;
    }
    server_settle(h);
}

static int
server_greet(struct http2 *h)
{
    const struct http2_conf *conf = h->conf;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)conf->streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)conf->stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)conf->header_list},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, (uint32_t)conf->frame},
    };

    return nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
                                   sizeof settings / sizeof settings[0]) == 0 &&
           nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)conf->connection_window) == 0;
}

static void
server_open(struct sl_conn *c, struct sl_data first)
{
    struct http2 *h = session_make(c, callbacks, 1);

    SL_ASSERT(h != NULL);
    h->conf = sl_scope_conf(sl_conn_scope(c), &sl_module_record);
    sl_scope_terms(sl_conn_scope(c), &h->terms);
    sl_conn_limits(c, &h->terms);
    sl_count(sl_conn_loop(c), count_connections, 1);
    SL_ASSERT(server_greet(h));
    h->idle_due = server_in(h, h->terms.header_ms);
    if (first.n > 0)
        session_take(h, first.at, first.n);
    sl_conn_again(c);
}

static void
server_drain(struct sl_conn *c)
{
    struct http2 *h = http2_of(c);

    if (h->drains == 0) {
        h->drains = 1;
        nghttp2_submit_shutdown_notice(h->session);
    } else if (h->drains == 1) {
        h->drains = 2;
        nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(h->session),
                              NGHTTP2_NO_ERROR, NULL, 0);
    }
    sl_conn_again(c);
}

static void
server_closed(struct sl_conn *c)
{
    struct http2 *h = http2_of(c);

    server_let_all_go(h);
    *sl_conn_protocol_data(c) = NULL;
    session_free(h);
}

static int
server_sniff(const char *bytes, size_t n)
{
    size_t all = sizeof preface - 1;

    if (memcmp(bytes, preface, n < all ? n : all) != 0)
        return 0;
    return n >= all ? 1 : -1;
}

int
http2_server_init(void)
{
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return -1;
    session_callbacks(callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, head_begins);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, field_came);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, bad_field_came);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame_came);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, body_came);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, stream_ends);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, frame_not_sent);
    return 0;
}

const struct sl_protocol http2_server = {
    .name = "h2",
    .sniff = server_sniff,
    .open = server_open,
    .ready = server_ready,
    .drain = server_drain,
    .closed = server_closed,
    .head = server_head,
    .interim = server_interim,
    .body = server_body,
    .trailers = server_trailers,
    .reset = server_reset,
    .want = server_want,
    .ended = server_ended,
    .take_back = server_take_back,
};
