/* Purges by generation numbers. */
#include "tag.h"

/* A remembered prefix.  when: 0 empty, PREFIX_BUSY being written; the text is zero past n. */
enum { PREFIX_WHEN, PREFIX_SOFT, PREFIX_N, PREFIX_HOST, PREFIX_TEXT };
#define PREFIX_BUSY UINT64_MAX
#define PREFIX_TRIES 4

_Static_assert(PREFIX_TEXT * 8 + STORE_PREFIX_MAX <= PREFIX_WORDS * 8, "a prefix fits");

typedef _Atomic(uint64_t) word;

static void
word_raise(word *w, uint64_t to)
{
    uint64_t is = atomic_load(w);

    while (is < to && !atomic_compare_exchange_weak(w, &is, to))
        ;
}

static word *
cell_of(const struct purges *p, uint64_t tag, unsigned *page)
{
    uint64_t cell = tag % N_CELLS;

    *page = (unsigned)(cell / CELLS_A_PAGE);
    return &p->cells[*page].words[cell % CELLS_A_PAGE * 2];
}

static word *
prefix_at(const struct purges *p, uint64_t i)
{
    return &p->prefixes[i / PREFIXES_A_PAGE].words[i % PREFIXES_A_PAGE * PREFIX_WORDS];
}

/* ---- asking ---- */

static enum store_state
worse(enum store_state a, enum store_state b)
{
    return a > b ? a : b;
}

static enum store_state
state_by(word *hard_and_soft, uint64_t stamp)
{
    if (atomic_load_explicit(&hard_and_soft[0], memory_order_acquire) > stamp)
        return STORE_GONE;
    return atomic_load_explicit(&hard_and_soft[1], memory_order_acquire) > stamp ? STORE_SOFT
                                                                                 : STORE_GOOD;
}

static int
begins_with(word *text, uint64_t n, struct sl_span key)
{
    uint64_t i;

    if (n > key.n || n > STORE_PREFIX_MAX)
        return 0;
    for (i = 0; i < n; i += 8) {
        uint64_t bytes = atomic_load_explicit(&text[i / 8], memory_order_relaxed);

        if (memcmp(&bytes, key.at + i, n - i < 8 ? n - i : 8) != 0)
            return 0;
    }
    return 1;
}

static enum store_state
state_by_prefixes(const struct purges *p, const struct store_object *o)
{
    enum store_state state = STORE_GOOD;
    uint64_t i;

    for (i = 0; i < N_PREFIXES; i++) {
        word *prefix = prefix_at(p, i);
        uint64_t when = atomic_load_explicit(&prefix[PREFIX_WHEN], memory_order_acquire);

        if (when == PREFIX_BUSY || when <= o->stamp)
            continue;
        if (begins_with(&prefix[PREFIX_TEXT],
                        atomic_load_explicit(&prefix[PREFIX_N], memory_order_relaxed), o->key))
            state = worse(state, atomic_load_explicit(&prefix[PREFIX_SOFT], memory_order_relaxed)
                                     ? STORE_SOFT
                                     : STORE_GONE);
    }
    return state;
}

enum store_state
purges_state(const struct purges *p, const struct store_object *o)
{
    enum store_state state;
    unsigned page;
    uint32_t i;

    if (atomic_load_explicit(p->clock, memory_order_acquire) <= o->stamp)
        return STORE_GOOD; /* there was no purge since */
    state = state_by(p->all, o->stamp);
    for (i = 0; i < o->n_tags; i++)
        state = worse(state, state_by(cell_of(p, o->tags[i], &page), o->stamp));
    if (atomic_load_explicit(p->prefix_latest, memory_order_acquire) > o->stamp)
        state = worse(state, state_by_prefixes(p, o));
    return state;
}

/* ---- purging ---- */

static uint64_t
clock_next(struct purges *p)
{
    page_is_changed(p->all_page);
    return atomic_fetch_add(p->clock, 1) + 1;
}

