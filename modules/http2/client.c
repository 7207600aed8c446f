/* HTTP/2 towards servers: a stream is an attempt, and a connection carries many.
 *
 *   start -> head(s) -> body -> end          the response; 1xx before the head, trailers behind
 *                                            the body
 *
 * An attempt may be over before its stream (cancelled, or the response needs no more of the
 * request), and a stream before its attempt (the response is all here, its reader has no room):
 * the one that is left is let go when it ends.
 *
 * A server that allows no streams at all has no room for what waits here, nor is the connection of
 * use once it carries none: the former goes on elsewhere, the latter is closed.
 *
 * An attempt that asks for a tunnel has a stream that nghttp2 does not know until the server has
 * said whether it offers them.
 *
 * Any call into the attempt may end it, which cancel() hears of: after each, s->a tells. */
#include "http2.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <stdlib.h>

static nghttp2_session_callbacks *callbacks;

static const struct sl_cause cause_no_tunnel = {
    "HTTP20011", "no_tunnel", 502, "the server offers no WebSockets over HTTP/2 (RFC 8441)"};

static struct stream *
stream_of(struct sl_attempt *a)
{
    return *sl_attempt_protocol_data(a);
}

static struct stream *
stream_by_id(struct http2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->session, id);
}

static void
stream_free(struct stream *s)
{
    stream_unlink(s);
    free(s);
}

/* ---- the end of either ---- */

/* The attempt has no more to do with the stream. */
static struct sl_attempt *
attempt_part(struct stream *s)
{
    struct sl_attempt *a = s->a;

    *sl_attempt_protocol_data(a) = NULL;
    s->a = NULL;
    s->pool = NULL;
    if (s->h->allows_none) /* this may have been the last */
        sl_conn_again(s->h->conn);
    return a;
}

static void
attempt_fails(struct stream *s, const struct sl_cause *cause)
{
    sl_attempt_fail(attempt_part(s), cause);
}

/* Nobody looks at it any more. */
static void
stream_abandon(struct stream *s, uint32_t code)
{
    if (s->is_closed) {
        if (!s->is_giving)
            stream_free(s);
        return;
    }
    stream_ignore(s);
    stream_cut(s, code);
}

/* RFC 9113, 8.1: a response that is whole may leave the rest of the request unsent. */
static void
response_ends(struct stream *s)
{
    struct sl_attempt *a = attempt_part(s);
    int is_sent = s->out_ended && s->n_out == 0;

    s->in_given = 1;
    if (s->is_closed || !is_sent)
        stream_abandon(s, NGHTTP2_NO_ERROR);
    sl_attempt_end(a, 1);
}

/* ---- the response ---- */

static enum sl_flow
response_give(struct stream *s, struct sl_data data)
{
    if (s->a == NULL)
        return SL_FLOW_GONE;
    return sl_attempt_body(s->a, data);
}

/* Behind the last of the body: trailers, and the end. */
static void
response_give_end(struct stream *s)
{
    if (s->a == NULL || !s->in_ended || s->in_given || !s->wants || s->n_in > 0 || s->is_giving)
        return;
    if (s->trailers_in != NULL)
        sl_attempt_trailers(s->a, s->trailers_in);
    if (s->a != NULL)
        response_ends(s);
}

static void
client_want(struct sl_attempt *a)
{
    struct stream *s = stream_of(a);

    if (s == NULL || s->wants)
        return;
    stream_wants(s, response_give);
    if (s->a == NULL && s->is_closed)
        stream_free(s);
    else
        response_give_end(s);
}

static int
body_came(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
          void *user)
{
    struct http2 *h = user;
    struct stream *s = stream_by_id(h, id);

    (void)session;
    (void)flags;
    if (s == NULL)
        nghttp2_session_consume_connection(h->session, n);
    else
        stream_receive(s, (const char *)data, n, response_give);
    return 0;
}

