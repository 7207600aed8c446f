/* A limit in the words of draft-ietf-httpapi-ratelimit-headers-10.  A policy is "q requests at
 * once, and q in w seconds": the burst and one, which at this rate is whole again after w. */
#include "told.h"

#include <inttypes.h>
#include <stdio.h>

#define MS 1000

int64_t
told_seconds(int64_t ms)
{
    return (ms + MS - 1) / MS;
}

size_t
told_policy(const struct told *t, char *to, size_t n)
{
    uint64_t quota = gcra_remaining(&t->gcra, 0);

    return (size_t)snprintf(to, n, "\"%s\";q=%" PRIu64 ";w=%" PRId64, t->name, quota,
                            told_seconds(rate_ms(t->rate, quota * t->gcra.cost)));
}

/* t: until the quota is whole again; when nothing is left of it, until something is, which is
 * what Retry-After says, too. */
size_t
told_state(const struct told *t, char *to, size_t n)
{
    uint64_t left = gcra_remaining(&t->gcra, t->ahead);
    uint64_t ticks = left > 0 ? t->ahead : gcra_wait(&t->gcra, t->ahead);

    return (size_t)snprintf(to, n, "\"%s\";r=%" PRIu64 ";t=%" PRId64, t->name, left,
                            told_seconds(rate_ms(t->rate, ticks)));
}
