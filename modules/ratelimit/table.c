/* See table.h. */
#include "table.h"

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static uint64_t
tag_of(uint64_t hash)
{
    uint64_t tag = hash & ((UINT64_C(1) << (64 - RING_BITS)) - 1);

    return tag != 0 ? tag : 1;
}

static uint64_t
word_of(uint64_t hash, uint64_t tat)
{
    return tag_of(hash) << RING_BITS | tat;
}

static struct bucket *
first_bucket(const struct table *t, uint64_t hash)
{
    return &t->buckets[(hash >> 32) * t->n_buckets >> 32];
}

static struct bucket *
second_bucket(const struct table *t, uint64_t hash)
{
    return &t->buckets[(hash * GOLDEN >> 32) * t->n_buckets >> 32];
}

/* Where a key stands, or would. */
struct place {
    _Atomic(uint64_t) *at;
    uint64_t word; /* what stood there */
    int is_found;
};

/* A bucket as it was read.  Where a new key goes follows from the very words in which it was not
 * found: threads that place the same one at once want the same word, and all but one of them find
 * it there then.  Read again, the bucket would show the other's word as one more that is taken. */
struct reading {
    struct bucket *bucket;
    uint64_t words[BUCKET_WORDS];
};

struct readings {
    struct reading first, second;
};

static int
bucket_find(struct reading *seen, struct bucket *b, uint64_t tag, struct place *p)
{
    int i;

    seen->bucket = b;
    for (i = 0; i < BUCKET_WORDS; i++) {
        seen->words[i] = p->word = atomic_load_explicit(&b->words[i], memory_order_relaxed);
        if (p->word >> RING_BITS == tag) {
            p->at = &b->words[i];
            p->is_found = 1;
            return 1;
        }
    }
    return 0;
}

/* Not found: `seen` is whole. */
static int
table_find(const struct table *t, uint64_t hash, struct readings *seen, struct place *p)
{
    uint64_t tag = tag_of(hash);

    p->is_found = 0;
    return bucket_find(&seen->first, first_bucket(t, hash), tag, p) ||
           bucket_find(&seen->second, second_bucket(t, hash), tag, p);
}

/* The largest debt a thread can see. */
static uint64_t
most_seen(const struct table *t)
{
    return t->most + t->apart;
}

static uint64_t
word_debt(const struct table *t, uint64_t word, uint64_t now)
{
    return gcra_ahead(word & RING_MASK, now, most_seen(t));
}

static uint64_t
word_age(const struct table *t, uint64_t word, uint64_t now)
{
    return word == 0 ? UINT64_MAX : gcra_age(word & RING_MASK, now, most_seen(t));
}

/* The oldest word of a bucket; returns how many have no debt. */
static int
bucket_oldest(const struct table *t, const struct reading *seen, uint64_t now, struct place *p,
              uint64_t *age)
{
    int i, n = 0;

    *age = 0;
    p->at = NULL;
    for (i = 0; i < BUCKET_WORDS; i++) {
        uint64_t its = word_age(t, seen->words[i], now);

        n += its >= most_seen(t);
        if (p->at != NULL && its <= *age)
            continue;
        *age = its;
        p->at = &seen->bucket->words[i];
        p->word = seen->words[i];
    }
    return n;
}

/* Returns whether a debt is forgotten with it. */
static int
table_place(const struct table *t, const struct readings *seen, uint64_t now, struct place *p)
{
    struct place other = {NULL, 0, 0};
    uint64_t age, other_age;
    int n = bucket_oldest(t, &seen->first, now, p, &age);
    int n_other = bucket_oldest(t, &seen->second, now, &other, &other_age);

    if (n_other > n || (n_other == 0 && n == 0 && other_age > age)) {
        *p = other;
        age = other_age;
    }
    return age < most_seen(t);
}

static int
place_set(const struct place *p, uint64_t word)
{
    uint64_t before = p->word;

    return atomic_compare_exchange_strong_explicit(
        p->at, &before, word, memory_order_relaxed, memory_order_relaxed);
}

enum table_verdict
table_charge(const struct table *t, uint64_t hash, uint64_t now, const struct gcra *g,
             uint64_t *ahead)
{
    struct readings seen;
    struct place p;
    uint64_t debt;
    int is_lost;

    do {
        is_lost = 0;
        *ahead = 0;
        if (table_find(t, hash, &seen, &p))
            *ahead = word_debt(t, p.word, now);
        else
            is_lost = table_place(t, &seen, now, &p);
        if (*ahead > g->tolerance)
            return TABLE_REFUSED;
        debt = *ahead + g->cost; /* beyond the most it would be taken for a paid one */
    } while (!place_set(&p, word_of(hash, gcra_tat(now, debt < t->most ? debt : t->most))));
    return is_lost ? TABLE_EVICTED : TABLE_ADMITTED;
}

void
table_refund(const struct table *t, uint64_t hash, uint64_t now, uint64_t cost)
{
    struct readings seen;
    struct place p;
    uint64_t ahead;

    do {
        if (!table_find(t, hash, &seen, &p))
            return;
        ahead = word_debt(t, p.word, now);
        if (ahead == 0)
            return;
    } while (
        !place_set(&p, word_of(hash, gcra_tat(now, ahead > cost ? ahead - cost : 0))));
}

void
table_raise(const struct table *t, uint64_t hash, uint64_t now, uint64_t ahead)
{
    struct readings seen;
    struct place p;

    if (ahead > t->most)
        ahead = t->most;
    do {
        if (!table_find(t, hash, &seen, &p))
            table_place(t, &seen, now, &p);
        else if (word_debt(t, p.word, now) >= ahead)
            return;
    } while (!place_set(&p, word_of(hash, gcra_tat(now, ahead))));
}

uint64_t
table_ahead(const struct table *t, uint64_t hash, uint64_t now)
{
    struct readings seen;
    struct place p;

    return table_find(t, hash, &seen, &p) ? word_debt(t, p.word, now) : 0;
}

int
table_forget(const struct table *t, uint64_t hash)
{
    struct readings seen;
    struct place p;

    do {
        if (!table_find(t, hash, &seen, &p))
            return 0;
    } while (!place_set(&p, 0));
    return 1;
}

void
table_clear(const struct table *t)
{
    uint32_t i;
    int k;

    for (i = 0; i < t->n_buckets; i++)
        for (k = 0; k < BUCKET_WORDS; k++)
            atomic_store_explicit(&t->buckets[i].words[k], 0, memory_order_relaxed);
}

uint64_t
table_count(const struct table *t, uint64_t now)
{
    uint64_t n = 0;
    uint32_t i;
    int k;

    for (i = 0; i < t->n_buckets; i++)
        for (k = 0; k < BUCKET_WORDS; k++) {
            uint64_t word =
                atomic_load_explicit(&t->buckets[i].words[k], memory_order_relaxed);

            n += word != 0 && word_debt(t, word, now) > 0;
        }
    return n;
}
