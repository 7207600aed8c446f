/* See files.h. */
#include "master/files.h"

#include "sluice/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A descriptor of its own for each generation: they would share a place in the file. */
static void
user_update(const struct watched *f, struct file_user *u)
{
    int64_t stamp;
    int fd = file_open(f->path, &stamp);
    struct message m;

    if (fd < 0)
        return; /* gone already: the next look says so */
    message_make(&m, MSG_CHANGED, NULL);
    m.number = u->number;
    if (stamp != u->stamp && generation_send(u->g, &m, fd) == 0)
        u->stamp = stamp;
    close(fd);
}

static void
file_changed(struct watched *f, void *ctx)
{
    struct file_user *u;

    (void)ctx;
    sl_log(SL_NOTICE, "SL0253", "%s has changed", f->path);
    for (u = f->owner; u != NULL; u = u->next)
        if (u->g->is_ready)
            user_update(f, u);
}

void
files_open(struct watch *files)
{
    watch_open(files, file_changed, NULL);
}

int
files_add(struct watch *files, struct generation *g, const struct message *m)
{
    struct file_user *u = calloc(1, sizeof *u);
    struct watched *f;

    for (f = files->files; f != NULL && strcmp(f->path, m->text) != 0; f = f->next)
        ;
    if (u != NULL && f == NULL)
        f = watch_add(files, m->text, m->number);
    if (u == NULL || f == NULL) {
        free(u);
        sl_log(SL_ERROR, "SL0254", "%s is not watched: %s", m->text, strerror(ENOMEM));
        return -1;
    }
    *u = (struct file_user){.next = f->owner, .g = g, .number = m->port, .stamp = m->number};
    f->owner = u;
    return 0;
}

void
files_ready(struct watch *files, const struct generation *g)
{
    const struct watched *f;
    struct file_user *u;

    for (f = files->files; f != NULL; f = f->next)
        for (u = f->owner; u != NULL; u = u->next)
            if (u->g == g && u->stamp != f->stamp)
                user_update(f, u);
}

static struct file_user *
users_without(struct file_user *first, const struct generation *g)
{
    struct file_user **at = &first, *u;

    while ((u = *at) != NULL)
        if (u->g == g) {
            *at = u->next;
            free(u);
        } else
            at = &u->next;
    return first;
}

void
files_release(struct watch *files, const struct generation *g)
{
    struct watched *f, *next;

    for (f = files->files; f != NULL; f = next) {
        next = f->next;
        f->owner = users_without(f->owner, g);
        if (f->owner == NULL)
            watch_remove(files, f);
    }
}
