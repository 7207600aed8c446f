/* The generic cell rate algorithm in whole numbers.
 *
 * A rate of n requests in P ms has ticks of 1/n ms: then a request costs P ticks and the clock
 * runs n ticks a ms, both without a remainder.  A key is one number, its theoretical arrival
 * time (tat): when its debts will be paid.  How far it lies ahead of now is the debt, and one
 * more request is admitted while the debt is not beyond the tolerance (burst times the cost).
 *
 * Times stand on a ring of 40 bits, so that a tat fits into a word beside its key.  One that
 * lies further ahead than any debt can be (`most`) is a paid one of long ago. */
#ifndef RATELIMIT_GCRA_H
#define RATELIMIT_GCRA_H

#include <stdint.h>

#define RING_BITS 40
#define RING_MASK ((UINT64_C(1) << RING_BITS) - 1)
/* Debts are small on the ring, or those of long ago would be taken for some. */
#define RING_DEBT_MAX (UINT64_C(1) << 36)
#define RATE_MAX 1000000
#define CLOCKS_APART_MS 1000 /* a thread reads the clock once a turn of its loop */

struct rate {
    uint32_t n;         /* requests, or parts of one, */
    uint32_t period_ms; /* in so many ms; the two have no common divisor */
};

/* 10r/s, 600r/m, 50r/h, 1000r/d.  NULL or a phrase. */
const char *rate_parse(const char *text, struct rate *rate);

static inline uint64_t
rate_ticks(const struct rate *rate, int64_t now_ms)
{
    return (uint64_t)now_ms * rate->n & RING_MASK;
}

/* In ms, rounded up. */
static inline int64_t
rate_ms(const struct rate *rate, uint64_t ticks)
{
    return (int64_t)((ticks + rate->n - 1) / rate->n);
}

struct gcra {
    uint64_t cost;      /* of one request */
    uint64_t tolerance; /* debt with which one more is admitted */
    uint64_t most;      /* no debt of the key is larger */
};

/* The debt. */
static inline uint64_t
gcra_ahead(uint64_t tat, uint64_t now, uint64_t most)
{
    uint64_t ahead = (tat - now) & RING_MASK;

    return ahead <= most ? ahead : 0;
}

static inline uint64_t
gcra_tat(uint64_t now, uint64_t ahead)
{
    return (now + ahead) & RING_MASK;
}

/* How old a tat is: the larger, the less is lost with it. */
static inline uint64_t
gcra_age(uint64_t tat, uint64_t now, uint64_t most)
{
    return (now + most - tat) & RING_MASK;
}

/* Requests that would be admitted at once with this debt. */
uint64_t gcra_remaining(const struct gcra *g, uint64_t ahead);
/* Ticks until one is; 0: now. */
uint64_t gcra_wait(const struct gcra *g, uint64_t ahead);

#endif
