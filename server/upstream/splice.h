/* Bodies from socket to socket through a pipe, never seen by the process. */
#ifndef UPSTREAM_SPLICE_H
#define UPSTREAM_SPLICE_H

#include "http/request.h"

#define SPLICE_MIN 16384u       /* a shorter rest is copied */
#define SPLICE_TURN_BYTES 1048576u

/* A pipe with bytes in it stays with its body. */
struct splice {
    int pipe[2];
    uint32_t n_in_pipe;
    uint32_t has_pipe;
};

enum splice_step {
    SPLICE_EMPTY, /* the server has sent no more yet */
    SPLICE_TURN,  /* enough for one turn */
    SPLICE_FULL,  /* the client takes no more now */
    SPLICE_DONE,  /* all of *left has gone */
    SPLICE_CUT,   /* the server closed early */
    SPLICE_GONE,  /* the client is gone */
    SPLICE_NOT,   /* no pipe, or not possible here: copy */
};

/* Whether the answer to r may leave this way now. */
int splice_may(const struct sl_req *r);
enum splice_step splice_run(struct splice *s, struct sl_conn *from, struct sl_req *r,
                            uint64_t *left);
/* Gives the pipe back. */
void splice_end(struct splice *s, struct sl_loop *loop);

#endif
