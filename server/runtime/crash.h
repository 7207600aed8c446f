/* Where a thread is when it crashes. */
#ifndef RUNTIME_CRASH_H
#define RUNTIME_CRASH_H

#include "config/scope.h"

/* The hook that runs, NULL outside hooks, and the request it runs for, NULL for none; or the
 * command of the control socket. */
struct crash_place {
    const struct hook_call *call;
    struct sl_req *request;
    const char *command;
};

extern _Thread_local struct crash_place crash_place;

/* From now on a crash writes module, hook and request to the error log before it ends the
 * process as it would have. */
void crash_watch(void);
/* On each thread: a crash by an exhausted stack is reported, too. */
void crash_thread_watch(void);

#endif
