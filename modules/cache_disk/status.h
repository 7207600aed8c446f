/* What answers say of the cache: Cache-Status (RFC 9211).  Text is written from its end on, as
 * numbers are: each hit needs two, for which printf is slow. */
#ifndef CACHE_STATUS_H
#define CACHE_STATUS_H

#include "cache.h"

static inline char *
text_before(char *at, struct sl_span text)
{
    at -= text.n;
    memcpy(at, text.at, text.n);
    return at;
}

static inline char *
number_before(char *at, int64_t number)
{
    uint64_t n = number < 0 ? -(uint64_t)number : (uint64_t)number;

    do
        *--at = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    if (number < 0)
        *--at = '-';
    return at;
}

/* The value, of what is answered from the store or has just come into it: its begin.  There is room
 * for STATUS_MAX before `at`. */
#define STATUS_MAX 96
char *status_before(char *at, const struct visit *v);
/* The value, of what came by; v NULL: the cache has nothing to do with the method. */
struct sl_span status_passed(const struct visit *v);

#endif
