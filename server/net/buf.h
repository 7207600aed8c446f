/* Network buffers of one thread, reference-counted without atomics.
 *
 *   small  4 KiB  heads and small messages; what an answer of 1 KiB needs
 *   large 64 KiB  bodies on their way, heads that outgrew a small one
 *
 * Buffers are taken when bytes arrive and given back when the last holder drops them; an
 * idle connection has none.  Free ones are reused last in, first out: the warm one first. */
#ifndef NET_BUF_H
#define NET_BUF_H

#include "sluice/net.h"

#define BUF_SMALL 4096u
#define BUF_LARGE 65536u

struct sl_buf {
    struct sl_buf *next; /* free list */
    struct sl_loop *loop;
    unsigned n_refs;
    unsigned size;  /* of bytes */
    unsigned begin; /* first byte not consumed */
    unsigned end;   /* where the next byte goes */
    char bytes[];
};

/* Size is exactly BUF_SMALL or BUF_LARGE bytes of payload.  Aborts when out of memory. */
struct sl_buf *buf_take(struct sl_loop *loop, unsigned size);

static inline size_t
buf_room(const struct sl_buf *b)
{
    return b->size - b->end;
}

static inline size_t
buf_used(const struct sl_buf *b)
{
    return b->end - b->begin;
}

/* Makes room in the buffer that is read into, which may be NULL before.  What is not used up
 * stays in front of it, in another buffer where this one is full; a used-up one gives way to one
 * of `size` when it is smaller or has less room than `least`.  Others may hold bytes of it, but never
 * those behind its end. */
void buf_make_more_room(struct sl_loop *loop, struct sl_buf **bufp, size_t least, unsigned size);
/* Moves what is not used up to the front of a large buffer. */
void buf_move(struct sl_loop *loop, struct sl_buf **bufp);

static inline void
buf_make_room(struct sl_loop *loop, struct sl_buf **bufp, size_t least, unsigned size)
{
    if (*bufp == NULL)
        *bufp = buf_take(loop, size);
    else
        buf_make_more_room(loop, bufp, least, size);
}

#endif
