/* See file.h.  The list is written before the threads start and read by thread 0 afterwards. */
#include "runtime/file.h"

#include "channel.h"
#include "event/loop.h"
#include "runtime/watch.h"

#include "sluice/file.h"
#include "sluice/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct wanted {
    char *path;
    int64_t stamp; /* of what was opened */
    sl_file_changed_f *changed;
    void *ctx;
} *wanted;
static unsigned n_wanted;
static int is_complete; /* no more may be added */

static struct own_watch {
    struct io io; /* first: what the loop gives back */
    struct sl_timer timer;
    struct watch watch;
    int is_open;
} own;

static struct wanted *
wanted_add(const char *path)
{
    struct wanted *more = realloc(wanted, (n_wanted + 1) * sizeof *more);

    if (more == NULL)
        return NULL;
    wanted = more;
    wanted[n_wanted].path = strdup(path);
    return wanted[n_wanted].path != NULL ? &wanted[n_wanted++] : NULL;
}

int
sl_file_open(const char *path, sl_file_changed_f *changed, void *ctx)
{
    struct wanted *file;
    int64_t stamp;
    int fd;

    if (is_complete || strlen(path) >= CHANNEL_TEXT) {
        errno = is_complete ? EPERM : ENAMETOOLONG;
        return -1;
    }
    fd = file_open(path, &stamp);
    if (fd < 0)
        return -1;
    file = wanted_add(path);
    if (file == NULL) {
        close(fd);
        errno = ENOMEM;
        return -1;
    }
    file->stamp = stamp;
    file->changed = changed;
    file->ctx = ctx;
    return fd;
}

void
watched_changed(unsigned number, int fd)
{
    if (fd < 0)
        return;
    if (number < n_wanted)
        wanted[number].changed(fd, wanted[number].ctx);
    else
        close(fd);
}

/* ---- without a master ---- */

static void
own_changed(struct watched *f, void *ctx)
{
    struct wanted *file = f->owner;
    int fd = file_open(f->path, &file->stamp);

    (void)ctx;
    watched_changed((unsigned)(file - wanted), fd);
}

static int
own_open(void)
{
    unsigned i;

    watch_open(&own.watch, own_changed, NULL);
    own.is_open = 1;
    for (i = 0; i < n_wanted; i++) {
        struct watched *f = watch_add(&own.watch, wanted[i].path, wanted[i].stamp);

        if (f == NULL)
            return -1;
        f->owner = &wanted[i];
    }
    return 0;
}

static void
own_run(struct sl_loop *loop, struct sl_timer *timer)
{
    watch_run(&own.watch, loop->now_ms);
    sl_timer_set(loop, timer, watch_next(&own.watch));
}

static void
own_ready(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct own_watch *o = (struct own_watch *)(void *)io;

    (void)what;
    watch_events(&o->watch, loop->now_ms);
    own_run(loop, &o->timer);
}

void
watched_run(struct sl_loop *loop)
{
    if (!own.is_open || n_wanted == 0)
        return;
    own.io = (struct io){.fd = own.watch.fd, .on_ready = own_ready};
    own.timer.fn = own_run;
    if (own.io.fd >= 0)
        loop_watch_listener(loop, &own.io);
    sl_timer_set(loop, &own.timer, loop->now_ms + 1);
}

/* ---- from start to end ---- */

int
watched_announce(int channel)
{
    struct message m;
    unsigned i;

    is_complete = 1;
    if (channel < 0)
        return n_wanted > 0 ? own_open() : 0;
    for (i = 0; i < n_wanted; i++) {
        message_make(&m, MSG_WATCH, wanted[i].path);
        m.port = (int32_t)i;
        m.number = wanted[i].stamp;
        if (channel_send(channel, &m, -1) != 0)
            return -1;
    }
    return 0;
}

void
watched_close(void)
{
    if (own.is_open)
        watch_close(&own.watch);
    own.is_open = 0;
    while (n_wanted > 0)
        free(wanted[--n_wanted].path);
    free(wanted);
    wanted = NULL;
}