static int
head_begins(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct stream *s = stream_by_id(user, frame->hd.stream_id);

    (void)session;
    if (s != NULL) {
        s->fields = NULL;
        s->head_size = s->n_fields = 0;
    }
    return 0;
}

/* Where they go is known with the first, which is :status, or with its absence. */
static struct sl_fields *
response_fields(struct stream *s, int is_status)
{
    if (!is_status && !s->is_started && s->status >= 200)
        return sl_attempt_response(s->a);
    return sl_fields_make(s->pool);
}

static int
field_came(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
           nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    struct stream *s = stream_by_id(user, frame->hd.stream_id);
    int is_status = nghttp2_rcbuf_get_buf(name).base[0] == ':';

    (void)session;
    (void)flags;
    if (s == NULL || s->a == NULL)
        return 0;
    if (!is_status && s->fields == NULL)
        s->fields = response_fields(s, is_status);
    return fields_receive(s, name, value) == 0 ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

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
response_starts(struct stream *s, int ends)
{
    int opens_tunnel = s->is_tunnel && s->status / 100 == 2;
    enum sl_flow flow;

    s->is_started = 1;
    if (opens_tunnel)
        tunnel_opened(s->a);
    flow = opens_tunnel ? sl_attempt_head_done(s->a, 101, -1)
                        : sl_attempt_head_done(s->a, s->status, ends ? 0 : s->length);
    if (s->a == NULL)
        return;
    s->wants = flow == SL_FLOW_ROOM;
    if (ends) /* there is no body to wait with for room */
        s->wants = 1;
}

static void
headers_came(struct stream *s, int ends)
{
    struct sl_fields *fields = s->fields != NULL ? s->fields : sl_fields_make(s->pool);

    if (s->is_too_large || s->has_too_many) {
        stream_cut(s, NGHTTP2_CANCEL);
        attempt_fails(s, &sl_cause_response_too_large);
        return;
    }
    if (s->status < 100) { /* nghttp2 saw three digits, RFC 9110, 15 wants the first to be one */
        stream_cut(s, NGHTTP2_PROTOCOL_ERROR);
        attempt_fails(s, &sl_cause_bad_response);
    } else if (!s->is_started && s->status < 200)
        sl_attempt_interim(s->a, s->status, fields);
    else if (!s->is_started)
        response_starts(s, ends);
    else
        s->trailers_in = fields;
}

/* A stream with an attempt that nghttp2 has not opened; NULL: none. */
static struct stream *
stream_unsent(const struct http2 *h)
{
    struct stream *s = h->streams;

    while (s != NULL && (s->a == NULL ||
                         (s->id != 0 && (s->is_closed ||
                                         nghttp2_session_find_stream(h->session, s->id) != NULL))))
        s = s->next;
    return s;
}

static void
unsent_go_on(struct http2 *h)
{
    struct stream *s;

    while ((s = stream_unsent(h)) != NULL) {
        sl_attempt_unsent(s->a);
        attempt_fails(s, &sl_cause_no_response);
        stream_abandon(s, NGHTTP2_CANCEL);
    }
}

static int
has_attempts(const struct http2 *h)
{
    const struct stream *s = h->streams;

    while (s != NULL && s->a == NULL)
        s = s->next;
    return s != NULL;
}

static void
settings_came(struct http2 *h)
{
    int is_first = !h->knows_settings;
    struct stream *s;

    h->knows_settings = 1;
    h->allows_none = nghttp2_session_get_remote_settings(
                         h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) == 0;
    if (h->allows_none)
        unsent_go_on(h);
    /* Those who waited to know whether they may ask for a tunnel. */
    for (s = h->streams; is_first && s != NULL; s = s->next)
        if (s->id == 0)
            stream_touch(s);
}

static void
log_end(const struct http2 *h, const char *what, const char *why)
{
    const struct sl_server *server = sl_conn_server(h->conn);

    sl_log(SL_WARN, "HTTP20012", "pool %s server %s: %s: %s", server->pool->name, server->name, what, why);
}

static void
goaway_came(struct http2 *h, const nghttp2_goaway *frame)
{
    sl_count(sl_conn_loop(h->conn), count_goaways, 1);
    if (frame->error_code != NGHTTP2_NO_ERROR)
        log_end(h, "it ended the connection by GOAWAY", nghttp2_http2_strerror(frame->error_code));
}

static int
frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        session_says_goodbye(user, &frame->goaway);
    return 0;
}

