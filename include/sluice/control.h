/* Commands of modules for the operator: `sluice ctl limit top login`. */
#ifndef SLUICE_CONTROL_H
#define SLUICE_CONTROL_H

#include "sluice/base.h"

/* One command under way, until sl_control_end(). */
struct sl_control_call;

/* Provider group "control", registered under the command's name ("limit"). */
struct sl_control_command {
    const char *usage; /* "top|show|clear ZONE [KEY]", for sluice ctl help; one line */
    const char *help;  /* what it does, one line */
    /* On thread 0's loop of the generation that serves; argv without the command's name.  Ends
     * the call, at once or later, on the same thread. */
    void (*run)(struct sl_control_call *call, int argc, const char *const *argv);
};

apr_pool_t *sl_control_pool(struct sl_control_call *call); /* until its end */
int sl_control_wants_json(const struct sl_control_call *call); /* --json was given */
/* Collects a piece of the answer, of which 4 MiB may be; it is sent at the end. */
void sl_control_print(struct sl_control_call *call, const char *fmt, ...) SL_PRINTF(2, 3);
/* Exit status of the command: 0, 1 (not done, and why was printed), 2 (usage). */
void sl_control_end(struct sl_control_call **call, int status);

#endif
