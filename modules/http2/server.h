/* One connection of a client, as the files that serve it share it: the connection and its end
 * (server.c), a request as it comes (server_request.c), a response as it leaves
 * (server_response.c). */
#ifndef MODULES_HTTP2_SERVER_H
#define MODULES_HTTP2_SERVER_H

#include "http2.h"

static inline struct stream *
server_stream(struct sl_req *r)
{
    return *sl_req_protocol_data(r);
}

static inline struct stream *
server_stream_by_id(struct http2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->session, id);
}

/* server.c.  The connection has one timer: it is set for what is due first.  in: when that is, 0 for
 * ms -1. */
void server_due(struct http2 *h, int64_t due);
int64_t server_in(struct http2 *h, int64_t ms);

/* server_request.c: what the core asks, and what nghttp2 tells. */
void server_want(struct sl_req *r);
int server_head_begins(nghttp2_session *session, const nghttp2_frame *frame, void *user);
int server_field_came(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                      nghttp2_rcbuf *value, uint8_t flags, void *user);
int server_bad_field_came(nghttp2_session *session, const nghttp2_frame *frame,
                          nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags, void *user);
int server_frame_came(nghttp2_session *session, const nghttp2_frame *frame, void *user);
int server_body_came(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                     size_t n, void *user);

/* server_response.c: these never close the connection nor let the request go, but for ended() of one
 * whose stream is closed. */
enum sl_flow server_head(struct sl_req *r, int ends);
int server_take_back(struct sl_req *r);
enum sl_flow server_interim(struct sl_req *r, int status, struct sl_fields *fields);
enum sl_flow server_body(struct sl_req *r, struct sl_data data, int ends);
enum sl_flow server_trailers(struct sl_req *r, struct sl_fields *fields);
void server_reset(struct sl_req *r);
void server_ended(struct sl_req *r);

#endif
