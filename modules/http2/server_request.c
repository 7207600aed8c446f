/* A request as it comes: the head by its fields, the body as its reader has room for it. */
#include "server.h"

#define RATE_GRACE_MS 5000

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

void
server_want(struct sl_req *r)
{
    struct stream *s = server_stream(r);

    if (s->wants || s->is_closed || s->in_given)
        return;
    stream_wants(s, body_give);
    body_give_end(s);
    body_waits(s);
}

int
server_body_came(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                 size_t n, void *user)
{
    struct http2 *h = user;
    struct stream *s = server_stream_by_id(h, id);

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
    struct sl_span path = sl_span_eq(s->path, SL_SPAN("*")) ? SL_SPAN("") : s->path;

    if (s->path.at == NULL)
        return s->authority;
    if (sl_span_eqi(s->scheme, own))
        return s->path;
    return sl_spans_join(s->pool,
                         (struct sl_span[]){s->scheme, SL_SPAN("://"), s->authority, path}, 4);
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

int
server_head_begins(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    struct stream *s = server_stream_by_id(h, frame->hd.stream_id);
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

int
server_field_came(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                  nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    struct stream *s = server_stream_by_id(user, frame->hd.stream_id);

    (void)session;
    (void)flags;
    if (s == NULL || fields_receive(s, name, value) == 0)
        return 0;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* What nghttp2 finds wrong with one field would else be left out, and the rest taken. */
int
server_bad_field_came(nghttp2_session *session, const nghttp2_frame *frame,
                      nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags, void *user)
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

/* Padding alone is no data. */
static void
guard_padding(struct http2 *h, const nghttp2_frame *frame)
{
    nghttp2_frame_hd bare = frame->hd;

    bare.length -= frame->data.padlen;
    session_guard(h, &bare);
}

int
server_frame_came(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct stream *s = server_stream_by_id(user, frame->hd.stream_id);

    (void)session;
    if (frame->hd.type == NGHTTP2_DATA && frame->data.padlen > 0)
        guard_padding(user, frame);
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
