/* Purges: a clock that each purge moves on, and tables of when what was purged last.  An object
 * that was asked for before a purge that concerns it falls to it. */
#ifndef CACHE_TAG_H
#define CACHE_TAG_H

#include "index.h"

#define CELLS_A_PAGE (PAGE_WORDS / 2) /* a cell: when hard, when soft */
#define CELL_PAGES 256
#define N_CELLS (CELLS_A_PAGE * CELL_PAGES)
#define PREFIX_PAGES 4
#define PREFIX_WORDS 36
#define PREFIXES_A_PAGE (PAGE_WORDS / PREFIX_WORDS)
#define N_PREFIXES (PREFIXES_A_PAGE * PREFIX_PAGES)

/* Where in the pages of the zone they are. */
struct purges {
    _Atomic(uint64_t) *clock, *all, *prefix_latest; /* all: two words, hard and soft */
    struct page *all_page, *cells, *prefixes;
};

/* Which page of cells and of prefixes a purge changed, -1: none; the first page it always does. */
struct purged {
    int cell_page, prefix_page;
};

static inline uint64_t
purges_now(const struct purges *p)
{
    return atomic_load(p->clock);
}
enum store_state purges_state(const struct purges *p, const struct store_object *o);
struct purged purge_all(struct purges *p, int is_soft);
struct purged purge_tag(struct purges *p, uint64_t tag, int is_soft);
/* host: the tag of the prefix's host, 0: it has none. */
struct purged purge_prefix(struct purges *p, struct sl_span prefix, uint64_t host, int is_soft);
/* A page that could not be read: nothing older than now is certain not to be purged. */
void purges_lost_cells(struct purges *p, unsigned page);
void purges_lost_all(struct purges *p);

#endif
