/* What the operator said at run time: the master writes it to StateDir for the worker that serves,
 * which has no right to.  Nothing of it is remembered here: the file is what there is. */
#ifndef MASTER_OVERRIDES_H
#define MASTER_OVERRIDES_H

#include "master/state.h"

/* Answers MSG_KEEP, when all is on the disk.  The only wait of the master: a few ms, when somebody
 * has given a command. */
void overrides_answer(const struct master *ma, const struct generation *g,
                      const struct message *asked);

/* Answers MSG_STATE. */
void overrides_lend(const struct generation *g);

#endif
