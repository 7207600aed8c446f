/* How many lines failures of clients make; sl_conn_failure_has_line() is for modules, too. */
#ifndef NET_FAILURES_H
#define NET_FAILURES_H

#include "event/loop.h"

/* Thread 0's, before it runs. */
void failures_open(struct sl_loop *loop);
/* No thread runs any more: tells what has not been told. */
void failures_close(void);

#endif
