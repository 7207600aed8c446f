/* The first steps of a client's connection; see greeting.c. */
#ifndef NET_GREETING_H
#define NET_GREETING_H

#include "net/conn.h"

/* A connection that ends before it had a protocol: drops what was read of it. */
void greeting_forget(struct sl_conn *c);

#endif
