/* A programmer's error ends the process with a report that says where. */
#include "runtime/log.h"

#include "runtime/panic.h"

#include <stdio.h>
#include <stdlib.h>

void
sl_panic(const char *file, int line, const char *func, const char *what)
{
    char text[512];

    snprintf(text, sizeof text, "panic: %s failed in %s(), %s:%d", what, func, file, line);
    log_write_last(SL_ERROR, "SL0331", NULL, sl_span(text));
    abort();
}

int
pool_exhausted(int error)
{
    (void)error;
    sl_panic("apr_pool", 0, "apr_palloc", "memory");
}
