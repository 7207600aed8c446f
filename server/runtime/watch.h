/* Watching files for new contents: by inotify on their folders, so that renames count, and by
 * a look every two seconds for what inotify does not see (network file systems, a folder that
 * was replaced).  A change is told when the file has been left alone for a while, so that a
 * half-written one is seldom met.
 *
 * What a file is known by is its stamp: one number made of device, inode, size and time of
 * modification.  Not locked: one thread has a watch and all its files. */
#ifndef RUNTIME_WATCH_H
#define RUNTIME_WATCH_H

#include <stdint.h>

#define STAMP_NONE 0 /* there is nothing that can be opened */

struct watched {
    struct watched *next;
    char *path;
    void *owner;       /* of whoever watches */
    int folder;        /* inotify's number of its folder; -1: none */
    int64_t stamp;     /* as told last */
    int64_t candidate; /* seen since, and not told yet */
    int64_t since;     /* ms: when it ceased to be as told; 0: it is */
    int64_t due;       /* ms: when to look; 0: with all others */
};

typedef void watch_changed_f(struct watched *f, void *ctx);

struct watch {
    int fd; /* inotify's; -1: none, looking has to do */
    int64_t look_at; /* ms: the next look at all */
    struct watched *files;
    watch_changed_f *changed; /* f->stamp is new, and not STAMP_NONE; may not remove files */
    void *ctx;
};

/* A regular file, for reading; *stamp is that of the file it leads to.  -1 with errno, EINVAL
 * when it is none. */
int file_open(const char *path, int64_t *stamp);

void watch_open(struct watch *w, watch_changed_f *changed, void *ctx);
/* stamp: of what the caller has.  NULL: no memory. */
struct watched *watch_add(struct watch *w, const char *path, int64_t stamp);
void watch_remove(struct watch *w, struct watched *f);
/* w->fd is readable. */
void watch_events(struct watch *w, int64_t now);
/* Looks at what is due. */
void watch_run(struct watch *w, int64_t now);
/* When watch_run() has something to do, ms; 0: never. */
int64_t watch_next(const struct watch *w);
/* Looks at all, and tells at once what has changed. */
void watch_look_now(struct watch *w);
void watch_close(struct watch *w);

#endif
