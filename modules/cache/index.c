/* The index: entries of a page, and pages' images. */
#include "index.h"

#include <xxhash.h>

#define PAGE_MAGIC 0x53636931u
#define PAGE_VERSION 1

_Static_assert(sizeof(struct page_image) == PAGE_SIZE_DISK, "an image is a page");
_Static_assert(sizeof(struct page) == PAGE_SIZE_DISK, "a page is a page");

/* ---- images ---- */

static uint64_t
image_checksum(const struct page_image *image)
{
    struct page_image head;
    size_t n = offsetof(struct page_image, words);

    memcpy(&head, image, n);
    head.check = 0;
    return XXH3_64bits_withSeed(image->words, sizeof image->words,
                                XXH3_64bits_withSeed(&head, n, head.store_id));
}

static int
is_zero(const struct page_image *image)
{
    const char *at = (const char *)image;

    return at[0] == 0 && memcmp(at, at + 1, sizeof *image - 1) == 0;
}

enum page_found
page_decode(const struct page_image *image, uint64_t number, uint64_t store_id)
{
    if (image->magic == PAGE_MAGIC && image->version == PAGE_VERSION &&
        image->number == number && image->store_id == store_id &&
        image->check == image_checksum(image))
        return PAGE_OK;
    return is_zero(image) ? PAGE_NEVER : PAGE_BAD;
}

void
page_encode(struct page_image *image, const struct page *page, uint64_t number,
            uint64_t store_id, uint64_t stamp)
{
    unsigned i;

    memset(image, 0, offsetof(struct page_image, words));
    image->magic = PAGE_MAGIC;
    image->version = PAGE_VERSION;
    image->store_id = store_id;
    image->number = number;
    image->stamp = stamp;
    for (i = 0; i < PAGE_WORDS; i++)
        image->words[i] = atomic_load_explicit(&page->words[i], memory_order_relaxed);
    image->check = image_checksum(image);
}

unsigned
page_load(struct page *page, const struct page_image *image)
{
    unsigned i, n = 0;

    for (i = 0; image != NULL && i < PAGE_WORDS; i++) {
        uint64_t none = 0;

        if (image->words[i] != 0 &&
            atomic_compare_exchange_strong(&page->words[i], &none, image->words[i]))
            n++;
    }
    atomic_fetch_or(&page->state, PAGE_LOADED);
    return n;
}

/* ---- entries ---- */

#define USED_ONE (UINT64_C(1) << 57)
#define USED_MASK (UINT64_C(3) << 57)

static unsigned
hash_tag(struct store_hash hash)
{
    return (unsigned)(hash.lo >> (64 - ENTRY_TAG_BITS));
}

uint64_t
entry_make(struct store_hash hash, uint64_t offset, uint64_t bytes)
{
    uint64_t units = (bytes + SEGMENT_UNIT - 1) / SEGMENT_UNIT;
    uint64_t class = units > 1 ? 64 - (unsigned)__builtin_clzll(units - 1) : 0; /* its logarithm */

    class = class < ENTRY_CLASS_MAX ? class : ENTRY_CLASS_MAX;
    return offset / SEGMENT_UNIT | (uint64_t)hash_tag(hash) << ENTRY_PLACE_BITS | class << 59;
}

static _Atomic(uint64_t) *
seat(const struct seats *s, unsigned i)
{
    return &s->lines[i / PAGE_LINE][i % PAGE_LINE];
}

static int
may_be(uint64_t entry, struct store_hash hash)
{
    return entry != 0 && entry_tag(entry) == hash_tag(hash);
}

/* What is in a seat that may be the key's, or empty if the tag is 0: whoever finds one asks may_be(). */
static int
has_tag(const _Atomic(uint64_t) *seat, uint64_t tag)
{
    const uint64_t mask = ((UINT64_C(1) << ENTRY_TAG_BITS) - 1) << ENTRY_PLACE_BITS;

    return (atomic_load_explicit(seat, memory_order_acquire) & mask) == tag;
}

static int
line_has_tag(const _Atomic(uint64_t) *line, uint64_t tag)
{
    unsigned i;

#pragma GCC unroll 8
    for (i = 0; i < PAGE_LINE; i++)
        if (has_tag(&line[i], tag))
            return 1;
    return 0;
}

/* Bit i: seat i has the key's tag.  Each look-up and each change begins with this, and most find
 * nothing. */
static unsigned
seats_of(const struct seats *s, struct store_hash hash)
{
    uint64_t tag = (uint64_t)hash_tag(hash) << ENTRY_PLACE_BITS;
    unsigned line, i, bits = 0;

    for (line = 0; line < 2; line++)
        if (line_has_tag(s->lines[line], tag))
            for (i = 0; i < PAGE_LINE; i++)
                bits |= (unsigned)has_tag(&s->lines[line][i], tag) << (line * PAGE_LINE + i);
    return bits;
}

unsigned
index_find(const struct index *ix, struct store_hash hash, uint64_t found[INDEX_FOUND_MAX])
{
    struct seats s = index_seats(ix, hash);
    unsigned bits = seats_of(&s, hash), n = 0;

    for (; bits != 0; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctz(bits);
        uint64_t entry = atomic_load_explicit(seat(&s, i), memory_order_acquire);

        if (may_be(entry, hash))
            found[n++] = entry;
    }
    return n;
}

