/* An assertion of the code under test that does not hold ends the driver, which libFuzzer reports. */
#ifndef PANIC_DOUBLE_H
#define PANIC_DOUBLE_H

#include <stdio.h>
#include <stdlib.h>

_Noreturn void
sl_panic(const char *file, int line, const char *func, const char *what)
{
    fprintf(stderr, "%s:%d %s: %s\n", file, line, func, what);
    abort();
}

#endif
