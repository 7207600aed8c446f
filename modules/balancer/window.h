/* How many of a server's attempts failed of late: a window of eight parts that slides by one
 * part.  Each part is one word, so it is counted without a lock:
 *
 *   63..40 the part's number since the clock began    39..20 attempts    19..0 failures */
#ifndef BALANCER_WINDOW_H
#define BALANCER_WINDOW_H

#include "sluice/upstream.h"

struct window_sum {
    unsigned n, n_failed;
};

/* Counts one attempt. */
void window_count(_Atomic(uint64_t) *parts, int64_t part_ms, int64_t now_ms, int has_failed);
struct window_sum window_sum(const _Atomic(uint64_t) *parts, int64_t part_ms, int64_t now_ms);
void window_clear(_Atomic(uint64_t) *parts);

#endif
