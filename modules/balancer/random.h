/* Random numbers that decide nothing but shares: one generator a thread, seeded once. */
#ifndef BALANCER_RANDOM_H
#define BALANCER_RANDOM_H

#include "sluice/loop.h"

/* xorshift64*, Vigna 2016. */
static inline uint64_t
random_next(void)
{
    static _Thread_local uint64_t state;

    while (state == 0)
        sl_random_bytes(&state, sizeof state);
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

/* 0 .. n-1; n is at least 1. */
static inline unsigned
random_below(unsigned n)
{
    return (unsigned)((random_next() >> 32) * n >> 32);
}

#endif
