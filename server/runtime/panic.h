/* Where a thread is when it crashes. */
#ifndef RUNTIME_PANIC_H
#define RUNTIME_PANIC_H

#include "sluice/req.h"

/* All NULL outside hooks: set before a hook runs, cleared after it. */
struct panic_place {
    const char *module, *hook;
    struct sl_req *request;
};

extern _Thread_local struct panic_place panic_place;

/* From now on a crash writes module, hook and request to the error log before it ends the
 * process as it would have. */
void panic_watch(void);

#endif
