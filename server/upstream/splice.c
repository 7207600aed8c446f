/* See splice.h.  The receiving protocol moves bytes out of the pipe itself (splice in
 * sl_protocol): it knows whether its connection carries plain bytes. */
#include "upstream/splice.h"

#include "net/conn.h"

#include <errno.h>
#include <fcntl.h>

int
splice_may(const struct sl_req *r)
{
    return r != NULL && r->protocol->splice != NULL && answer_may_bypass(r);
}

static int
splice_has_pipe(struct splice *s, struct sl_loop *loop)
{
    if (!s->has_pipe)
        s->has_pipe = loop_pipe_take(loop, s->pipe) == 0;
    return (int)s->has_pipe;
}

/* Into the empty pipe: > 0, or SL_IO_*.  With room in the pipe only the socket can say
 * EAGAIN. */
static ssize_t
splice_in(struct splice *s, struct sl_conn *from, uint64_t left)
{
    ssize_t k;

    if (!conn_may_read(from))
        return SL_IO_AGAIN;
    k = splice(from->io.fd, NULL, s->pipe[1], NULL,
               left < LOOP_PIPE_BYTES ? (size_t)left : LOOP_PIPE_BYTES,
               SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (k > 0)
        s->n_in_pipe = (uint32_t)k;
    if (k >= 0)
        return k;
    if (errno != EAGAIN)
        return SL_IO_ERROR;
    from->io.ready &= (uint8_t)~SL_READABLE;
    return SL_IO_AGAIN;
}

/* All that is in the pipe, as far as the client takes it.  What is in the pipe counts as left:
 * a body is not over while bytes of it wait here. */
static enum splice_step
splice_out(struct splice *s, struct sl_req *r, uint64_t *left)
{
    while (s->n_in_pipe > 0) {
        ssize_t k = r->protocol->splice(r, s->pipe[0], s->n_in_pipe);

        if (k == SL_IO_AGAIN)
            return SPLICE_FULL;
        if (k <= 0)
            return SPLICE_GONE;
        s->n_in_pipe -= (uint32_t)k;
        r->bytes_sent += k;
        *left -= (uint64_t)k;
    }
    return SPLICE_DONE;
}

enum splice_step
splice_run(struct splice *s, struct sl_conn *from, struct sl_req *r, uint64_t *left)
{
    uint64_t turn = 0;
    enum splice_step step;
    ssize_t k;

    if (!splice_has_pipe(s, from->loop))
        return SPLICE_NOT;
    for (;;) {
        step = splice_out(s, r, left);
        if (step != SPLICE_DONE)
            return step;
        if (*left == 0) {
            splice_end(s, from->loop);
            r->flags |= REQ_ENDS_GIVEN;
            return SPLICE_DONE;
        }
        if (turn >= SPLICE_TURN_BYTES)
            return SPLICE_TURN;
        k = splice_in(s, from, *left);
        if (k == SL_IO_AGAIN)
            return SPLICE_EMPTY;
        if (k <= 0)
            return SPLICE_CUT;
        turn += (uint64_t)k;
    }
}

void
splice_end(struct splice *s, struct sl_loop *loop)
{
    if (s->has_pipe)
        loop_pipe_give(loop, s->pipe, s->n_in_pipe == 0);
    s->has_pipe = 0;
    s->n_in_pipe = 0;
}
