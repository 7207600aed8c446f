/* The reader of the index: a start takes its pages, whatever words they have, and the store goes
 * on: it looks up, stores, forgets, purges, copies the pages.  Input: words of pages, the
 * checksums set right after them, unless the first byte is odd. */
/* with: modules/cache/checksum.c */
#include "../unit/store_doubles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define ID 77

struct patch {
    uint16_t page, word;
    uint64_t value;
} __attribute__((packed));

static void
super_shape(struct store *s)
{
    atomic_store(super_word(s, SUPER_VERSION), STORE_FILES_VERSION);
    atomic_store(super_word(s, SUPER_DISK_SIZE), s->layout.n_segments * s->layout.segment_size);
    atomic_store(super_word(s, SUPER_SEGMENT_SIZE), s->layout.segment_size);
    atomic_store(super_word(s, SUPER_INDEX_PAGES), s->layout.index_pages);
    atomic_store(super_word(s, SUPER_STORE_ID), ID);
}

/* The pages of an empty store, made once: encoding them all each time would be most of the work. */
static struct page_image *
empty_images(struct store *s)
{
    static struct page_image *images;
    uint64_t page;

    if (images != NULL)
        return images;
    images = calloc(s->layout.n_pages, sizeof *images);
    super_shape(s);
    for (page = 0; page < s->layout.n_pages; page++)
        page_encode(&images[page], &s->pages[page], page, ID, 1);
    return images;
}

static void
write_pages(struct store *s, const uint8_t *data, size_t n, int damaged)
{
    size_t size = s->layout.n_pages * PAGE_SIZE_DISK;
    struct page_image image;
    struct patch p;

    memset((void *)s->pages, 0, size);
    if (pwrite(s->fd_index, empty_images(s), size, 0) != (ssize_t)size)
        abort();
    super_shape(s);
    for (; n >= sizeof p; data += sizeof p, n -= sizeof p) {
        uint64_t page;

        memcpy(&p, data, sizeof p);
        page = p.page % s->layout.n_pages;
        atomic_store(&s->pages[page].words[p.word % PAGE_WORDS], p.value);
        if (!damaged)
            super_shape(s);
        page_encode(&image, &s->pages[page], page, ID, 1);
        if (damaged && n < 2 * sizeof p)
            image.spare[0]++;
        if (pwrite(s->fd_index, &image, sizeof image, (off_t)(page * sizeof image)) !=
            sizeof image)
            abort();
    }
    memset((void *)s->pages, 0, size);
}

static void
use(struct store *s)
{
    struct store_object o = {.key = SL_SPAN("http://a/b"), .stamp = 3};
    struct store_hash hash = store_hash(s, o.key);
    uint64_t found[INDEX_FOUND_MAX], tag = store_tag(s, SL_SPAN("a")), i;
    struct object *object;
    unsigned n;

    o.tags = &tag;
    o.n_tags = 1;
    purges_state(&s->purges, &o);
    purge_prefix(&s->purges, SL_SPAN("http://a/"), 0, 0);
    if (purges_state(&s->purges, &o) != STORE_GONE)
        abort();
    for (n = index_find(&s->index, hash, found); n-- > 0;)
        if (object_read(s, entry_place(found[n]) * SEGMENT_UNIT, entry_bytes_max(found[n]),
                        READ_WAITING, &object) == READ_OK)
            object_drop(&object);
    index_put(&s->index, hash, entry_make(hash, SEGMENT_UNIT, 100));
    if (index_find(&s->index, hash, found) != 1 || index_forget(&s->index, hash) != 1)
        abort();
    for (i = 0; i < s->layout.n_segments; i++)
        if (word_state(segment_word(s, i)) > SEGMENT_REPLAY ||
            atomic_load(segment_fill(s, i)) > s->layout.segment_size)
            abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct store *s = store_bare();

    if (n < 1)
        return 0;
    write_pages(s, data + 1, n - 1, data[0] & 1);
    atomic_store(&s->head->is_ready, 0);
    atomic_store(&s->head->n_loaded, 0);
    said[0] = '\0';
    disk_start(s);
    if (!disk_is_on(s))
        abort();
    tick_work(&s->tick_job);
    use(s);
    disk_copy_tables(s);
    return 0;
}
