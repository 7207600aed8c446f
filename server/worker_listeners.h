/* The listeners of a worker: w->listeners, one for each Listen line, in the worker's pool. */
#ifndef WORKER_LISTENERS_H
#define WORKER_LISTENERS_H

#include "worker.h"

/* From the configuration, none open: for -t, too. */
void worker_listeners_make(struct sl_worker *w);
/* One that no Listen line asks for: for a dry run. */
struct listener *worker_listener_assumed(struct sl_worker *w, apr_pool_t *pool,
                                         const struct listen_conf *conf);
/* An error of the configuration for each protocol, in any scope, that no loaded module speaks. */
void worker_protocols_check(struct sl_worker *w);
/* Before the threads: asks the master for each, or, without one, opens it.  0, or -1 with errors
 * of the configuration. */
int worker_listeners_open(struct sl_worker *w);
/* A port that nobody listens at any more is free.  From any thread: closes, once, when no thread
 * accepts and the worker leaves; both may be noticed at the same time. */
void worker_listeners_close(struct sl_worker *w);

#endif
