/* A connection: what came goes into nghttp2, what is to be said comes out of it in one write.
 *
 * Frames are gathered in a buffer of the thread, bodies that lie in network buffers stay where
 * they are: one writev has all that streams had to say in this turn.  What the socket does not
 * take is copied and kept with the connection, and nghttp2 is asked for nothing until it is
 * gone; meanwhile bodies wait in their streams, and their sources for room there. */
#include "http2.h"

#include <stdlib.h>
#include <string.h>

#define TURN_BYTES 65536       /* read from one connection before others have their turn */
#define OUT_BYTES 81920u       /* gathered: frames, and short bodies */
#define OUT_FRAME 17000u       /* the largest piece nghttp2 gives at once */
#define OUT_IOVS 64
#define OUT_IOVS_FRAME 20u     /* one frame of a body needs at most: COPY_MAX sees to it */
#define OUT_TURN 65536u        /* after so much a write is worth its call */
#define OUT_TURNS 8            /* writes before others have their turn */
#define COPY_MAX 2048u         /* a part of a body this short is copied beside its frame */

/* One a thread: what one write gathers; empty between flushes. */
struct out {
    struct iovec iov[OUT_IOVS];
    struct sl_buf *held[OUT_IOVS];
    unsigned n_iov, n_held;
    size_t n_bytes, total;
    char bytes[OUT_BYTES];
    char in[TURN_BYTES];
};

static struct out *outs;

int
session_threads_make(struct sl_worker *w)
{
    outs = calloc(sl_worker_threads(w), sizeof *outs);
    return outs != NULL ? 0 : -1;
}

static struct out *
out_of(const struct http2 *h)
{
    return &outs[sl_loop_index(sl_conn_loop(h->conn))];
}

/* ---- making and ending ---- */

/* calloc() of the C library passes by its lists of what was freed lately; nghttp2 asks for each
 * stream with it. */
static void *
memory_cleared(size_t n, size_t size, void *ctx)
{
    size_t total;
    void *at = __builtin_mul_overflow(n, size, &total) ? NULL : malloc(total);

    (void)ctx;
    __asm__("" : "+r"(at)); /* compilers would make calloc() of it */
    return at != NULL ? memset(at, 0, total) : NULL;
}

static void *
memory_get(size_t size, void *ctx)
{
    (void)ctx;
    return malloc(size);
}

static void *
memory_resize(void *at, size_t size, void *ctx)
{
    (void)ctx;
    return realloc(at, size);
}

static void
memory_free(void *at, void *ctx)
{
    (void)ctx;
    free(at);
}

static int
session_new(struct http2 *h, const nghttp2_session_callbacks *cb)
{
    nghttp2_mem memory = {NULL, memory_get, memory_free, memory_cleared, memory_resize};
    nghttp2_option *o;
    int rc;

    if (nghttp2_option_new(&o) != 0)
        return -1;
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_builtin_recv_extension_type(o, NGHTTP2_PRIORITY_UPDATE);
    /* Until the server says how many it allows one goes ahead; the others wait in nghttp2. */
    nghttp2_option_set_peer_max_concurrent_streams(o, 1);
    rc = h->is_server ? nghttp2_session_server_new3(&h->session, cb, h, o, &memory)
                      : nghttp2_session_client_new3(&h->session, cb, h, o, &memory);
    nghttp2_option_del(o);
    return rc;
}

struct http2 *
session_make(struct sl_conn *c, const nghttp2_session_callbacks *callbacks, int is_server)
{
    struct http2 *h = calloc(1, sizeof *h);

    if (h == NULL)
        return NULL;
    h->conn = c;
    h->is_server = is_server != 0;
    if (session_new(h, callbacks) != 0) {
        free(h);
        return NULL;
    }
    *sl_conn_protocol_data(c) = h;
    return h;
}

void
session_free(struct http2 *h)
{
    SL_ASSERT(h->streams == NULL);
    nghttp2_session_del(h->session);
    free(h->left);
    free(h);
}

int
session_is_over(const struct http2 *h)
{
    return h->is_broken || (!session_is_blocked(h) && !nghttp2_session_want_read(h->session) &&
                            !nghttp2_session_want_write(h->session));
}

