/* Clients that stay with a server: see sticky.c. */
#ifndef BALANCER_STICKY_H
#define BALANCER_STICKY_H

#include "sluice/module.h"

struct sticky;

/* Sticky, the arguments of the line: NULL or a phrase. */
const char *sticky_parse_line(struct sl_cmd *cmd, struct sticky **sticky);
/* All servers are known; again when some have come or gone.  0, or -1: no memory. */
int sticky_ready(struct sticky *st, const struct sl_pool *pool);
/* The server the request belongs to; NULL: none, or it cannot be used, which the log is told. */
struct sl_server *sticky_select(struct sticky *st, struct sl_pool *pool, struct sl_attempt *a);
/* Gives the client the cookie of the attempt's server, unless it has it. */
void sticky_answer(const struct sticky *st, struct sl_attempt *a);

#endif
