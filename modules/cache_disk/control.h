/* Cache-Control and its kin, read (RFC 9111, 5.2; RFC 5861; RFC 9213).  Pure. */
#ifndef CACHE_CONTROL_H
#define CACHE_CONTROL_H

#include "sluice/base.h"

enum {
    CC_NO_STORE = 1,
    CC_NO_CACHE = 2,
    CC_PRIVATE = 4,
    CC_PUBLIC = 8,
    CC_MUST_REVALIDATE = 16,
    CC_PROXY_REVALIDATE = 32,
    CC_NO_TRANSFORM = 64,
    CC_ONLY_IF_CACHED = 128,
    CC_MUST_UNDERSTAND = 256,
    CC_IMMUTABLE = 512,
    CC_MAX_STALE_ANY = 1024, /* max-stale without a value */
};

#define CC_ABSENT INT64_C(-1)
#define CC_SECONDS_MAX INT64_C(2147483648) /* what is more counts as this (RFC 9111, 1.2.2) */

/* Times in seconds; CC_ABSENT: not said. */
struct cache_control {
    unsigned flags;
    int64_t max_age, s_maxage, max_stale, min_fresh, stale_while_revalidate, stale_if_error;
};

/* Members of all lines of the field, joined by commas; what is not known is skipped.  A time that
 * is no number, or said twice differently, counts as 0: the careful reading (RFC 9111, 4.2.1).
 * no-cache and private that name fields count as if they named none. */
struct cache_control cache_control_parse(struct sl_span field);

/* delta-seconds (RFC 9111, 1.2.2), CC_ABSENT when it is none. */
int64_t delta_seconds(struct sl_span text);
/* Seconds since the epoch of an HTTP-date in any of its three forms (RFC 9110, 5.6.7); CC_ABSENT
 * when it is none. */
int64_t http_date(struct sl_span text);

#endif