void
session_fail(struct http2 *h, uint32_t code, const char *why)
{
    if (h->is_failing)
        return;
    h->is_failing = 1;
    h->why = why;
    nghttp2_session_terminate_session(h->session, code);
    sl_conn_again(h->conn);
}

void
session_says_goodbye(struct http2 *h, const nghttp2_goaway *frame)
{
    if (frame->error_code == NGHTTP2_NO_ERROR || h->is_failing)
        return;
    h->is_failing = 1;
    h->why = nghttp2_http2_strerror(frame->error_code);
}

/* ---- reading ---- */

static uint32_t
code_of(int error)
{
    switch (error) {
    case NGHTTP2_ERR_FLOODED:
    case NGHTTP2_ERR_TOO_MANY_SETTINGS:
        return NGHTTP2_ENHANCE_YOUR_CALM;
    case NGHTTP2_ERR_NOMEM:
    case NGHTTP2_ERR_CALLBACK_FAILURE:
        return NGHTTP2_INTERNAL_ERROR;
    default: /* whatever else it says is of what the peer sent, a head without an end among it */
        return NGHTTP2_ENHANCE_YOUR_CALM;
    }
}

int
session_take(struct http2 *h, const char *at, size_t n)
{
    ssize_t k = nghttp2_session_mem_recv(h->session, (const uint8_t *)at, n);

    if (k == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
        h->why = "the first bytes are not HTTP/2's";
        h->is_failing = h->is_broken = 1;
        return 0;
    }
    if (k < 0)
        session_fail(h, code_of((int)k), nghttp2_strerror((int)k));
    return 1;
}

int
session_read(struct http2 *h)
{
    struct out *o = out_of(h);
    size_t turn = 0;

    while (turn < TURN_BYTES) {
        ssize_t k = sl_conn_read(h->conn, o->in, sizeof o->in);

        if (k == SL_IO_AGAIN)
            return 1;
        if (k <= 0)
            return 0;
        turn += (size_t)k;
        if (h->lingers || h->is_failing)
            continue;
        if (!session_take(h, o->in, (size_t)k))
            return 0;
    }
    sl_conn_again(h->conn);
    return 1;
}

/* ---- writing ---- */

static void
out_copy(struct out *o, const char *at, size_t n)
{
    char *to = o->bytes + o->n_bytes;
    struct iovec *last = o->n_iov > 0 ? &o->iov[o->n_iov - 1] : NULL;

    memcpy(to, at, n);
    o->n_bytes += n;
    o->total += n;
    if (last != NULL && (char *)last->iov_base + last->iov_len == to)
        last->iov_len += n;
    else
        o->iov[o->n_iov++] = (struct iovec){to, n};
}

static void
out_hold(struct out *o, struct sl_buf *buf, const char *at, size_t n)
{
    sl_buf_hold(buf);
    o->held[o->n_held++] = buf;
    o->iov[o->n_iov++] = (struct iovec){(void *)(uintptr_t)at, n};
    o->total += n;
}

static void
out_empty(struct out *o)
{
    while (o->n_held > 0)
        sl_buf_drop(&o->held[--o->n_held]);
    o->n_iov = 0;
    o->n_bytes = o->total = 0;
}

static int
out_has_room(const struct out *o)
{
    return o->total < OUT_TURN && o->n_bytes + OUT_FRAME <= OUT_BYTES &&
           o->n_iov + OUT_IOVS_FRAME <= OUT_IOVS;
}

/* A frame of a body: its head, and so much of what the stream has queued. */
static int
send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
          nghttp2_data_source *source, void *user)
{
    struct http2 *h = user;
    struct stream *s = source->ptr;
    struct out *o = out_of(h);
    const struct piece *p = s->out;
    size_t left = n;

    (void)session;
    (void)frame;
    if (!out_has_room(o))
        return NGHTTP2_ERR_WOULDBLOCK;
    out_copy(o, (const char *)head, 9);
    for (; left > 0; p = p->next) {
        size_t k = p->n < left ? p->n : left;

        if (p->buf == NULL || k <= COPY_MAX)
            out_copy(o, p->at, k);
        else
            out_hold(o, p->buf, p->at, k);
        left -= k;
    }
    stream_sent(s, n);
    guard_sent(h, n);
    if (s->is_full && s->n_out < STREAM_LOW)
        stream_touch(s);
    return 0;
}

/* Takes from nghttp2 what there is to say, as much as one write is worth: 1, or 0 when it is
 * broken. */