static int
frame_came(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    struct stream *s = stream_by_id(h, frame->hd.stream_id);
    int ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        goaway_came(h, &frame->goaway);
    if (frame->hd.type == NGHTTP2_SETTINGS && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0)
        settings_came(h);
    if (s == NULL || s->a == NULL ||
        (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        headers_came(s, ends);
    if (s->a != NULL && ends) {
        s->in_ended = 1;
        response_give_end(s);
    }
    return 0;
}

/* A stream that ended without its response. */
static void
response_cut(struct stream *s, uint32_t code)
{
    if (code == NGHTTP2_REFUSED_STREAM)
        sl_attempt_unsent(s->a);
    attempt_fails(s, s->is_started            ? &sl_cause_truncated
                     : code == NGHTTP2_PROTOCOL_ERROR ? &sl_cause_bad_response
                                              : &sl_cause_no_response);
}

static int
stream_ends(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct stream *s = stream_by_id(user, id);

    if (s == NULL)
        return 0;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    s->is_closed = 1;
    stream_forget(s);
    if (s->a != NULL && s->in_ended) /* what is left of it waits for its reader */
        return 0;
    if (s->a != NULL)
        response_cut(s, code);
    stream_free(s);
    return 0;
}

/* ---- the request ---- */

static size_t
request_list(struct sl_attempt *a, nghttp2_nv *nva, char length[NUMBER_ROOM])
{
    const struct sl_fields *f = sl_attempt_head(a);
    const struct sl_transport *t = sl_attempt_server(a)->pool->transport;
    int64_t body = sl_attempt_body_length(a);
    struct sl_req *r = sl_attempt_req(a);
    struct sl_span tunnel = tunnel_asked(a);
    size_t n = 0;

    n = fields_put(nva, n, ":method", tunnel.n > 0 ? SL_SPAN("CONNECT") : sl_attempt_method(a));
    if (tunnel.n > 0)
        n = fields_put(nva, n, ":protocol", tunnel);
    n = fields_put(nva, n, ":scheme",
                   t != NULL && t->is_secure ? SL_SPAN("https") : SL_SPAN("http"));
    n = fields_put(nva, n, ":authority", sl_fields_get_id(f, SL_F_HOST));
    n = fields_put(nva, n, ":path", sl_attempt_path(a));
    n = fields_list(nva, n, f, FIELDS_KEEP_LENGTH);
    if (n + 2 > NV_MAX)
        return 0;
    if (tunnel.n > 0)
        n = tunnel_drop_key(nva, n);
    if (body > 0 && !sl_fields_has_id(f, SL_F_CONTENT_LENGTH))
        n = fields_put(nva, n, "content-length", fields_number(length, body));
    if (sl_fields_lists(sl_req_head(r), SL_F_TE, "trailers"))
        n = fields_put(nva, n, "te", SL_SPAN("trailers"));
    return n;
}

/* 0: it was not taken. */
static int
client_submit(struct stream *s)
{
    nghttp2_nv *nva = fields_room(s->h->conn);
    nghttp2_data_provider source = stream_source(s);
    char length[NUMBER_ROOM];
    size_t n = request_list(s->a, nva, length);

    if (n > 0)
        s->id = nghttp2_submit_request(s->h->session, NULL, nva, n,
                                       s->out_ended ? NULL : &source, s);
    s->is_closed = s->id <= 0;
    return !s->is_closed;
}

static struct sl_span
client_explain(struct sl_attempt *a, apr_pool_t *pool)
{
    nghttp2_nv *nva = apr_palloc(pool, NV_MAX * sizeof *nva), *nv;
    struct sl_span method = sl_attempt_method(a), path = sl_attempt_path(a);
    char length[NUMBER_ROOM];
    size_t n = request_list(a, nva, length);
    char *text = apr_psprintf(pool, "%.*s %.*s HTTP/2\r\n", (int)method.n, method.at, (int)path.n,
                              path.at);

    for (nv = nva; nv < nva + n; nv++) {
        char *name = apr_pstrmemdup(pool, (const char *)nv->name, nv->namelen), *at;

        for (at = name; *at != '\0'; at++) /* as nghttp2 does */
            *at = (char)apr_tolower(*at);
        text = apr_psprintf(pool, "%s%s: %.*s\r\n", text, name, (int)nv->valuelen,
                            (const char *)nv->value);
    }
    return n > 0 ? sl_span(text) : SL_SPAN("");
}

/* RFC 8441, 3: only a server that said so may be asked. */
static void
tunnel_begins(struct stream *s)
{
    nghttp2_session *session = s->h->session;
    const struct sl_cause *why = &sl_cause_send_failed;

    if (!s->h->knows_settings)
        return;
    if (nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) != 1)
        why = &cause_no_tunnel;
    else if (client_submit(s))
        return;
    attempt_fails(s, why);
    stream_free(s);
}

void
http2_client_say(struct stream *s)
{
    nghttp2_session *session = s->h->session;

    if (s->id == 0) {
        tunnel_begins(s);
        return;
    }
    if (s->is_cut == 1) {
        s->is_cut = 2;
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, s->cut_code);
        return;
    }
    if (s->is_deferred && (s->n_out > 0 || s->out_ended)) {
        s->is_deferred = 0;
        nghttp2_session_resume_data(session, s->id);
    }
    if (s->is_full && s->n_out < STREAM_LOW) {
        s->is_full = 0;
        if (s->a != NULL)
            sl_attempt_writable(s->a);
    }
}

