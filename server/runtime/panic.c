/* A programmer's error ends the process with a report that says where. */
#include "runtime/log.h"

#include "runtime/panic.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void
sl_panic(const char *file, int line, const char *func, const char *what)
{
    int fd = log_descriptor();

    dprintf(fd >= 0 ? fd : STDERR_FILENO, "sluice[%d] panic: %s failed in %s(), %s:%d\n",
            (int)getpid(), what, func, file, line);
    abort();
}

int
pool_exhausted(int error)
{
    (void)error;
    sl_panic("apr_pool", 0, "apr_palloc", "memory");
}