/* Takes out what may be the key's but for the seat `but`: how many. */
static unsigned
seats_forget(struct index *ix, const struct seats *s, struct store_hash hash, unsigned but)
{
    unsigned bits = seats_of(s, hash) & ~(1u << but), n = 0;

    for (; bits != 0; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctz(bits);
        uint64_t entry = atomic_load(seat(s, i));

        while (may_be(entry, hash))
            if (atomic_compare_exchange_weak(seat(s, i), &entry, 0)) {
                n++;
                break;
            }
    }
    if (n > 0) {
        atomic_fetch_sub_explicit(ix->n_objects, n, memory_order_relaxed);
        page_is_changed(s->page);
    }
    return n;
}

/* How many are empty; *last: the last of them. */
static unsigned
line_empty(const struct seats *s, unsigned line, unsigned *last)
{
    unsigned i, n = 0;

#pragma GCC unroll 8
    for (i = 0; i < PAGE_LINE; i++)
        if (atomic_load_explicit(&s->lines[line][i], memory_order_relaxed) == 0) {
            n++;
            *last = line * PAGE_LINE + i;
        }
    return n;
}

static unsigned
seat_used(const struct seats *s, unsigned i)
{
    return entry_used(atomic_load_explicit(seat(s, i), memory_order_relaxed));
}

/* The first it looks at mostly is not used at all. */
static unsigned
seat_least_used(const struct seats *s, struct store_hash hash)
{
    unsigned i, least = (unsigned)(hash.lo >> 32) % INDEX_FOUND_MAX;

    for (i = 0; i < INDEX_FOUND_MAX && seat_used(s, least) > 0; i++)
        if (seat_used(s, i) < seat_used(s, least))
            least = i;
    return least;
}

/* The seat for a new entry: the key's own, else one of the emptier line, else the least used;
 * *entry: what is in it. */
static unsigned
seat_choose(const struct seats *s, struct store_hash hash, uint64_t *entry)
{
    unsigned bits = seats_of(s, hash), n_empty[2], empty[2] = {0, 0}, at;

    if (bits != 0) {
        at = (unsigned)__builtin_ctz(bits);
        *entry = atomic_load(seat(s, at));
        if (may_be(*entry, hash))
            return at;
    }
    n_empty[0] = line_empty(s, 0, &empty[0]);
    n_empty[1] = line_empty(s, 1, &empty[1]);
    if (n_empty[0] + n_empty[1] > 0) {
        *entry = 0;
        return empty[n_empty[1] > n_empty[0]];
    }
    at = seat_least_used(s, hash);
    *entry = atomic_load(seat(s, at));
    return at;
}

int
index_put(struct index *ix, struct store_hash hash, uint64_t entry)
{
    struct seats s = index_seats(ix, hash);
    unsigned at;
    uint64_t before;

    do
        at = seat_choose(&s, hash, &before);
    while (!atomic_compare_exchange_strong(seat(&s, at), &before, entry));
    page_is_changed(s.page);
    if (before == 0)
        atomic_fetch_add_explicit(ix->n_objects, 1, memory_order_relaxed);
    else if (!may_be(before, hash))
        atomic_fetch_add_explicit(ix->n_displaced, 1, memory_order_relaxed);
    /* another may have put the same key elsewhere meanwhile: then the two take out each other's */
    return (seats_forget(ix, &s, hash, at) > 0) | may_be(before, hash);
}

unsigned
index_forget(struct index *ix, struct store_hash hash)
{
    struct seats s = index_seats(ix, hash);

    return seats_forget(ix, &s, hash, INDEX_FOUND_MAX);
}

/* Changes the entry at a place; 0: it is not there.  to 0: takes it out. */
static int
index_change(struct index *ix, struct store_hash hash, uint64_t place, uint64_t to)
{
    struct seats s = index_seats(ix, hash);
    unsigned i;

    for (i = 0; i < INDEX_FOUND_MAX; i++) {
        uint64_t entry = atomic_load(seat(&s, i));

        while (may_be(entry, hash) && entry_place(entry) == place)
            if (atomic_compare_exchange_weak(seat(&s, i), &entry, to)) {
                page_is_changed(s.page);
                return 1;
            }
    }
    return 0;
}

int
index_drop(struct index *ix, struct store_hash hash, uint64_t place)
{
    int is_there = index_change(ix, hash, place, 0);

    if (is_there)
        atomic_fetch_sub_explicit(ix->n_objects, 1, memory_order_relaxed);
    return is_there;
}

void
index_drop_where(struct index *ix, index_gone_f *is_gone, const void *data)
{
    uint64_t page;
    unsigned i;

    for (page = 0; page < ix->n_pages; page++)
        for (i = 0; i < PAGE_WORDS; i++) {
            _Atomic(uint64_t) *at = &ix->pages[page].words[i];
            uint64_t entry = atomic_load_explicit(at, memory_order_relaxed);

            if (entry == 0 || !is_gone(data, entry_place(entry)) ||
                !atomic_compare_exchange_strong(at, &entry, 0))
                continue;
            atomic_fetch_sub_explicit(ix->n_objects, 1, memory_order_relaxed);
            page_is_changed(&ix->pages[page]);
        }
}

int
index_move(struct index *ix, struct store_hash hash, uint64_t from, uint64_t entry)
{
    return index_change(ix, hash, from, entry);
}

void
index_use(struct index *ix, struct store_hash hash)
{
    struct seats s = index_seats(ix, hash);
    unsigned i;

    for (i = 0; i < INDEX_FOUND_MAX; i++) {
        uint64_t entry = atomic_load_explicit(seat(&s, i), memory_order_relaxed);

        /* one that changes at this moment is not counted: it is a hint; nor is that a reason to
         * write the page, its used bits go along with the next change */
        if (may_be(entry, hash) && (entry & USED_MASK) != USED_MASK)
            atomic_compare_exchange_strong(seat(&s, i), &entry, entry + USED_ONE);
    }
}
