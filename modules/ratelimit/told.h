/* What a limit tells clients, in words; pure. */
#ifndef RATELIMIT_TOLD_H
#define RATELIMIT_TOLD_H

#include "gcra.h"

#include <stddef.h>

/* One RateLimit that a request met and that tells its clients. */
struct told {
    const char *name;
    const struct rate *rate;
    struct gcra gcra;
    uint64_t ahead; /* the debt with this request */
};

int64_t told_seconds(int64_t ms); /* rounded up */
/* A member of RateLimit-Policy, and of RateLimit; returns its length, as snprintf(). */
size_t told_policy(const struct told *told, char *to, size_t n);
size_t told_state(const struct told *told, char *to, size_t n);

#endif
