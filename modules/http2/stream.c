/* A stream's two bodies.
 *
 *   out   pieces wait in a queue, held or copied; nghttp2 asks for them as windows and
 *         priorities allow, and session.c writes them from where they lie.
 *   in    what comes is handed on at once while its reader has room, else kept here: no more
 *         than the window lets the peer send, which opens only for what the reader has taken. */
#include "http2.h"

#include <stdlib.h>

void
stream_link(struct http2 *h, struct stream *s)
{
    s->h = h;
    s->out_end = &s->out;
    s->length = -1;
    s->next = h->streams;
    s->prev = &h->streams;
    if (s->next != NULL)
        s->next->prev = &s->next;
    h->streams = s;
    h->n_streams++;
}

static void
stream_untouch(struct stream *s)
{
    if (s->touched == NULL)
        return;
    *s->touched = s->next_touched;
    if (s->next_touched != NULL)
        s->next_touched->touched = s->touched;
    s->touched = NULL;
}

void
stream_touch(struct stream *s)
{
    struct http2 *h = s->h;

    if (s->touched != NULL)
        return;
    s->next_touched = h->touched;
    s->touched = &h->touched;
    if (s->next_touched != NULL)
        s->next_touched->touched = &s->next_touched;
    h->touched = s;
    sl_conn_again(h->conn);
}

/* ---- what leaves ---- */

static void
piece_done(struct stream *s)
{
    struct piece *p = s->out;

    s->out = p->next;
    if (s->out == NULL)
        s->out_end = &s->out;
    if (p->buf != NULL)
        sl_buf_drop(&p->buf);
    free(p);
}

void
stream_forget(struct stream *s)
{
    while (s->out != NULL)
        piece_done(s);
    s->n_out = 0;
}

void
stream_unlink(struct stream *s)
{
    stream_untouch(s);
    if (s->prev != NULL) {
        *s->prev = s->next;
        if (s->next != NULL)
            s->next->prev = s->prev;
        s->prev = NULL;
        s->h->n_streams--;
    }
    stream_forget(s);
    nghttp2_session_consume_connection(s->h->session, s->owed + s->n_in);
    free(s->in);
    s->in = NULL;
    s->n_in = s->owed = 0;
}

enum sl_flow
stream_queue(struct stream *s, struct sl_data data, int ends)
{
    struct piece *p;

    if (s->is_closed || s->is_cut)
        return SL_FLOW_GONE;
    if (data.n > 0) {
        p = malloc(sizeof *p + (data.buf == NULL ? data.n : 0));
        SL_ASSERT(p != NULL);
        *p = (struct piece){NULL, data.buf, data.at, data.n};
        if (data.buf != NULL)
            sl_buf_hold(data.buf);
        else
            p->at = memcpy(p->bytes, data.at, data.n);
        *s->out_end = p;
        s->out_end = &p->next;
        s->n_out += data.n;
    }
    s->out_ended |= ends != 0;
    stream_touch(s);
    s->is_full = !s->out_ended && s->n_out > STREAM_HIGH;
    return s->n_out > STREAM_HIGH ? SL_FLOW_FULL : SL_FLOW_ROOM;
}

void
stream_time_send(struct stream *s)
{
    s->n_moved = 0;
    s->all_then = s->h->n_data;
    s->send_due = s->h->terms.send_ms < 0 ? 0 : http2_now(s->h) + s->h->terms.send_ms;
}

static void
stream_moves(struct stream *s, size_t n)
{
    s->n_moved += n;
    if (s->n_out == 0)
        s->send_due = 0;
    else if (s->send_due != 0 && s->n_moved >= SEND_LEAST)
        stream_time_send(s);
}

void
stream_sent(struct stream *s, size_t n)
{
    s->n_out -= n;
    s->h->n_data += n;
    stream_moves(s, n);
    while (n > 0) {
        size_t k = n < s->out->n ? n : s->out->n;

        s->out->at += k;
        s->out->n -= k;
        n -= k;
        if (s->out->n == 0)
            piece_done(s);
    }
}

void
stream_cut(struct stream *s, uint32_t code)
{
    if (s->is_closed || s->is_cut)
        return;
    s->is_cut = 1;
    s->cut_code = code;
    s->head_held = 0;
    stream_forget(s);
    stream_touch(s);
}

/* nghttp2 asks how much of the body it may announce; session.c takes it out of the queue. */
static ssize_t
source_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t room, uint32_t *flags,
            nghttp2_data_source *source, void *user)
{
    struct stream *s = source->ptr;
    size_t n = s->n_out < room ? s->n_out : room;

    (void)buf;
    (void)user;
    if (n == 0 && !s->out_ended) {
        s->is_deferred = 1;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n < s->n_out || !s->out_ended)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->n_trailers_out > 0) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, s->trailers_out, s->n_trailers_out) != 0)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

nghttp2_data_provider
stream_source(struct stream *s)
{
    return (nghttp2_data_provider){.source.ptr = s, .read_callback = source_read};
}

/* ---- what comes ---- */

static void
stream_consume(struct stream *s, size_t n)
{
    if (n > 0)
        nghttp2_session_consume(s->h->session, s->id, n);
}

static void
stream_give(struct stream *s, const char *at, size_t n, stream_give_f *give)
{
    enum sl_flow flow;

    s->is_giving = 1;
    flow = give(s, (struct sl_data){at, n, NULL});
    s->is_giving = 0;
    switch (flow) {
    case SL_FLOW_ROOM:
        stream_consume(s, n);
        return;
    case SL_FLOW_FULL:
        s->wants = 0;
        s->owed += n;
        if (s->in_given) /* nobody will say that there is room again */
            stream_ignore(s);
        return;
    case SL_FLOW_GONE:
        stream_consume(s, n);
        stream_ignore(s);
        return;
    }
}

static void
stream_keep(struct stream *s, const char *at, size_t n)
{
    if (s->n_in + n > s->in_room) {
        s->in_room = 2 * (s->n_in + n);
        s->in = realloc(s->in, s->in_room);
        SL_ASSERT(s->in != NULL);
    }
    memcpy(s->in + s->n_in, at, n);
    s->n_in += n;
}

void
stream_receive(struct stream *s, const char *at, size_t n, stream_give_f *give)
{
    if (s->in_given) {
        stream_consume(s, n);
        sl_conn_again(s->h->conn);
    } else if (s->wants && s->n_in == 0 && !s->is_giving)
        stream_give(s, at, n, give);
    else
        stream_keep(s, at, n);
}

void
stream_wants(struct stream *s, stream_give_f *give)
{
    char *in = s->in;
    size_t n = s->n_in;

    s->wants = 1;
    stream_consume(s, s->owed);
    s->owed = 0;
    sl_conn_again(s->h->conn);
    if (n == 0 || s->is_giving)
        return;
    s->in = NULL;
    s->n_in = s->in_room = 0;
    stream_give(s, in, n, give);
    free(in);
}

void
stream_ignore(struct stream *s)
{
    s->in_given = 1;
    stream_consume(s, s->owed + s->n_in);
    s->owed = 0;
    free(s->in);
    s->in = NULL;
    s->n_in = s->in_room = 0;
}
