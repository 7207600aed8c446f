/* See watch.h.  A file is as it was told (since 0), or it is not, and has a candidate that is
 * told when it stays the same for QUIET_MS, or at last after PATIENCE_MS. */
#include "runtime/watch.h"

#include "sluice/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS 2000
#define SOON_MS 50 /* what happens in a folder at once is looked at once */
#define QUIET_MS 200
#define PATIENCE_MS 2000
#define SEEN (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)

/* ---- stamps ---- */

/* FNV-1a. */
static uint64_t
mix(uint64_t hash, uint64_t value)
{
    int i;

    for (i = 0; i < 8; i++)
        hash = (hash ^ ((value >> (8 * i)) & 0xff)) * 0x100000001b3u;
    return hash;
}

static int64_t
stamp_of(const struct stat *st)
{
    uint64_t hash = 0xcbf29ce484222325u;

    hash = mix(hash, (uint64_t)st->st_dev);
    hash = mix(hash, (uint64_t)st->st_ino);
    hash = mix(hash, (uint64_t)st->st_size);
    hash = mix(hash, (uint64_t)st->st_mtim.tv_sec);
    hash = mix(hash, (uint64_t)st->st_mtim.tv_nsec);
    return hash != STAMP_NONE ? (int64_t)hash : 1;
}

int
file_open(const char *path, int64_t *stamp)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a pipe would wait */
    struct stat st;

    *stamp = STAMP_NONE;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *stamp = stamp_of(&st);
        return fd;
    }
    close(fd);
    errno = EINVAL;
    return -1;
}

static int64_t
stamp_at(const char *path)
{
    int64_t stamp;
    int fd = file_open(path, &stamp);

    if (fd >= 0)
        close(fd);
    return stamp;
}

/* ---- folders ---- */

static void
folder_unwatch(struct watch *w, int folder)
{
    const struct watched *f;

    for (f = w->files; f != NULL; f = f->next)
        if (f->folder == folder)
            return;
    if (folder >= 0)
        inotify_rm_watch(w->fd, folder);
}

/* A folder that was replaced has another number than before. */
static void
folder_watch(struct watch *w, struct watched *f)
{
    const char *slash = strrchr(f->path, '/');
    int before = f->folder;
    char *folder = slash == NULL ? strdup(".") : slash == f->path ? strdup("/")
                                 : strndup(f->path, (size_t)(slash - f->path));

    if (folder == NULL || w->fd < 0) {
        free(folder);
        return;
    }
    f->folder = inotify_add_watch(w->fd, folder, SEEN | IN_ONLYDIR);
    free(folder);
    if (f->folder != before)
        folder_unwatch(w, before);
}

/* ---- looking ---- */

static void
settle(struct watch *w, struct watched *f, int64_t stamp)
{
    int64_t before = f->stamp;

    f->stamp = stamp;
    f->since = f->due = 0;
    if (stamp == STAMP_NONE) {
        sl_log(SL_WARN, "SL0250", "%s: %s; what was read of it stays in use", f->path,
               errno == EINVAL ? "it is no regular file" : strerror(errno));
        return;
    }
    if (before == STAMP_NONE)
        sl_log(SL_NOTICE, "SL0251", "%s is there again", f->path);
    folder_watch(w, f);
    w->changed(f, w->ctx);
}

static void
look(struct watch *w, struct watched *f, int64_t now)
{
    int64_t stamp = stamp_at(f->path);

    f->due = 0;
    if (stamp == f->stamp) {
        f->since = 0;
        return;
    }
    if (f->since != 0 && (stamp == f->candidate || now - f->since >= PATIENCE_MS)) {
        settle(w, f, stamp);
        return;
    }
    if (f->since == 0)
        f->since = now;
    f->candidate = stamp;
    f->due = now + QUIET_MS;
}

void
watch_run(struct watch *w, int64_t now)
{
    struct watched *f;
    int all = now >= w->look_at;

    if (all)
        w->look_at = now + LOOK_MS;
    for (f = w->files; f != NULL; f = f->next) {
        if (f->due > 0 ? now >= f->due : all)
            look(w, f, now);
        if (all && f->folder < 0)
            folder_watch(w, f);
    }
}

void
watch_look_now(struct watch *w)
{
    struct watched *f;

    for (f = w->files; f != NULL; f = f->next) {
        int64_t stamp = stamp_at(f->path);

        if (stamp != f->stamp)
            settle(w, f, stamp);
    }
}

int64_t
watch_next(const struct watch *w)
{
    const struct watched *f;
    int64_t at = w->look_at;

    for (f = w->files; f != NULL; f = f->next)
        if (f->due > 0 && f->due < at)
            at = f->due;
    return w->files != NULL ? at : 0;
}

/* ---- what the kernel says ---- */

static void
event(struct watch *w, const struct inotify_event *e, int64_t now)
{
    struct watched *f;

    for (f = w->files; f != NULL; f = f->next) {
        if (f->folder != e->wd && !(e->mask & IN_Q_OVERFLOW))
            continue;
        if (e->mask & IN_IGNORED)
            f->folder = -1; /* the folder is gone: the next look at all finds its successor */
        if (f->due == 0)
            f->due = now + SOON_MS;
    }
}

void
watch_events(struct watch *w, int64_t now)
{
    union {
        struct inotify_event align;
        char bytes[4096];
    } buf;
    ssize_t n;
    char *at;

    while ((n = read(w->fd, buf.bytes, sizeof buf.bytes)) > 0)
        for (at = buf.bytes; at < buf.bytes + n;) {
            const struct inotify_event *e = (const void *)at;

            event(w, e, now);
            at += sizeof *e + e->len;
        }
}

/* ---- from start to end ---- */

void
watch_open(struct watch *w, watch_changed_f *changed, void *ctx)
{
    *w = (struct watch){.changed = changed, .ctx = ctx};
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->fd < 0)
        sl_log(SL_WARN, "SL0252", "no inotify: %s; files are looked at every %d s",
               strerror(errno), LOOK_MS / 1000);
}

struct watched *
watch_add(struct watch *w, const char *path, int64_t stamp)
{
    struct watched *f = calloc(1, sizeof *f);

    if (f == NULL || (f->path = strdup(path)) == NULL) {
        free(f);
        return NULL;
    }
    f->folder = -1;
    f->stamp = stamp;
    f->next = w->files;
    w->files = f;
    folder_watch(w, f);
    return f;
}

void
watch_remove(struct watch *w, struct watched *f)
{
    struct watched **at = &w->files;

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    folder_unwatch(w, f->folder);
    free(f->path);
    free(f);
}

void
watch_close(struct watch *w)
{
    while (w->files != NULL)
        watch_remove(w, w->files);
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}
