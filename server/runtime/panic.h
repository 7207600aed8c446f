/* Where a thread is when it crashes. */
#ifndef RUNTIME_PANIC_H
#define RUNTIME_PANIC_H

#include "config/scope.h"

/* The hook that runs, NULL outside hooks, and the request it runs for, NULL for none. */
struct panic_place {
    const struct hook_call *call;
    struct sl_req *request;
};

extern _Thread_local struct panic_place panic_place;

/* From now on a crash writes module, hook and request to the error log before it ends the
 * process as it would have. */
void panic_watch(void);

#endif
