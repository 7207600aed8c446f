/* The worker's side of sluice/override.h.  The file is read by config/overrides.c and written by
 * master/overrides.c, which is asked over the channel. */
#ifndef OVERRIDES_H
#define OVERRIDES_H

#include "worker.h"

/* Tells the master which folder it is, and the log what is wrong with the file.  0 or -1. */
int overrides_announce(struct sl_worker *w);
/* MSG_KEPT: why is empty when it was done. */
void overrides_answered(unsigned number, const char *why);
/* No answer comes any more. */
void overrides_close(void);

#endif