struct purged
purge_all(struct purges *p, int is_soft)
{
    word_raise(&p->all[is_soft], clock_next(p));
    return (struct purged){-1, -1};
}

static unsigned
tag_raise(struct purges *p, uint64_t tag, int is_soft, uint64_t when)
{
    unsigned page;

    word_raise(&cell_of(p, tag, &page)[is_soft], when);
    page_is_changed(&p->cells[page]);
    return page;
}

struct purged
purge_tag(struct purges *p, uint64_t tag, int is_soft)
{
    return (struct purged){(int)tag_raise(p, tag, is_soft, clock_next(p)), -1};
}

/* Takes the place of the oldest prefix, which becomes a purge of its host; *when: of that. */
static word *
prefix_claim(struct purges *p, struct purged *changed)
{
    uint64_t i, oldest = 0, least = PREFIX_BUSY, when;
    word *prefix;

    for (i = 0; i < N_PREFIXES; i++) {
        when = atomic_load(&prefix_at(p, i)[PREFIX_WHEN]);
        if (when < least) {
            least = when;
            oldest = i;
        }
    }
    prefix = prefix_at(p, oldest);
    if (least == PREFIX_BUSY)
        return NULL;
    if (least != 0) {
        uint64_t host = atomic_load(&prefix[PREFIX_HOST]);
        int is_soft = atomic_load(&prefix[PREFIX_SOFT]) != 0;

        if (host != 0)
            changed->cell_page = (int)tag_raise(p, host, is_soft, least);
        else
            word_raise(&p->all[is_soft], least);
    }
    if (!atomic_compare_exchange_strong(&prefix[PREFIX_WHEN], &least, PREFIX_BUSY))
        return NULL;
    changed->prefix_page = (int)(oldest / PREFIXES_A_PAGE);
    return prefix;
}

static void
prefix_write(word *prefix, struct sl_span text, uint64_t host, int is_soft)
{
    size_t i;

    atomic_store_explicit(&prefix[PREFIX_SOFT], (uint64_t)is_soft, memory_order_relaxed);
    atomic_store_explicit(&prefix[PREFIX_HOST], host, memory_order_relaxed);
    atomic_store_explicit(&prefix[PREFIX_N], text.n, memory_order_relaxed);
    for (i = 0; i < text.n; i += 8) {
        uint64_t bytes = 0;

        memcpy(&bytes, text.at + i, text.n - i < 8 ? text.n - i : 8);
        atomic_store_explicit(&prefix[PREFIX_TEXT + i / 8], bytes, memory_order_relaxed);
    }
}

struct purged
purge_prefix(struct purges *p, struct sl_span text, uint64_t host, int is_soft)
{
    struct purged changed = {-1, -1};
    word *prefix = NULL;
    uint64_t when;
    int i;

    if (text.n > STORE_PREFIX_MAX)
        text.n = STORE_PREFIX_MAX;
    for (i = 0; i < PREFIX_TRIES && prefix == NULL; i++)
        prefix = prefix_claim(p, &changed);
    /* a process that died while it wrote one leaves its place busy: with all of them gone, what
     * is purged is too much rather than too little */
    if (prefix == NULL)
        return host != 0 ? purge_tag(p, host, is_soft) : purge_all(p, is_soft);
    prefix_write(prefix, text, host, is_soft);
    when = clock_next(p);
    atomic_store(&prefix[PREFIX_WHEN], when);
    word_raise(p->prefix_latest, when);
    page_is_changed(&p->prefixes[changed.prefix_page]);
    return changed;
}

/* ---- what was lost ---- */

void
purges_lost_cells(struct purges *p, unsigned page)
{
    uint64_t now = clock_next(p);
    unsigned i;

    for (i = 0; i < CELLS_A_PAGE; i++)
        word_raise(&p->cells[page].words[2 * i], now);
    page_is_changed(&p->cells[page]);
}

void
purges_lost_all(struct purges *p)
{
    purge_all(p, 0);
}
