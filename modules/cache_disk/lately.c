/* What is remembered of flights that are over: what lately could not be stored, and what was
 * forgotten while it was asked for. */
#include "flight.h"

#define UNSTORABLE 4096
#define FORGOTTEN 4096
#define ZONE_LAYOUT 1

static struct {
    _Atomic(uint64_t) key;
    _Atomic(int64_t) until_ms;
    _Atomic(const char *) why;
} unstorable[UNSTORABLE];
static _Atomic(int64_t) latest_ms; /* the last `until`: behind it, no cell need be looked at */

/* ---- what lately could not be stored ---- */

#define QUESTIONS 4 /* about a key */

/* With Authorization or Cookie it is another question: who asks with them decides for his like
 * alone. */
static uint64_t
unstorable_hash(struct store_hash hash, struct sl_req *r)
{
    const struct sl_fields *head = sl_req_head(r);

    if (!sl_fields_has_any(head, sl_field_bit(SL_F_AUTHORIZATION) | sl_field_bit(SL_F_COOKIE)))
        return hash.lo;
    return hash.lo + (sl_fields_has_id(head, SL_F_AUTHORIZATION) ? 1 : 0) +
           (sl_fields_has_id(head, SL_F_COOKIE) ? 2 : 0);
}

const char *
why_lately_unstorable(struct visit *v)
{
    int64_t now = sl_loop_now(v->loop);
    uint64_t hash;
    unsigned i;

    if (atomic_load_explicit(&latest_ms, memory_order_relaxed) <= now)
        return NULL;
    hash = unstorable_hash(v->hash, v->r);
    i = (unsigned)(hash % UNSTORABLE);
    if (atomic_load_explicit(&unstorable[i].key, memory_order_acquire) != hash ||
        atomic_load_explicit(&unstorable[i].until_ms, memory_order_relaxed) <= now)
        return NULL;
    return atomic_load_explicit(&unstorable[i].why, memory_order_relaxed);
}

const char *
why_unstorable(struct sl_span key)
{
    uint64_t hash = store_hash(cache_store, key).lo;
    unsigned i, n;

    for (n = 0; n < QUESTIONS; n++) {
        i = (unsigned)((hash + n) % UNSTORABLE);
        if (atomic_load_explicit(&unstorable[i].key, memory_order_acquire) == hash + n)
            return atomic_load_explicit(&unstorable[i].why, memory_order_relaxed);
    }
    return NULL;
}

void
unstorable_learn(const struct flight *f, struct sl_req *sub, int64_t ms, const char *why)
{
    uint64_t hash = unstorable_hash(f->primary_hash, sub);
    int64_t until_ms = sl_loop_now(f->loop) + ms, before = atomic_load(&latest_ms);
    unsigned i = (unsigned)(hash % UNSTORABLE);

    while (before < until_ms && !atomic_compare_exchange_weak(&latest_ms, &before, until_ms))
        ;
    atomic_store_explicit(&unstorable[i].until_ms, until_ms, memory_order_relaxed);
    atomic_store_explicit(&unstorable[i].why, why, memory_order_relaxed);
    atomic_store_explicit(&unstorable[i].key, hash, memory_order_release);
}

/* ---- what was forgotten while it was asked for ---- */

/* In a zone: a generation that drains has flights of its own. */
static struct forgotten {
    _Atomic(uint64_t) clock;
    _Atomic(uint64_t) at[FORGOTTEN]; /* when; keys that share a cell are not stored once */
} *forgotten;

int
forgotten_open(void)
{
    int is_fresh;

    forgotten = sl_zone("cache.forgotten", ZONE_LAYOUT, sizeof *forgotten, &is_fresh);
    return forgotten != NULL ? 0 : -1;
}

static _Atomic(uint64_t) *
forgotten_at(struct store_hash hash)
{
    return &forgotten->at[hash.lo % FORGOTTEN];
}

void
flights_forget(struct sl_span key)
{
    _Atomic(uint64_t) *cell = forgotten_at(store_hash(cache_store, key));
    uint64_t now = atomic_fetch_add(&forgotten->clock, 1) + 1, before = atomic_load(cell);

    while (before < now && !atomic_compare_exchange_weak(cell, &before, now))
        ;
}

uint64_t
forgets_now(void)
{
    return atomic_load(&forgotten->clock);
}

/* A slice is not: it is of a head that is.  Mostly nothing at all was, since it was begun. */
int
is_forgotten(const struct flight *f)
{
    return forgets_now() != f->begun && !f->is_slice &&
           atomic_load(forgotten_at(f->primary_hash)) > f->begun;
}
