/* Buffers: see buf.h.  Their stride is no multiple of a page, so that the hot first lines
 * of many buffers do not fall into the same cache sets. */
#include "net/buf.h"

#include "event/loop.h"
#include "runtime/poison.h"

#include <stdlib.h>

#define KEPT_SMALL 1024
#define KEPT_LARGE 64

static struct buf_list *
buf_list_of(struct sl_loop *loop, unsigned size)
{
    return &loop->bufs[size == BUF_LARGE];
}

static struct sl_buf *
buf_make(unsigned size)
{
    struct sl_buf *b = malloc(sizeof *b + size);

    SL_ASSERT(b != NULL);
    b->size = size;
    return b;
}

struct sl_buf *
buf_take(struct sl_loop *loop, unsigned size)
{
    struct buf_list *list = buf_list_of(loop, size);
    struct sl_buf *b = list->free;

    if (b != NULL) {
        list->free = b->next;
        list->n--;
        unpoison(b->bytes, b->size);
    } else
        b = buf_make(size);
    b->loop = loop;
    b->n_refs = 1;
    b->begin = b->end = 0;
    return b;
}

void
buf_move(struct sl_loop *loop, struct sl_buf **bufp)
{
    struct sl_buf *old = *bufp;

    *bufp = buf_take(loop, BUF_LARGE);
    memcpy((*bufp)->bytes, old->bytes + old->begin, buf_used(old));
    (*bufp)->end = (unsigned)buf_used(old);
    sl_buf_drop(&old);
}

void
buf_make_more_room(struct sl_loop *loop, struct sl_buf **bufp, size_t least, unsigned size)
{
    struct sl_buf *old = *bufp;

    if (buf_used(old) == 0 && old->n_refs == 1)
        old->begin = old->end = 0;
    if (buf_used(old) == 0 && (buf_room(old) < least || old->size < size)) {
        sl_buf_drop(bufp);
        *bufp = buf_take(loop, size);
        return;
    }
    if (buf_room(old) == 0)
        buf_move(loop, bufp);
}

void
sl_buf_hold(struct sl_buf *buf)
{
    buf->n_refs++;
}

void
sl_buf_drop(struct sl_buf **bufp)
{
    struct sl_buf *b = *bufp;
    struct buf_list *list;

    *bufp = NULL;
    SL_ASSERT(b->n_refs > 0);
    if (--b->n_refs > 0)
        return;
    list = buf_list_of(b->loop, b->size);
    if (list->n >= (b->size == BUF_LARGE ? KEPT_LARGE : KEPT_SMALL)) {
        free(b);
        return;
    }
    b->next = list->free;
    list->free = b;
    list->n++;
    poison(b->bytes, b->size);
}

void
bufs_end(struct sl_loop *loop)
{
    unsigned i;

    for (i = 0; i < 2; i++)
        while (loop->bufs[i].free != NULL) {
            struct sl_buf *b = loop->bufs[i].free;

            loop->bufs[i].free = b->next;
            unpoison(b->bytes, b->size);
            free(b);
        }
}
