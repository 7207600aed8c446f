/* The index: a table of 8-byte entries in pages of 4 KiB, in a zone, and its pages' images on
 * disk.  Processes that use it may die between any two instructions: an entry is one atomic, and
 * whatever stands in it is a hint that its record confirms or not.
 *
 * A key has one page and in it two lines of 8 entries; it stands in the emptier one.  Where both
 * are full, the least used of the 16 is displaced.  At three quarters full that is rare; the
 * cost is 10.8 bytes an object, in the zone and on disk alike.
 *
 *     entry   63  62 ........ 59  58 . 57  56 ........ 36  35 .............. 0
 *             -   size class      used     tag of the hash  place in units     0: empty */
#ifndef CACHE_INDEX_H
#define CACHE_INDEX_H

#include "segment.h"

#include <stdatomic.h>

#define PAGE_SIZE_DISK 4096
#define PAGE_LINE 8
#define PAGE_LINES 63
#define PAGE_WORDS (PAGE_LINE * PAGE_LINES)

/* The store's other tables (segments, purges) are made of pages, too. */
struct page {
    _Atomic(uint64_t) state; /* PAGE_LOADED, PAGE_DIRTY; above them a count of changes */
    uint64_t reserved[7];
    _Atomic(uint64_t) words[PAGE_WORDS];
};
enum { PAGE_LOADED = 1, PAGE_DIRTY = 2, PAGE_CHANGE = 4 };

/* What stands on disk of a page; its size is PAGE_SIZE_DISK. */
struct page_image {
    uint32_t magic, version;
    uint64_t store_id;
    uint64_t number; /* of the page: one at another's place is none */
    uint64_t stamp;  /* when it was written, by the clock of purges */
    uint64_t check;  /* of all else, this being 0 */
    uint64_t spare[3];
    uint64_t words[PAGE_WORDS];
};
enum page_found {
    PAGE_OK,
    PAGE_NEVER, /* zeroes: not written yet */
    PAGE_BAD,
};
enum page_found page_decode(const struct page_image *image, uint64_t number, uint64_t store_id);
/* Of the words as they are this moment. */
void page_encode(struct page_image *image, const struct page *page, uint64_t number,
                 uint64_t store_id, uint64_t stamp);

static inline void
page_is_changed(struct page *page)
{
    uint64_t state = atomic_load_explicit(&page->state, memory_order_relaxed);

    while (!atomic_compare_exchange_weak(&page->state, &state, (state + PAGE_CHANGE) | PAGE_DIRTY))
        ;
}
static inline int
page_is_loaded(const struct page *page)
{
    return atomic_load_explicit(&page->state, memory_order_acquire) & PAGE_LOADED;
}
/* Puts the words of an image (NULL: none) where nothing is yet: how many.  Two may do it at
 * once. */
unsigned page_load(struct page *page, const struct page_image *image);

/* Entries. */
#define ENTRY_PLACE_BITS 36
#define ENTRY_TAG_BITS 20
#define ENTRY_USED_MAX 3
#define ENTRY_CLASS_MAX 15

static inline uint64_t
entry_place(uint64_t entry)
{
    return entry & ((UINT64_C(1) << ENTRY_PLACE_BITS) - 1);
}
static inline unsigned
entry_tag(uint64_t entry)
{
    return (unsigned)(entry >> ENTRY_PLACE_BITS) & ((1u << ENTRY_TAG_BITS) - 1);
}
static inline unsigned
entry_used(uint64_t entry)
{
    return (unsigned)(entry >> 57) & 3;
}
/* The record has at most so many bytes, or is a long one of the last class. */
static inline uint64_t
entry_bytes_max(uint64_t entry)
{
    return (uint64_t)SEGMENT_UNIT << ((entry >> 59) & 15);
}
uint64_t entry_make(struct store_hash hash, uint64_t offset, uint64_t bytes);

struct index {
    struct page *pages;
    uint64_t n_pages;
    /* Who dies between a change and its count leaves them a little wrong. */
    _Atomic(uint64_t) *n_objects, *n_displaced;
};

static inline uint64_t
index_page(const struct index *ix, struct store_hash hash)
{
    return (hash.hi >> 32) * ix->n_pages >> 32;
}

/* The 16 entries where a key may stand. */
struct seats {
    struct page *page;
    _Atomic(uint64_t) *lines[2];
};
static inline struct seats
index_seats(const struct index *ix, struct store_hash hash)
{
    struct page *page = &ix->pages[index_page(ix, hash)];
    unsigned a = (unsigned)(hash.lo & 0xffff) % PAGE_LINES;
    unsigned b = a + 1 + (unsigned)(hash.lo >> 16 & 0xffff) % (PAGE_LINES - 1);

    b -= b < PAGE_LINES ? 0 : PAGE_LINES;
    return (struct seats){page, {&page->words[a * PAGE_LINE], &page->words[b * PAGE_LINE]}};
}
/* They are likely to be in no cache, and come while something else is done.  Inline always: gcc
 * leaves out calls of what does nothing else. */
static inline __attribute__((always_inline)) void
index_send_for(const struct index *ix, struct store_hash hash)
{
    struct seats s = index_seats(ix, hash);

    __builtin_prefetch(s.page, 1);
    __builtin_prefetch(s.lines[0], 1);
    __builtin_prefetch(s.lines[1], 1);
}

#define INDEX_FOUND_MAX (2 * PAGE_LINE)
/* The entries that may be the key's, the used bits as they are: how many. */
unsigned index_find(const struct index *ix, struct store_hash hash,
                    uint64_t found[INDEX_FOUND_MAX]);
/* Puts the entry in, in place of any that may be the key's.  Its page is loaded.  1: there was
 * one before. */
int index_put(struct index *ix, struct store_hash hash, uint64_t entry);
/* Takes out what may be the key's: how many. */
unsigned index_forget(struct index *ix, struct store_hash hash);
/* Takes out the entry with this place, and no other. */
int index_drop(struct index *ix, struct store_hash hash, uint64_t place);
/* Takes out all whose place is_gone. */
typedef int index_gone_f(const void *data, uint64_t place);
void index_drop_where(struct index *ix, index_gone_f *is_gone, const void *data);
/* Lets the entry at place `from` become `entry`; 0 when it is not there any more. */
int index_move(struct index *ix, struct store_hash hash, uint64_t from, uint64_t entry);
/* What may be the key's was used once more. */
void index_use(struct index *ix, struct store_hash hash);

#endif
