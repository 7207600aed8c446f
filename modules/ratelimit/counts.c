/* See counts.h.
 *
 *   word   | 40 bits of the hash, never 0 | 24 bits count |
 *
 * Who has counted looks at the other words after that, and all of this is in one order: of two that
 * took different words at least one sees both. */
#include "counts.h"

#define COUNT_BITS 24
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

static uint64_t
count_tag(uint64_t hash)
{
    uint64_t tag = hash >> COUNT_BITS;

    return tag != 0 ? tag : 1;
}

/* In all words but one. */
static int64_t
count_beside(struct bucket *b, uint64_t tag, const _Atomic(uint64_t) *one)
{
    int64_t n = 0;
    uint64_t word;
    int i;

    for (i = 0; i < BUCKET_WORDS; i++) {
        word = atomic_load(&b->words[i]);
        if (word >> COUNT_BITS == tag && &b->words[i] != one)
            n += (int64_t)(word & COUNT_MASK);
    }
    return n;
}

int64_t
counts_of(struct bucket *b, uint64_t hash)
{
    return count_beside(b, count_tag(hash), NULL);
}

/* The word of the key, else one that is free, else NULL. */
static _Atomic(uint64_t) *
bucket_word(struct bucket *b, uint64_t tag, uint64_t *word)
{
    _Atomic(uint64_t) *free_word = NULL;
    uint64_t its, free_its = 0;
    int i;

    for (i = 0; i < BUCKET_WORDS; i++) {
        its = atomic_load_explicit(&b->words[i], memory_order_relaxed);
        if (its >> COUNT_BITS == tag) {
            *word = its;
            return &b->words[i];
        }
        if ((its & COUNT_MASK) == 0 && free_word == NULL) {
            free_word = &b->words[i];
            free_its = its;
        }
    }
    *word = free_its;
    return free_word;
}

_Atomic(uint64_t) *
counts_up(struct bucket *b, uint64_t hash, int64_t *n)
{
    _Atomic(uint64_t) *at;
    uint64_t word, tag = count_tag(hash), next;

    do {
        at = bucket_word(b, tag, &word);
        if (at == NULL)
            return NULL;
        next = word >> COUNT_BITS == tag ? word + 1 : (tag << COUNT_BITS) + 1;
    } while (!atomic_compare_exchange_strong(at, &word, next));
    *n = (int64_t)(next & COUNT_MASK) + count_beside(b, tag, at);
    return at;
}

void
counts_down(_Atomic(uint64_t) *at)
{
    atomic_fetch_sub_explicit(at, 1, memory_order_relaxed);
}