static int
out_gather(struct http2 *h, struct out *o)
{
    const uint8_t *at;
    ssize_t n;

    while (out_has_room(o)) {
        n = nghttp2_session_mem_send(h->session, &at);
        if (n <= 0)
            return n == 0;
        out_copy(o, (const char *)at, (size_t)n);
    }
    return 1;
}

/* What was gathered and did not leave. */
static void
session_keep(struct http2 *h, const struct out *o, size_t sent)
{
    size_t n = o->total - sent, done = 0;
    unsigned i;

    h->left = malloc(n);
    SL_ASSERT(h->left != NULL);
    h->n_left = n;
    h->left_at = 0;
    for (i = 0; i < o->n_iov; i++) {
        size_t skip = sent < o->iov[i].iov_len ? sent : o->iov[i].iov_len;

        sent -= skip;
        memcpy(h->left + done, (char *)o->iov[i].iov_base + skip, o->iov[i].iov_len - skip);
        done += o->iov[i].iov_len - skip;
    }
}

static void
session_moves(struct http2 *h)
{
    if (h->send_due != 0)
        h->send_due = http2_now(h) + h->terms.send_ms;
}

static void
session_write_left(struct http2 *h)
{
    while (h->left != NULL) {
        struct iovec iov = {h->left + h->left_at, h->n_left - h->left_at};
        ssize_t k = sl_conn_writev(h->conn, &iov, 1);

        if (k == SL_IO_ERROR)
            h->is_broken = 1;
        if (k < 0)
            return;
        session_moves(h);
        h->left_at += (size_t)k;
        if (h->left_at < h->n_left)
            continue;
        free(h->left);
        h->left = NULL;
        h->send_due = 0;
    }
}

static void
session_write(struct http2 *h, struct out *o)
{
    ssize_t k = sl_conn_writev(h->conn, o->iov, (int)o->n_iov);

    if (k == SL_IO_ERROR)
        h->is_broken = 1;
    else if (k != (ssize_t)o->total) {
        session_keep(h, o, k > 0 ? (size_t)k : 0);
        session_write_left(h);
    }
    out_empty(o);
}

void
session_flush(struct http2 *h)
{
    struct out *o = out_of(h);
    int turn;

    session_write_left(h);
    for (turn = 0; !session_is_blocked(h) && !h->is_broken; turn++) {
        if (turn == OUT_TURNS) {
            sl_conn_again(h->conn);
            return;
        }
        while (h->touched != NULL) {
            struct stream *s = h->touched;

            h->touched = s->next_touched;
            if (h->touched != NULL)
                h->touched->touched = &h->touched;
            s->touched = NULL;
            if (h->is_server)
                http2_server_say(s);
            else
                http2_client_say(s);
        }
        if (!out_gather(h, o))
            h->is_broken = 1;
        if (o->total == 0)
            return;
        session_write(h, o);
    }
}

/* ---- what nghttp2 tells of both sides ---- */

void
session_guard(struct http2 *h, const nghttp2_frame_hd *hd)
{
    if (guard_frame(h, hd))
        return;
    sl_count(sl_conn_loop(h->conn), count_abuse, 1);
    session_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "more frames of control than HTTP2ControlFrames");
}

static int
frame_begins(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    struct http2 *h = user;

    (void)session;
    h->frame_left = hd->length;
    if (h->is_server)
        session_guard(h, hd);
    return 0;
}

/* What is wrong with the connection as a whole nghttp2 answers itself: it is said here. */
static int
error_told(nghttp2_session *session, int code, const char *text, size_t n, void *user)
{
    struct http2 *h = user;
    struct sl_span peer = h->is_server ? sl_conn_peer_text(h->conn) : (struct sl_span){"", 0};

    (void)session;
    (void)code;
    if (h->is_server)
        sl_log(SL_DEBUG, "HTTP20002", "client %.*s: %.*s", (int)peer.n, peer.at, (int)n, text);
    else
        sl_log(SL_INFO, "HTTP20003", "pool %s server %s: %.*s",
               sl_conn_server(h->conn)->pool->name, sl_conn_server(h->conn)->name, (int)n, text);
    return 0;
}

void
session_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, frame_begins);
    nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
    nghttp2_session_callbacks_set_error_callback2(cb, error_told);
}
