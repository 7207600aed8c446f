/* HTTP/2 (RFC 9113) on libnghttp2, towards clients and servers.
 *
 *   session.c  a connection: bytes in, what all streams have to say out in one write a turn
 *   stream.c   a stream: the body that leaves, the body that came and waits for its reader
 *   fields.c   heads and trailers between nghttp2's form and the core's
 *   server.c   the protocol "h2" towards clients: a stream is a request (server_request.c), which
 *              is answered (server_response.c)
 *   client.c   the protocols "h2" and "h2c" towards servers: a stream is an attempt
 *   tunnel.c   such an attempt that asks for a WebSocket; websocket.c: for both sides
 *   guard.c    how much of what is no use a client may send
 *
 * All of a connection runs on its thread.  The core's calls only note what a stream has to say
 * (stream_touch); nghttp2 is asked for frames in session_flush() alone, once all calls of the
 * turn are over.  So no callback of nghttp2 is ever entered from within another, and nothing but
 * ready() closes a connection. */
#ifndef MODULES_HTTP2_H
#define MODULES_HTTP2_H

#include "sluice/module.h"

#include <nghttp2/nghttp2.h>

#define STREAM_HIGH 32768u /* queued bytes of a body from which on its source waits */
#define STREAM_LOW 16384u  /* and below which it is asked for more */
/* What a client has to take of a body within Timeout send=: about as much as TCP wants free before it
 * says that there is room again.  A window that opens byte by byte is no progress. */
#define SEND_LEAST 1024u
#define NV_MAX 320u        /* fields of a head that is sent */

struct http2_conf {
    int64_t streams;
    int64_t stream_window, connection_window;
    int64_t frame;
    int64_t header_list;
    int64_t resets, control_frames;
    int64_t server_streams;
};

struct http2;

/* A part of a body that waits to be sent. */
struct piece {
    struct piece *next;
    struct sl_buf *buf; /* held; NULL: the bytes follow */
    const char *at;
    size_t n;
    char bytes[];
};

struct stream {
    struct http2 *h;
    struct stream *next, **prev;             /* all of the connection */
    struct stream *next_touched, **touched;  /* those that have something to say; NULL: not */
    int32_t id;
    struct sl_req *r;     /* server.c */
    struct sl_attempt *a; /* client.c; NULL: nobody wants the response */
    apr_pool_t *pool;     /* the request's; good while r or a is */

    struct piece *out, **out_end;
    size_t n_out;
    nghttp2_nv *trailers_out;
    unsigned n_trailers_out;

    char *in; /* what came while its reader had no room: of n_in bytes, in a room of in_room */
    size_t n_in, in_room;
    size_t owed; /* given to the reader; the window opens for them when it has room again */
    int64_t length, seen; /* of the body that comes: as announced, -1: not; so far */
    struct sl_fields *fields; /* that are being received */
    struct sl_fields *trailers_in;
    struct cookie *cookies;
    struct sl_span method, scheme, authority, path, protocol;
    const char *websocket_key; /* server.c: what a server was asked with; NULL: not */
    unsigned head_size, n_fields;
    int status;

    /* Loop time; 0: none. */
    int64_t head_due, body_due, send_due;
    size_t n_moved;    /* since send_due was set: of this body, */
    uint64_t all_then; /* and what h->n_data was */
    int64_t waits_since, waited_ms; /* for bytes of the request's body */

    uint8_t is_started;  /* the head was taken */
    uint8_t is_closed;   /* nghttp2 has forgotten it, or does not know it yet */
    uint8_t is_ended;    /* server.c: the source is done */
    uint8_t head_held;   /* server.c: of a response, given and not yet submitted */
    uint8_t head_ends;   /* and no body follows */
    uint8_t is_deferred; /* nghttp2 waits for more of the body */
    uint8_t is_full;     /* the source waits for room */
    uint8_t out_ended;
    uint8_t wants;     /* the reader of what comes has room */
    uint8_t is_giving; /* and is given something just now */
    uint8_t in_ended;  /* all of the message came */
    uint8_t in_given;  /* and the reader was told so, or wants no more */
    uint8_t is_cut;    /* to be reset */
    uint8_t is_tunnel; /* RFC 8441: CONNECT with :protocol */
    uint8_t is_too_large, has_too_many;
    uint32_t cut_code;
};

struct http2_bucket {
    int64_t level;
    int64_t at_ms;
};

struct http2 {
    struct sl_conn *conn;
    nghttp2_session *session;
    const struct http2_conf *conf;
    struct stream *streams;
    struct stream *touched;
    unsigned n_streams;
    int64_t n_requests;
    char *left; /* what the socket did not take */
    size_t n_left, left_at;
    size_t frame_left; /* of the frame that is being received */
    struct http2_bucket resets, control;
    int64_t due;      /* what the connection's timer is set to; 0: nothing */
    int64_t idle_due; /* loop time; 0: it is in use */
    int64_t send_due; /* the socket is full; 0: it is not */
    uint64_t n_data;  /* bytes of bodies that left */
    struct sl_client_terms terms;
    const char *why;    /* it is closed, for the log */
    uint8_t is_server;
    uint8_t is_broken;  /* nothing more can be written or read */
    uint8_t drains;     /* 1: told so, 2: the last stream was named */
    uint8_t lingers;    /* all was said; what still comes is thrown away */
    uint8_t knows_settings; /* client.c: the server's */
    uint8_t allows_none;    /* client.c: of streams, the server says now */
    uint8_t is_failing; /* closed for what the peer did */
};

