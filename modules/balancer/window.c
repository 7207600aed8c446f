#include "window.h"

#define COUNT_BITS 20
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)
#define NUMBER_MASK ((UINT64_C(1) << 24) - 1)

static uint64_t
part_number(int64_t part_ms, int64_t now_ms)
{
    return (uint64_t)(now_ms / part_ms) & NUMBER_MASK;
}

/* A part that is full counts no more: the share in it is known well enough. */
void
window_count(_Atomic(uint64_t) *parts, int64_t part_ms, int64_t now_ms, int has_failed)
{
    uint64_t number = part_number(part_ms, now_ms);
    _Atomic(uint64_t) *part = &parts[number % SL_WINDOW_PARTS];
    uint64_t old = atomic_load_explicit(part, memory_order_relaxed), word;

    do {
        word = old >> 2 * COUNT_BITS == number ? old : number << 2 * COUNT_BITS;
        if ((word >> COUNT_BITS & COUNT_MASK) == COUNT_MASK)
            return;
        word += (UINT64_C(1) << COUNT_BITS) + (has_failed ? 1 : 0);
    } while (!atomic_compare_exchange_weak_explicit(part, &old, word, memory_order_relaxed,
                                                    memory_order_relaxed));
}

struct window_sum
window_sum(const _Atomic(uint64_t) *parts, int64_t part_ms, int64_t now_ms)
{
    uint64_t number = part_number(part_ms, now_ms);
    struct window_sum sum = {0, 0};
    unsigned i;

    for (i = 0; i < SL_WINDOW_PARTS; i++) {
        uint64_t word = atomic_load_explicit(&parts[i], memory_order_relaxed);

        if (((number - (word >> 2 * COUNT_BITS)) & NUMBER_MASK) >= SL_WINDOW_PARTS)
            continue;
        sum.n += (unsigned)(word >> COUNT_BITS & COUNT_MASK);
        sum.n_failed += (unsigned)(word & COUNT_MASK);
    }
    return sum;
}

void
window_clear(_Atomic(uint64_t) *parts)
{
    unsigned i;

    for (i = 0; i < SL_WINDOW_PARTS; i++)
        atomic_store_explicit(&parts[i], 0, memory_order_relaxed);
}