static struct stream *
client_stream(struct sl_attempt *a, struct sl_conn *c)
{
    struct stream *s = calloc(1, sizeof *s);

    SL_ASSERT(s != NULL);
    s->a = a;
    s->pool = sl_req_pool(sl_attempt_req(a));
    *sl_attempt_protocol_data(a) = s;
    stream_link(http2_of(c), s);
    return s;
}

static enum sl_flow
client_start(struct sl_attempt *a, struct sl_conn *c)
{
    struct http2 *h = http2_of(c);
    struct stream *s;

    *sl_attempt_protocol_data(a) = NULL;
    if (h->is_broken)
        return SL_FLOW_GONE;
    s = client_stream(a, c);
    s->is_tunnel = tunnel_asked(a).n > 0;
    s->out_ended = !s->is_tunnel && sl_attempt_body_length(a) == 0;
    if (s->is_tunnel) {
        s->is_closed = 1;
        stream_touch(s);
        return SL_FLOW_ROOM;
    }
    sl_conn_again(c);
    if (client_submit(s))
        return SL_FLOW_ROOM;
    attempt_part(s);
    stream_free(s);
    return SL_FLOW_GONE;
}

static enum sl_flow
client_body(struct sl_attempt *a, struct sl_data data, int ends)
{
    struct stream *s = stream_of(a);

    return s != NULL ? stream_queue(s, data, ends) : SL_FLOW_GONE;
}

static enum sl_flow
client_trailers(struct sl_attempt *a, struct sl_fields *fields)
{
    struct stream *s = stream_of(a);

    if (s == NULL)
        return SL_FLOW_GONE;
    fields_keep_trailers(s, fields);
    return stream_queue(s, (struct sl_data){NULL, 0, NULL}, 1);
}

static void
client_cancel(struct sl_attempt *a, struct sl_conn *c)
{
    struct stream *s = stream_of(a);

    (void)c;
    if (s == NULL)
        return;
    attempt_part(s);
    stream_abandon(s, NGHTTP2_CANCEL);
}

