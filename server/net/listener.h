/* Listening sockets: opened by the master (or by -XX), accepted from by the worker. */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "worker.h"

/* Opens, binds and listens: at an address of the family and a port, or at the path of a Unix
 * socket.  The descriptor, or -1 and a phrase in why. */
int listener_open(int family, const char *address, int port, int backlog, char *why, size_t n);
/* Where clients speak first in all protocols, a connection is accepted when their first bytes
 * are there: one wake-up less.  One that stays silent is accepted after a second. */
void listener_defer(const struct listener *l);
/* The address part of a Listen line as listener_open() wants it. */
const char *listener_address(const struct listen_conf *l, char *to, size_t n);

/* On a loop's thread. */
/* A connection that was accepted, here or in another worker: goes to a thread. */
void accept_one(struct sl_loop *loop, struct listener *l, int fd, const struct sl_sockaddr *peer);
/* May be called again after a stop. */
void acceptor_start(struct sl_loop *loop, struct acceptor *a, struct listener *l);
void acceptor_stop(struct sl_loop *loop, struct acceptor *a);

#endif
