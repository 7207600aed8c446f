/* Descriptors of modules' libraries: an io of the loop's, level-triggered.  One that is forgotten
 * stays to the end of the turn, so no event of the same batch finds it freed. */
#include "sluice/descriptor.h"

#include "event/loop.h"

#include <stdlib.h>

struct sl_descriptor {
    struct io io; /* first */
    struct sl_loop *loop;
    sl_descriptor_f *ready;
    void *data;
};

static void
descriptor_ready(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct sl_descriptor *d = (struct sl_descriptor *)(void *)io;

    if (what & SL_HANGUP)
        what = SL_READABLE | SL_WRITABLE;
    d->ready(loop, io->fd, what, d->data);
}

static uint32_t
events_of(unsigned what)
{
    return (what & SL_READABLE ? EPOLLIN : 0u) | (what & SL_WRITABLE ? EPOLLOUT : 0u);
}

struct sl_descriptor *
sl_descriptor_watch(struct sl_loop *loop, int fd, unsigned what, sl_descriptor_f *ready, void *data)
{
    struct sl_descriptor *d = calloc(1, sizeof *d);
    struct epoll_event ev = {.events = events_of(what), .data.ptr = d};

    if (d == NULL)
        return NULL;
    d->io.fd = fd;
    d->io.on_ready = descriptor_ready;
    d->loop = loop;
    d->ready = ready;
    d->data = data;
    if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &ev) == 0)
        return d;
    free(d);
    return NULL;
}

void
sl_descriptor_want(struct sl_descriptor *d, unsigned what)
{
    struct epoll_event ev = {.events = events_of(what), .data.ptr = d};

    epoll_ctl(d->loop->epfd, EPOLL_CTL_MOD, d->io.fd, &ev);
}

void
sl_descriptor_forget(struct sl_descriptor **dp)
{
    struct sl_descriptor *d = *dp;

    *dp = NULL;
    loop_unwatch(d->loop, &d->io);
    loop_bury(d->loop, &d->io);
}

int
descriptor_release(struct io *io)
{
    if (io->on_ready != descriptor_ready)
        return 0;
    free(io);
    return 1;
}
