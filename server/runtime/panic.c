/* A programmer's error ends the process with a report that says where. */
#include "sluice/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void
sl_panic(const char *file, int line, const char *func, const char *what)
{
    fprintf(stderr, "sluice[%d] panic: %s failed in %s(), %s:%d\n", (int)getpid(), what, func,
            file, line);
    abort();
}
