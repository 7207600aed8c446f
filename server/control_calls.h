/* The commands of modules for the operator, on thread 0. */
#ifndef CONTROL_CALLS_H
#define CONTROL_CALLS_H

#include "event/loop.h"

/* Takes over fd, a client of the control socket, and with it the command that begins with text:
 * its line may still be on the way. */
void control_call_take(struct sl_loop *loop, const char *text, int fd);
/* The loop runs no more: whoever waits is told that the generation has ended. */
void control_calls_close(void);

#endif