/* ---- the connection ---- */

static int
client_room(struct sl_conn *c)
{
    const struct http2 *h = http2_of(c);
    uint32_t theirs = nghttp2_session_get_remote_settings(
        h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

    return !h->is_broken && !h->is_failing && h->n_streams < (uint64_t)h->conf->server_streams &&
           (!h->knows_settings || h->n_streams < theirs) &&
           nghttp2_session_check_request_allowed(h->session);
}

static int
client_greet(struct http2 *h)
{
    const struct http2_conf *conf = h->conf;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)conf->stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)conf->header_list},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, (uint32_t)conf->frame},
    };

    return nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
                                   sizeof settings / sizeof settings[0]) == 0 &&
           nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)conf->connection_window) == 0;
}

/* Over TLS both sides have to have agreed on it (RFC 9113, 3.2). */
static void
client_check_alpn(struct http2 *h)
{
    const struct sl_transport *t = sl_conn_transport(h->conn);
    const char *agreed = t != NULL && t->alpn != NULL ? t->alpn(h->conn) : NULL;

    if (t == NULL || !t->is_secure || (agreed != NULL && strcmp(agreed, "h2") == 0))
        return;
    h->is_broken = 1;
    sl_log(SL_WARN, "HTTP20010", "pool %s server %s: does not speak HTTP/2 (ALPN gave %s)",
           sl_conn_server(h->conn)->pool->name, sl_conn_server(h->conn)->name,
           agreed != NULL ? agreed : "nothing");
}

static void
client_open(struct sl_conn *c)
{
    struct http2 *h = session_make(c, callbacks, 0);

    SL_ASSERT(h != NULL);
    h->conf = http2_global;
    h->terms = (struct sl_client_terms){
        .send_ms = -1, .limit_head = INT64_MAX, .limit_fields = NV_MAX - 8};
    SL_ASSERT(client_greet(h));
    client_check_alpn(h);
}

static void
client_let_all_go(struct http2 *h)
{
    struct stream *s;

    h->is_broken = 1;
    while ((s = h->streams) != NULL) {
        struct sl_attempt *a = s->a != NULL ? attempt_part(s) : NULL;
        const struct sl_cause *cause = s->is_started ? &sl_cause_truncated : &sl_cause_no_response;

        if (s->id > 0 && !s->is_closed)
            nghttp2_session_set_stream_user_data(h->session, s->id, NULL);
        stream_free(s);
        if (a != NULL)
            sl_attempt_fail(a, cause);
    }
}

static void
client_end(struct http2 *h)
{
    struct sl_conn *c = h->conn;

    if (h->is_failing)
        log_end(h, "its connection is closed for what it sent", h->why);
    client_let_all_go(h);
    sl_conn_close(&c);
}

static void
client_ready(struct sl_conn *c, unsigned what)
{
    struct http2 *h = http2_of(c);

    if (what & SL_TIMEOUT) /* no attempt is on it */
        nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
    if (!session_read(h)) {
        client_end(h);
        return;
    }
    if (h->allows_none && !has_attempts(h))
        nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
    session_flush(h);
    if (session_is_over(h))
        client_end(h);
}

static void
client_closed(struct sl_conn *c)
{
    struct http2 *h = http2_of(c);

    client_let_all_go(h);
    *sl_conn_protocol_data(c) = NULL;
    session_free(h);
}

int
http2_client_init(void)
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
    return 0;
}

#define HTTP2_CLIENT(text)                                                                   \
    {                                                                                        \
        .name = text, .open = client_open, .ready = client_ready, .closed = client_closed,   \
        .start = client_start, .body = client_body, .trailers = client_trailers,             \
        .want = client_want, .cancel = client_cancel, .room = client_room,                   \
        .explain = client_explain,                                                           \
    }

const struct sl_upstream_protocol http2_client = HTTP2_CLIENT("h2");
const struct sl_upstream_protocol http2_client_clear = HTTP2_CLIENT("h2c");
