/* Requests that wait for a server with room: see queue.c. */
#ifndef BALANCER_QUEUE_H
#define BALANCER_QUEUE_H

#include "sluice/module.h"

struct queue;

/* Queue; n waiting at most, in_flight 0: as many as the servers take.  priority NULL: all alike. */
struct queue *queue_make(apr_pool_t *pool, int64_t n, int64_t timeout_ms, int64_t in_flight,
                         struct sl_expr *priority);

/* Whether the attempt may pick now: its pool has room, and nobody has waited longer.  1 counts it
 * in the pool; queue_leave_place() gives the place back when no server was to be had. */
int queue_admits(struct queue *q, struct sl_attempt *a);
void queue_leave_place(struct queue *q);
/* It has a server: it waits no more. */
void queue_served(struct sl_attempt *a, void *waiter);
/* An attempt of the pool is over. */
void queue_room(struct queue *q);

/* As in struct sl_pool_owner. */
const struct sl_cause *queue_wait(struct queue *q, struct sl_attempt *a, struct sl_pool *pool);
void queue_leave(struct queue *q, struct sl_attempt *a);

unsigned queue_length(const struct queue *q);

#endif
