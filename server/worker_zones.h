/* Zones of a worker: lent by the master, or its own without one. */
#ifndef WORKER_ZONES_H
#define WORKER_ZONES_H

#include "worker.h"

/* Before the hooks of post_config, with the configuration checked: from now on zones can be had,
 * counters have their rows and servers their places in the zones of pools.  0, or -1 with a
 * message in the log. */
int worker_zones_open(struct sl_worker *w);

#endif
