/* What a zone remembers of its keys, in memory that generations share.
 *
 * A key is one word: 24 bits of its hash and its tat.  Eight words are a bucket and a cache
 * line; a key may stand in either of two buckets, and a new one takes the place of the oldest
 * word of the emptier.  All is done by compare-and-swap of one word, so a process may be killed
 * anywhere and leaves nothing half done.
 *
 *   word   | 24 bits of the hash, never 0 | 40 bits tat |      0: free
 *
 * Of a million keys in 10 MB, two share a word with a chance of about one half; of one key, to
 * share another's, it is one in a million. */
#ifndef RATELIMIT_TABLE_H
#define RATELIMIT_TABLE_H

#include "gcra.h"

#include <stdatomic.h>
#include <stddef.h>

#define BUCKET_WORDS 8

struct bucket {
    _Alignas(64) _Atomic(uint64_t) words[BUCKET_WORDS];
};

/* The process's view of it.  Any thread may use it. */
struct table {
    struct bucket *buckets;
    uint32_t n_buckets;
    uint64_t most; /* no debt is larger */
    uint64_t apart; /* of the clocks of two threads at most: who is behind sees larger debts */
};

enum table_verdict {
    TABLE_REFUSED,
    TABLE_ADMITTED,
    TABLE_EVICTED, /* admitted, and a debt of another key was forgotten for it */
};

/* *ahead: the debt before this request. */
enum table_verdict table_charge(const struct table *t, uint64_t hash, uint64_t now,
                                const struct gcra *g, uint64_t *ahead);
/* Takes a charge back, as far as the debt is not paid yet. */
void table_refund(const struct table *t, uint64_t hash, uint64_t now, uint64_t cost);
/* The debt is at least so large. */
void table_raise(const struct table *t, uint64_t hash, uint64_t now, uint64_t ahead);
uint64_t table_ahead(const struct table *t, uint64_t hash, uint64_t now);
/* Whether it was there. */
int table_forget(const struct table *t, uint64_t hash);
void table_clear(const struct table *t);
/* Keys with debts: reads the whole table. */
uint64_t table_count(const struct table *t, uint64_t now);

#endif
