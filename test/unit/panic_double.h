/* An assertion of the code under test that does not hold fails the test. */
#ifndef PANIC_DOUBLE_H
#define PANIC_DOUBLE_H

_Noreturn void
sl_panic(const char *file, int line, const char *func, const char *what)
{
    (void)file;
    (void)line;
    (void)func;
    fail_msg("%s", what);
    abort();
}

#endif
