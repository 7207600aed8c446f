/* Random bytes from the kernel. */
#include "sluice/loop.h"

#include <sys/random.h>

void
sl_random_bytes(void *to, size_t n)
{
    char *at = to;

    while (n > 0) {
        ssize_t k = getrandom(at, n, 0);

        SL_ASSERT(k > 0);
        at += k;
        n -= (size_t)k;
    }
}
