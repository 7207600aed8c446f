/* The serving threads of a worker, one loop each.  Thread 0 is the one that calls all of this,
 * and serves, too, in worker_threads_run(). */
#ifndef WORKER_THREADS_H
#define WORKER_THREADS_H

#include "worker.h"

/* Threads, or one for each processor. */
unsigned worker_threads_wanted(const struct config *c);
/* Loops, and what modules want of each thread; nothing runs yet.  0, or -1 with a message in the
 * log. */
int worker_threads_make(struct sl_worker *w);
/* All but the first, which is this one and runs in worker_threads_run().  0, or -1 with a message
 * in the log; some may run then. */
int worker_threads_start(struct sl_worker *w);
/* Serves, as thread 0, until all threads have ended. */
void worker_threads_run(struct sl_worker *w);
/* Closes the loops; no thread runs. */
void worker_threads_free(struct sl_worker *w);

/* From thread 0, while it runs: all threads finish what they have, within ms (-1: in their own
 * time).  Idle connections go to `handover`, taken over (-1: they are closed, the server stops;
 * CHANNEL_FD_LOST: they are closed after DrainIdle, as those that cannot go).
 * May be said again, with another receiver or for good. */
void worker_leave(struct sl_worker *w, int64_t ms, int handover);
/* From thread 0: nothing new is accepted until worker_resume(). */
void worker_standby(struct sl_worker *w);
/* From thread 0: ends a standby, if there is one. */
void worker_resume(struct sl_worker *w);
/* On the loop's thread: while the worker leaves, hands over or closes what is idle, and ends the
 * thread when nothing is left. */
void worker_drain_look(struct sl_loop *loop);

#endif
