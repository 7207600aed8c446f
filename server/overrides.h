/* The worker's side of sluice/override.h.  The file is read by config/overrides.c and written by
 * master/overrides.c, which is asked over the channel. */
#ifndef OVERRIDES_H
#define OVERRIDES_H

#include "worker.h"

/* From here on modules may keep something; tells the log what is wrong with the file. */
void overrides_begin(struct sl_worker *w);
/* As late as can be while this process starts: what was said since the configuration was read counts,
 * too.  0, or -1: the master does not answer. */
int overrides_follow(void);
/* MSG_KEPT: why is empty when it was done. */
void overrides_answered(unsigned number, const char *why);
/* Whether an answer is still to come. */
int overrides_are_asked(void);
/* No answer comes any more. */
void overrides_close(void);

#endif
