/* The worker's side of sl_file_open(): the files its modules want again when they change.  The
 * master watches them and sends descriptors; without one the worker watches by itself. */
#ifndef RUNTIME_FILE_H
#define RUNTIME_FILE_H

struct sl_loop;

/* The last file was opened.  Tells the master all of them, or, channel -1, begins to watch them:
 * both before the privileges are dropped.  0 or -1. */
int watched_announce(int channel);
/* MSG_CHANGED: on thread 0.  Takes fd over. */
void watched_changed(unsigned number, int fd);
/* Without a master: from now on, thread 0's loop looks. */
void watched_run(struct sl_loop *loop);
void watched_close(void);

#endif
