/* The clients of the control socket, as the master sees them: it waits for none of them.  Each is
 * one command long:
 *
 *   its line comes -> taken -> answered, now or later -> what is left of the answer is sent
 *
 * Once taken, a client is known by its descriptor, which control_print() and control_exit() (see
 * control.h) are given; a descriptor of the master before, too. */
#ifndef MASTER_CLIENTS_H
#define MASTER_CLIENTS_H

#include <poll.h>
#include <stdint.h>

#define CLIENTS_MAX 128

/* Before anything else: the descriptor that is kept for when there is none. */
void clients_open(void);
/* Whether the listener is to be looked at.  No: descriptors have run out, for a moment. */
int clients_may_come(int64_t now);
/* It is readable: accepts all who wait. */
void clients_accept(int listener, int64_t now);
/* Those the master has to be woken for; at most CLIENTS_MAX.  How many. */
nfds_t clients_poll(struct pollfd *fds);
/* Reads and writes what goes at once, and drops who has been silent too long. */
void clients_run(int64_t now);
/* ms; when clients_run() or clients_may_come() has something to say without an event; 0: never. */
int64_t clients_next(void);
/* One whose line is there, or its beginning: it goes to line, of CONTROL_TAKEN_MAX bytes, with its
 * "\n" if that was read.  Its descriptor, the caller's to end by control_exit() or client_pass();
 * -1: no more. */
int clients_take(char *line);
/* Another process answers now: it is forgotten here, and its descriptor closed. */
void client_pass(int *client);

#endif
