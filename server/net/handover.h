/* Idle connections between generations: the draining worker sends the descriptor, the one
 * that serves goes on with it.  Only plain sockets with nothing read can go. */
#ifndef NET_HANDOVER_H
#define NET_HANDOVER_H

#include "net/conn.h"

/* Whether an idle c could go: it need not be told that its connection closes. */
int conn_may_stay(const struct sl_conn *c);
/* c is idle and its worker drains: hands it over or closes it, now or when DrainIdle is over.
 * To be called again until it has gone. */
void conn_leave(struct sl_conn *c);

/* On thread 0 of the serving worker: takes the descriptor over and accepts what comes. */
void handover_take(struct sl_worker *w, int fd);

#endif
