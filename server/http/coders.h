/* States of coders, kept by each thread for the next body. */
#ifndef HTTP_CODERS_H
#define HTTP_CODERS_H

#include "event/loop.h"
#include "sluice/encoder.h"

#define CODERS_BYTES ((size_t)256 << 20) /* of a thread's states in use: more bodies go out as they are */
#define CODERS_IDLE 8                    /* states kept by a thread */

/* One body on its way through a coder; the state is taken when its first bytes come. */
struct coding {
    const struct sl_coder *coder;
    struct sl_loop *loop;
    void *state; /* NULL: not yet, or no more */
    int level;
    int64_t length; /* of what goes in, -1: unknown */
    size_t counted; /* bytes */
    size_t skip;  /* bytes of the piece in hand that were taken before */
    int is_dirty; /* bytes were taken since the last flush */
};

int coders_have_room(const struct sl_loop *loop, const struct sl_coder *coder, int level);
/* Lives until coding_end() or the pool's end, whichever is first. */
struct coding *coding_begin(struct sl_loop *loop, apr_pool_t *pool, const struct sl_coder *coder,
                            int level, int64_t length);
/* A state to run, or NULL when there is no memory. */
void *coding_state(struct coding *c);
void coding_end(struct coding *c);
void coders_close(struct sl_loop *loop);

#endif