extern const struct http2_conf *http2_global; /* of the place outside every section */
extern int count_connections, count_resets, count_abuse, count_errors, count_goaways;

static inline struct http2 *
http2_of(struct sl_conn *c)
{
    return *sl_conn_protocol_data(c);
}

static inline int64_t
http2_now(const struct http2 *h)
{
    return sl_loop_now(sl_conn_loop(h->conn));
}

/* session.c.  make: with the callbacks of its side, settings queued; NULL: no memory. */
struct http2 *session_make(struct sl_conn *c, const nghttp2_session_callbacks *callbacks,
                           int is_server);
void session_free(struct http2 *h);
/* Takes what the peer sent, at most 64 KiB a turn; 0: it closed, or broke the connection. */
int session_read(struct http2 *h);
int session_take(struct http2 *h, const char *at, size_t n);
/* All that is to be said, as far as the socket takes it. */
void session_flush(struct http2 *h);
static inline int
session_is_blocked(const struct http2 *h)
{
    return h->left != NULL;
}
/* A frame came: the connection fails where those of no use are too many. */
void session_guard(struct http2 *h, const nghttp2_frame_hd *hd);
/* Closed by what the peer did: GOAWAY with the code, and the log says why. */
void session_fail(struct http2 *h, uint32_t code, const char *why);
/* A GOAWAY has left: also those that nghttp2 sends itself are noted as failures. */
void session_says_goodbye(struct http2 *h, const nghttp2_goaway *frame);
/* Nothing will be said or heard any more. */
int session_is_over(const struct http2 *h);
/* What both sides ask nghttp2 to tell. */
void session_callbacks(nghttp2_session_callbacks *cb);
int session_threads_make(struct sl_worker *w);

/* stream.c */
void stream_link(struct http2 *h, struct stream *s);
/* Out of all lists, what it kept is freed. */
void stream_unlink(struct stream *s);
void stream_touch(struct stream *s);
enum sl_flow stream_queue(struct stream *s, struct sl_data data, int ends);
/* What is queued is dropped. */
void stream_forget(struct stream *s);
/* To be reset with the code. */
void stream_cut(struct stream *s, uint32_t code);
/* The first n bytes of the queue are taken care of. */
void stream_sent(struct stream *s, size_t n);
/* Bytes came, for now or for later.  The reader is `give`: what it says is of sl_flow. */
typedef enum sl_flow stream_give_f(struct stream *s, struct sl_data data);
void stream_receive(struct stream *s, const char *at, size_t n, stream_give_f *give);
/* The reader has room: what waited is given; the windows open for what it has taken. */
void stream_wants(struct stream *s, stream_give_f *give);
/* The reader wants no more: windows open for what comes. */
void stream_ignore(struct stream *s);
/* server.c: a body waits for the client from now on, for as long as Timeout send= says. */
void stream_time_send(struct stream *s);
nghttp2_data_provider stream_source(struct stream *s);

/* fields.c.  A field that came: 0, or -1 where the message is to be refused. */
int fields_receive(struct stream *s, nghttp2_rcbuf *name, nghttp2_rcbuf *value);
/* Cookie's crumbs as one field (RFC 9113, 8.2.3). */
int fields_join_cookies(struct stream *s);
/* The lines of a list behind `nva[n]`, but for those of a connection: the new n.  They lie where
 * they lay; nghttp2 copies them when they are submitted. */
enum { FIELDS_KEEP_LENGTH = 1, FIELDS_KEEP_HOST = 2 };
size_t fields_list(nghttp2_nv *nva, size_t n, const struct sl_fields *f, unsigned flags);
size_t fields_put(nghttp2_nv *nva, size_t n, const char *name, struct sl_span value);
/* Trailers of a stream, copied. */
void fields_keep_trailers(struct stream *s, const struct sl_fields *f);
/* Room for one head a thread. */
nghttp2_nv *fields_room(struct sl_conn *c);
/* Decimal text of a number that is not negative, somewhere in `to`. */
#define NUMBER_ROOM 24
struct sl_span fields_number(char *to, int64_t n);

/* guard.c: 1 as long as it is within what is allowed. */
int guard_frame(struct http2 *h, const nghttp2_frame_hd *hd);
int guard_reset(struct http2 *h);
/* A frame of use was sent: so many of control are the peer's answer to it. */
void guard_sent(struct http2 *h, size_t n);

int http2_fields_threads_make(struct sl_worker *w);

/* websocket.c: what answers a Sec-WebSocket-Key (RFC 6455, 4.2.2). */
struct sl_span websocket_accept(apr_pool_t *pool, struct sl_span key);

/* tunnel.c.  The protocol a server is asked to switch to; n 0: none. */
struct sl_span tunnel_asked(struct sl_attempt *a);
/* RFC 8441, 5: the nonce of HTTP/1.1 has no use.  The new n. */
size_t tunnel_drop_key(nghttp2_nv *nva, size_t n);
/* The server agreed: its response becomes what HTTP/1.1 would have said. */
void tunnel_opened(struct sl_attempt *a);

/* What a stream that was touched has to say, to nghttp2. */
void http2_server_say(struct stream *s);
void http2_client_say(struct stream *s);

extern const struct sl_protocol http2_server;
extern const struct sl_upstream_protocol http2_client, http2_client_clear;
int http2_server_init(void);
int http2_client_init(void);

#endif
