/* A response as it leaves.  Its head is held until the turn is over, so that it goes together with
 * the first of its body, and can be taken back before that. */
#include "server.h"

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

    return s->websocket_key == NULL ||
           sl_span_eq(said, websocket_accept(s->pool, (struct sl_span){s->websocket_key, 24}));
}

/* RFC 8441, 5: only a switch of protocols is a success; any other would be taken for one. */
static int
is_false_success(struct stream *s)
{
    int status = sl_req_status(s->r);

    return s->is_tunnel && (status / 100 == 2 || (status == 101 && !websocket_is_accepted(s)));
}

enum sl_flow
server_head(struct sl_req *r, int ends)
{
    struct stream *s = server_stream(r);

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

int
server_take_back(struct sl_req *r)
{
    struct stream *s = server_stream(r);

    if (!s->head_held || s->is_closed || s->is_cut)
        return 0;
    s->head_held = s->out_ended = s->is_full = 0;
    s->n_trailers_out = 0;
    stream_forget(s);
    return 1;
}

enum sl_flow
server_interim(struct sl_req *r, int status, struct sl_fields *fields)
{
    struct stream *s = server_stream(r);
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

enum sl_flow
server_body(struct sl_req *r, struct sl_data data, int ends)
{
    struct stream *s = server_stream(r);

    if (data.n > 0 && s->send_due == 0 && !s->is_closed) {
        stream_time_send(s);
        server_due(s->h, s->send_due);
    }
    return stream_queue(s, data, ends);
}

enum sl_flow
server_trailers(struct sl_req *r, struct sl_fields *fields)
{
    struct stream *s = server_stream(r);

    fields_keep_trailers(s, fields);
    return stream_queue(s, (struct sl_data){NULL, 0, NULL}, 1);
}

void
server_reset(struct sl_req *r)
{
    stream_cut(server_stream(r), NGHTTP2_INTERNAL_ERROR);
}

void
server_ended(struct sl_req *r)
{
    struct stream *s = server_stream(r);

    s->is_ended = 1;
    if (s->is_closed)
        sl_req_finish(&r);
}
