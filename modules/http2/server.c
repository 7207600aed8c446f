/* HTTP/2 towards clients: a stream is a request.
 *
 *   head comes -> started -> answered -> closed        nghttp2 closes a stream when both sides
 *       |            |          |                      have ended it or one has reset it; only
 *       '------------'----------'---- reset ---> '     then the request is let go
 *
 * The connection ends by GOAWAY.  After an error of the client's what it still sends is read and
 * thrown away for a moment, or a reset would overtake the GOAWAY. */
#include "server.h"

#include <sys/socket.h>

#define LINGER_MS 1000

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static nghttp2_session_callbacks *callbacks;

/* ---- times ---- */

/* The connection has one timer: set for what is due first, and looked at by server_late(). */
void
server_due(struct http2 *h, int64_t due)
{
    if (due == 0 || (h->due != 0 && h->due <= due))
        return;
    h->due = due;
    sl_conn_timeout(h->conn, due > http2_now(h) ? due - http2_now(h) : 0);
}

int64_t
server_in(struct http2 *h, int64_t ms)
{
    int64_t due = ms < 0 ? 0 : http2_now(h) + ms;

    server_due(h, due);
    return due;
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

/* Whoever caused it, a client can only once in a while have a request undone.  NO_ERROR is no end but
 * of a stream whose answer has left: a client may give that code, too. */
static void
server_guard(struct http2 *h, struct stream *s, uint32_t code)
{
    int is_answered = nghttp2_session_get_stream_local_close(h->session, s->id) == 1;

    if ((code == NGHTTP2_NO_ERROR && is_answered) || s->is_cut || h->is_failing)
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
    struct stream *s = server_stream_by_id(h, id);

    if (s == NULL)
        return 0;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    server_guard(h, s, code);
    request_let_go(s, &sl_cause_bad_request);
    if (h->n_streams == 0)
        h->idle_due = server_in(h, h->terms.keepalive_ms);
    return 0;
}

/* RFC 9113, 8.1: nobody waits for the rest of a request that is answered. */
static int
frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    struct stream *s;

    if (frame->hd.type == NGHTTP2_GOAWAY)
        session_says_goodbye(h, &frame->goaway);
    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    s = server_stream_by_id(h, frame->hd.stream_id);
    if (s != NULL && !s->in_ended)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
    return 0;
}

static int
frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    struct stream *s = server_stream_by_id(user, frame->hd.stream_id);

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

/* There may be no request of which the access log would tell: anybody can cause as many as he likes. */
static void
server_log_failure(const struct http2 *h)
{
    struct sl_span peer = sl_conn_peer_text(h->conn);

    sl_count(sl_conn_loop(h->conn), count_errors, 1);
    if (sl_conn_failure_has_line(h->conn, h->why))
        sl_log(SL_INFO, "HTTP20001", "client %.*s: %s; its connection is closed", (int)peer.n,
               peer.at, h->why);
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

/* By the client: it opens no window for the stream, or for all of them next to none.  Else others are
 * just more urgent. */
static int
stream_is_kept_waiting(struct http2 *h, const struct stream *s)
{
    return nghttp2_session_get_stream_remote_window_size(h->session, s->id) <= 0 ||
           h->n_data - s->all_then < (uint64_t)SEND_LEAST * h->n_streams;
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
        stream_time_send(s);
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
        if (!h->lingers && sl_conn_failure_has_line(c, sl_cause_send_timeout.text))
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
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, server_head_begins);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, server_field_came);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, server_bad_field_came);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, server_frame_came);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, server_body_came);
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
