/* A programmer's error ends the process with a report that says where. */
#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Thread_local const char *panic_context;

void
sl_panic(const char *file, int line, const char *func, const char *what)
{
    fprintf(stderr, "sluice[%d] panic: %s failed in %s(), %s:%d%s%s\n", (int)getpid(), what, func,
            file, line, panic_context != NULL ? ", hook " : "",
            panic_context != NULL ? panic_context : "");
    abort();
}
