/* The reader of segments: whatever bytes stand in one, a start walks over them, and what it then
 * finds in the index is read whole or not at all.  Checksums are set right before, so that the
 * bytes behind them are looked at. */
/* with: modules/cache/checksum.c */
#include "../unit/store_doubles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define ID 77
#define SEQ 5

static struct store *
store_once(void)
{
    static struct store *s;

    if (s != NULL)
        return s;
    s = store_bare();
    if (ftruncate(s->fd_objects, STORE_DISK_MIN) != 0)
        abort();
    atomic_store(&s->disk, DISK_ON);
    return s;
}

/* Where a record may be, its checksums become right. */
static void
mend(char *at, size_t n)
{
    size_t i = 0;

    while (i + sizeof(struct record_header) <= n) {
        struct record r;
        uint64_t check;

        if (record_decode(at + i, n - i, ID, &r) == RECORD_BAD && r.n_head == sizeof r.h) {
            i += SEGMENT_UNIT;
            continue;
        }
        if (r.n_head + r.h.n_inline > n - i)
            return;
        check = body_checksum(at + i + r.n_head, r.h.n_inline, ID);
        record_place(at + i, r.n_head, (struct record_place){SEQ, 0}, check, ID);
        i += segment_units(r.n_head + r.h.n_inline) * SEGMENT_UNIT;
    }
}

/* Everything an object points at is there. */
static void
touch(struct store *s, struct object *o)
{
    uint64_t sum = XXH3_64bits(o->pub.key.at, o->pub.key.n) ^
                   XXH3_64bits(o->pub.meta.at, o->pub.meta.n);
    uint32_t i;

    for (i = 0; i < o->pub.n_tags; i++)
        sum ^= o->pub.tags[i];
    if (o->body_at != NULL)
        sum ^= XXH3_64bits(o->body_at, o->size);
    for (i = 0; i < o->n_extents; i++) {
        struct store_bytes *bytes = extent_read(s, &o->extents[i]);

        if (bytes != NULL)
            sum ^= XXH3_64bits(bytes->at, o->extents[i].n);
        bytes_drop(&bytes);
    }
    if (sum == 1 && purges_state(&s->purges, &o->pub) == STORE_GONE)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct store *s = store_once();
    char *bytes = calloc(1, n + SEGMENT_UNIT); /* what is behind them ends the walk */
    uint64_t i;

    memcpy(bytes, data, n);
    mend(bytes, n);
    if (pwrite(s->fd_objects, bytes, n + SEGMENT_UNIT, SEGMENT_UNIT) != (ssize_t)(n + SEGMENT_UNIT))
        abort();
    free(bytes);
    memset((void *)s->pages, 0, s->layout.n_pages * PAGE_SIZE_DISK);
    atomic_store(super_word(s, SUPER_STORE_ID), ID);
    for (i = 0; i < s->layout.index_pages; i++)
        page_load(&s->index.pages[i], NULL);
    atomic_store(&segment_words(s, 0)[0], (uint64_t)SEQ << 24 | SEGMENT_REPLAY);
    segments_replay(s);
    for (i = 0; i < s->layout.index_pages * PAGE_WORDS; i++) {
        uint64_t entry = atomic_load(&s->index.pages[i / PAGE_WORDS].words[i % PAGE_WORDS]);
        struct object *o;

        if (entry == 0)
            continue;
        if (entry_place(entry) * SEGMENT_UNIT >= s->layout.segment_size)
            abort();
        if (object_read(s, entry_place(entry) * SEGMENT_UNIT, entry_bytes_max(entry),
                        READ_WAITING, &o) != READ_OK)
            continue;
        touch(s, o);
        object_drop(&o);
    }
    return 0;
}
