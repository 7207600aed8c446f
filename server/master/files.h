/* The files that workers read again when they change: watched once, for all generations, and
 * sent to each that wants them.  A generation gets what differs from what it has, however it
 * came by that: started, restarted after a crash, or told of a change before. */
#ifndef MASTER_FILES_H
#define MASTER_FILES_H

#include "master/generation.h"
#include "runtime/watch.h"

/* A generation that wants a file. */
struct file_user {
    struct file_user *next;
    struct generation *g;
    int number;    /* its name between both sides */
    int64_t stamp; /* of the contents it has */
};

void files_open(struct watch *files);
/* MSG_WATCH.  0, or -1 without memory. */
int files_add(struct watch *files, struct generation *g, const struct message *m);
/* g serves from now on: it gets what has changed while it started. */
void files_ready(struct watch *files, const struct generation *g);
/* Its process is gone. */
void files_release(struct watch *files, const struct generation *g);

#endif
