/* A descriptor that a module's library has opened, watched by a loop: for clients of other
 * services, such as a resolver.  Connections have their own way (sluice/net.h). */
#ifndef SLUICE_DESCRIPTOR_H
#define SLUICE_DESCRIPTOR_H

#include "sluice/net.h"

struct sl_descriptor;

/* ready() is called on the loop's thread with SL_READABLE, SL_WRITABLE, or both; an error counts
 * as both.  As long as there is something to do it is called again (level-triggered). */
typedef void sl_descriptor_f(struct sl_loop *loop, int fd, unsigned what, void *data);

/* The loop's thread, or before the loop runs; `what` is wanted.  The descriptor stays the
 * caller's.  NULL: no memory, or the kernel refuses. */
struct sl_descriptor *sl_descriptor_watch(struct sl_loop *loop, int fd, unsigned what,
                                          sl_descriptor_f *ready, void *data);
void sl_descriptor_want(struct sl_descriptor *d, unsigned what);
/* Before the descriptor is closed. */
void sl_descriptor_forget(struct sl_descriptor **d);

#endif
