/* Records, page images, entries, purges and the memory tier, without a store. */
/* with: modules/cache/checksum.c */
#include "unit.h"

#include "../../modules/cache/index.c"
#include "../../modules/cache/memory.c"
#include "../../modules/cache/segment.c"
#include "../../modules/cache/tag.c"

#define ID 77

void
arriving_free(struct arriving *a)
{
    (void)a;
    fail();
}

/* ---- checksums ---- */

static void
a_checksum_is_the_same_on_every_processor(void **state)
{
    char bytes[5000];
    size_t n;

    (void)state;
    for (n = 0; n < sizeof bytes; n++)
        bytes[n] = (char)(n * n / 7);
    for (n = 0; n < sizeof bytes - 13; n++)
        assert_int_equal(checksum(bytes + n % 13, n), XXH3_64bits(bytes + n % 13, n));
    assert_int_equal(checksum("", 0), 0x2d06800538d394c2);
}

/* ---- records ---- */

static const uint64_t tags[] = {5, 6, 7};
static const struct store_extent extents[] = {
    {128, 1, 11, STORE_INLINE, 0}, {300000, 1, 12, STORE_INLINE, 0}, {600000, 2, 13, 50, 0}};

static char *
record_bytes(struct record *r, size_t *n)
{
    char *at;

    *n = record_head_size(r);
    at = calloc(1, *n + 1);
    record_encode(at, r, ID);
    return at;
}

static struct record
sample(void)
{
    return (struct record){.h = {.kind = RECORD_HEAD,
                                 .seq = 9,
                                 .hash = {1, 2},
                                 .stamp = 33,
                                 .size = 2 * STORE_INLINE + 50,
                                 .n_key = 3,
                                 .n_meta = 4,
                                 .n_tags = 3,
                                 .n_extents = 3,
                                 .flags = 21},
                           .tags = tags,
                           .extents = extents,
                           .key = SL_SPAN("key"),
                           .meta = SL_SPAN("meta")};
}

static void
a_record_says_what_was_written(void **state)
{
    struct record in = sample(), out;
    size_t n, i;
    char *at = record_bytes(&in, &n);

    (void)state;
    assert_int_equal(record_decode(at, n, ID, &out), RECORD_OK);
    assert_int_equal(out.n_head, n);
    assert_true(sl_span_eq(out.key, in.key) && sl_span_eq(out.meta, in.meta));
    assert_memory_equal(out.tags, tags, sizeof tags);
    assert_memory_equal(out.extents, extents, sizeof extents);
    assert_int_equal(out.h.stamp, 33);
    assert_int_equal(out.h.flags, 21);
    assert_int_equal(record_size(&out) % SEGMENT_UNIT, 0);
    for (i = 0; i < n; i++) /* fewer bytes are never enough */
        assert_int_equal(record_decode(at, i, ID, &out), RECORD_MORE);
    assert_int_equal(record_decode(at, n, ID + 1, &out), RECORD_BAD); /* another store's */
    record_place(at, n, (struct record_place){10, 0}, 5, ID);
    assert_int_equal(record_decode(at, n, ID, &out), RECORD_OK);
    assert_int_equal(out.h.seq, 10);
    assert_int_equal(out.h.body_check, 5);
    free(at);
}

static void
every_flipped_bit_of_a_record_is_found(void **state)
{
    struct record in = sample(), out;
    size_t n, i;
    char *at = record_bytes(&in, &n);

    (void)state;
    for (i = 0; i < 8 * n; i++) {
        at[i / 8] ^= (char)(1 << i % 8);
        assert_int_not_equal(record_decode(at, n, ID, &out), RECORD_OK);
        at[i / 8] ^= (char)(1 << i % 8);
    }
    assert_int_equal(record_decode(at, n, ID, &out), RECORD_OK);
    free(at);
}

/* Checksums right, what they say wrong. */
static void
records_that_contradict_themselves(void **state)
{
    static const struct {
        uint8_t kind;
        uint64_t size;
        uint32_t n_key, n_inline, n_extents, first_n;
        enum record_found found;
    } rows[] = {
        {RECORD_HEAD, 100, 3, 100, 0, 0, RECORD_OK},
        {RECORD_HEAD, 0, 3, 0, 0, 0, RECORD_OK},
        {RECORD_HEAD, 100, 3, 99, 0, 0, RECORD_BAD},      /* the body is not all there */
        {RECORD_HEAD, 100, 0, 100, 0, 0, RECORD_BAD},     /* no key */
        {RECORD_HEAD, STORE_INLINE, 3, 0, 1, STORE_INLINE, RECORD_OK},
        {RECORD_HEAD, STORE_INLINE, 3, 0, 1, STORE_INLINE - 1, RECORD_BAD},
        {RECORD_HEAD, STORE_INLINE + 9, 3, 9, 1, STORE_INLINE, RECORD_BAD}, /* both */
        {RECORD_HEAD, 2 * STORE_INLINE, 3, 0, 2, STORE_INLINE, RECORD_OK},
        {RECORD_HEAD, STORE_INLINE + 10, 3, 0, 2, 10, RECORD_BAD}, /* one but the last is short */
        {RECORD_HEAD, 0, 3, 0, 1, 0, RECORD_BAD},                  /* an empty extent */
        {RECORD_HEAD, STORE_INLINE + 1, 3, STORE_INLINE + 1, 0, 0, RECORD_BAD}, /* too long */
        {RECORD_CHUNK, 100, 0, 100, 0, 0, RECORD_OK},
        {RECORD_CHUNK, 100, 3, 100, 0, 0, RECORD_BAD},
        {RECORD_CHUNK, 0, 0, 0, 0, 0, RECORD_BAD},
        {RECORD_TOMB, 0, 3, 0, 0, 0, RECORD_OK},
        {4, 0, 3, 0, 0, 0, RECORD_BAD},
        {0, 0, 3, 0, 0, 0, RECORD_BAD},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct store_extent e[2] = {{128, 1, 0, rows[i].first_n, 0}, {512, 1, 0, STORE_INLINE, 0}};
        struct record out, in = {.h = {.kind = rows[i].kind,
                                       .size = rows[i].size,
                                       .n_key = rows[i].n_key,
                                       .n_inline = rows[i].n_inline,
                                       .n_extents = rows[i].n_extents},
                                 .extents = e,
                                 .key = {"key", rows[i].n_key}};
        size_t n;
        char *at = record_bytes(&in, &n);

        if (record_decode(at, n, ID, &out) != rows[i].found)
            fail_msg("row %u", i);
        free(at);
    }
}

/* ---- pages ---- */

/* Its checksums are right. */
static void
a_record_of_another_version_is_bad(void **state)
{
    struct record in = sample(), out;
    size_t n;
    char *at = record_bytes(&in, &n);
    struct record_header h;

    (void)state;
    memcpy(&h, at, sizeof h);
    h.version = SEGMENT_VERSION + 1;
    memcpy(at, &h, sizeof h);
    record_place(at, n, (struct record_place){h.seq, h.order}, h.body_check, ID);
    assert_int_equal(record_decode(at, n, ID, &out), RECORD_BAD);
    h.version = SEGMENT_VERSION;
    memcpy(at, &h, sizeof h);
    record_place(at, n, (struct record_place){h.seq, h.order}, h.body_check, ID);
    assert_int_equal(record_decode(at, n, ID, &out), RECORD_OK);
    free(at);
}

static void
pages_are_found_wrong(void **state)
{
    static struct page page;
    struct page_image image;
    unsigned i;

    (void)state;
    for (i = 0; i < PAGE_WORDS; i++)
        atomic_store(&page.words[i], i * 3);
    page_encode(&image, &page, 12, ID, 1);
    assert_int_equal(page_decode(&image, 12, ID), PAGE_OK);
    assert_int_equal(page_decode(&image, 13, ID), PAGE_BAD); /* another's place */
    assert_int_equal(page_decode(&image, 12, ID + 1), PAGE_BAD);
    for (i = 0; i < 8 * sizeof image; i++) {
        ((unsigned char *)&image)[i / 8] ^= (unsigned char)(1 << i % 8);
        assert_int_equal(page_decode(&image, 12, ID), PAGE_BAD);
        ((unsigned char *)&image)[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    image.version = PAGE_VERSION + 1; /* another version's, as it wrote it */
    image.check = image_checksum(&image);
    assert_int_equal(page_decode(&image, 12, ID), PAGE_BAD);
    image.version = PAGE_VERSION;
    image.check = image_checksum(&image);
    assert_int_equal(page_decode(&image, 12, ID), PAGE_OK);
    memset(&image, 0, sizeof image);
    assert_int_equal(page_decode(&image, 12, ID), PAGE_NEVER);
}

/* ---- the index ---- */

#define N_PAGES 32

static struct index
index_new(void)
{
    static _Atomic(uint64_t) counts[2];

    atomic_store(&counts[0], 0);
    atomic_store(&counts[1], 0);
    return (struct index){calloc(N_PAGES, sizeof(struct page)), N_PAGES, &counts[0], &counts[1]};
}

static struct store_hash
hash_of(uint64_t i)
{
    XXH128_hash_t h = XXH3_128bits(&i, sizeof i);

    return (struct store_hash){h.high64, h.low64};
}

static int
leads_to(const struct index *ix, struct store_hash hash, uint64_t offset)
{
    uint64_t found[INDEX_FOUND_MAX];
    unsigned i, n = index_find(ix, hash, found);

    for (i = 0; i < n; i++)
        if (entry_place(found[i]) * SEGMENT_UNIT == offset)
            return 1;
    return 0;
}

static void
entries_keep_what_they_say(void **state)
{
    static const struct {
        uint64_t offset, bytes, bytes_max;
    } rows[] = {
        {128, 1, 128},
        {128, 128, 128},
        {256, 129, 256},
        {1 << 20, 5000, 8192},
        {STORE_DISK_MAX - 128, 400000, 524288},
        {256, 100000000, 4 << 20},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t entry = entry_make((struct store_hash){0, UINT64_MAX}, rows[i].offset, rows[i].bytes);

        assert_int_equal(entry_place(entry) * SEGMENT_UNIT, rows[i].offset);
        assert_int_equal(entry_bytes_max(entry), rows[i].bytes_max);
        assert_int_equal(entry_tag(entry), (1 << ENTRY_TAG_BITS) - 1);
        assert_int_equal(entry_used(entry), 0);
    }
}

static void
put_found_moved_dropped(void **state)
{
    struct index ix = index_new();
    struct store_hash h = hash_of(1);
    uint64_t found[INDEX_FOUND_MAX];
    unsigned i;

    (void)state;
    assert_int_equal(index_put(&ix, h, entry_make(h, 128, 100)), 0);
    assert_true(leads_to(&ix, h, 128));
    assert_int_equal(index_put(&ix, h, entry_make(h, 256, 100)), 1); /* in its place */
    assert_false(leads_to(&ix, h, 128));
    assert_int_equal(atomic_load(ix.n_objects), 1);
    for (i = 0; i < 5; i++)
        index_use(&ix, h);
    assert_int_equal(index_find(&ix, h, found), 1);
    assert_int_equal(entry_used(found[0]), ENTRY_USED_MAX);
    assert_int_equal(index_move(&ix, h, 1, entry_make(h, 512, 100)), 0); /* not there any more */
    assert_int_equal(index_move(&ix, h, 2, entry_make(h, 512, 100)), 1);
    assert_int_equal(index_drop(&ix, h, 2), 0);
    assert_int_equal(index_drop(&ix, h, 4), 1);
    assert_int_equal(index_find(&ix, h, found), 0);
    assert_int_equal(index_put(&ix, h, entry_make(h, 128, 100)), 0);
    assert_int_equal(index_forget(&ix, h), 1);
    assert_int_equal(atomic_load(ix.n_objects), 0);
    free(ix.pages);
}

/* At the load a page is planned for, almost nothing is displaced; beyond it nothing breaks. */
static void
holds_what_it_is_planned_for(void **state)
{
    struct index ix = index_new();
    uint64_t planned = N_PAGES * (PAGE_WORDS * 3 / 4), i, n = 0;

    (void)state;
    for (i = 0; i < planned; i++)
        index_put(&ix, hash_of(i), entry_make(hash_of(i), (i + 1) * 128, 100));
    for (i = 0; i < planned; i++)
        n += (uint64_t)leads_to(&ix, hash_of(i), (i + 1) * 128);
    assert_true(n > planned - planned / 500);
    assert_true(atomic_load(ix.n_displaced) < planned / 500);
    for (i = planned; i < 4 * planned; i++)
        index_put(&ix, hash_of(i), entry_make(hash_of(i), (i + 1) * 128, 100));
    assert_true(atomic_load(ix.n_objects) <= (uint64_t)N_PAGES * PAGE_WORDS);
    assert_true(atomic_load(ix.n_objects) > (uint64_t)N_PAGES * PAGE_WORDS * 95 / 100);
    free(ix.pages);
}

static void
a_page_that_is_read_late_takes_nothing_back(void **state)
{
    struct index ix = index_new();
    struct store_hash h = hash_of(1);
    struct page_image image;

    (void)state;
    index_put(&ix, h, entry_make(h, 128, 100));
    page_encode(&image, &ix.pages[index_page(&ix, h)], 0, ID, 1);
    index_put(&ix, h, entry_make(h, 256, 100));
    assert_int_equal(page_load(&ix.pages[index_page(&ix, h)], &image), 0);
    assert_true(leads_to(&ix, h, 256));
    assert_false(leads_to(&ix, h, 128));
    free(ix.pages);
}

/* ---- the memory tier ---- */

static struct object *
object_of_size(struct memory *m, uint64_t i, size_t size)
{
    struct record in = {.h = {.kind = RECORD_HEAD, .hash = hash_of(i), .n_key = 1, .size = size,
                              .n_inline = (uint32_t)size},
                        .key = SL_SPAN("k")},
                  out;
    struct store_bytes *body = bytes_new(size);
    struct object *o = object_new(m, record_head_size(&in));

    record_encode(o->head->at, &in, ID);
    assert_int_equal(record_decode(o->head->at, o->head->size, ID, &out), RECORD_OK);
    memset(body->at, (int)i, size);
    assert_int_equal(object_fill(o, &out, body, body->at), 0);
    return o;
}

static int
is_in(struct memory *m, uint64_t i)
{
    struct object *o = memory_find(m, hash_of(i));

    if (o == NULL)
        return 0;
    assert_int_equal((unsigned char)o->body_at[0], i & 0xff);
    object_drop(&o);
    return 1;
}

static void
put_memory(struct memory *m, uint64_t i, size_t size)
{
    struct object *o = object_of_size(m, i, size);

    memory_put(m, o);
    object_drop(&o);
}

static void
a_flood_leaves_the_used(void **state)
{
    struct memory *m = memory_open(1 << 20);
    struct memory_stats stats;
    unsigned i, round, n = 0;

    (void)state;
    for (i = 0; i < 50; i++)
        put_memory(m, i, 4000);
    for (round = 0; round < 2; round++)
        for (i = 0; i < 50; i++)
            assert_true(is_in(m, i));
    for (i = 1000; i < 11000; i++) { /* 40 MB, each asked for once */
        put_memory(m, i, 4000);
        if (i % 500 == 0)
            for (n = 0; n < 50; n++)
                is_in(m, n);
    }
    for (i = n = 0; i < 50; i++)
        n += (unsigned)is_in(m, i);
    assert_int_equal(n, 50);
    memory_stats(m, &stats);
    assert_true(stats.bytes <= 1 << 20 && stats.bytes > (1 << 20) * 9 / 10);
    assert_true(stats.n_evicted > 9000);
    memory_close(&m);
}

/* Nobody leaves for want of a seat as long as there is room for his bytes. */
static void
small_ones_find_seats(void **state)
{
    struct memory *m = memory_open(8 << 20);
    struct memory_stats stats;
    unsigned i;

    (void)state;
    for (i = 0; i < 5500; i++)
        put_memory(m, i, 1024);
    memory_stats(m, &stats);
    assert_true(stats.bytes > 7 << 20);
    assert_true(stats.n_evicted < 5500 / 100);
    memory_close(&m);
}

/* Of those that left unused, the next of the same key is taken for one in use. */
static void
who_comes_again_stays(void **state)
{
    struct memory *m = memory_open(1 << 20);
    unsigned i, n = 0;

    (void)state;
    for (i = 0; i < 400; i++)
        put_memory(m, i, 4000);
    for (i = 0; i < 50; i++) {
        assert_false(is_in(m, i));
        put_memory(m, i, 4000);
    }
    for (i = 1000; i < 6000; i++)
        put_memory(m, i, 4000);
    for (i = 0; i < 50; i++)
        n += (unsigned)is_in(m, i);
    assert_true(n >= 40); /* a ghost may have been in another's way */
    memory_close(&m);
}

static void
what_is_held_outlives_the_tier(void **state)
{
    struct memory *m = memory_open(1 << 20);
    struct object *held, *top[4];
    unsigned i;

    (void)state;
    put_memory(m, 1, 5000);
    held = memory_find(m, hash_of(1));
    assert_non_null(held);
    for (i = 2; i < 2000; i++)
        put_memory(m, i, 5000);
    memory_forget(m, hash_of(1));
    assert_false(is_in(m, 1));
    assert_int_equal((unsigned char)held->body_at[4999], 1);
    object_drop(&held);
    put_memory(m, 5000, 200 << 10); /* more than an eighth */
    assert_false(is_in(m, 5000));
    assert_int_equal(memory_top(m, NULL, NULL, top, 4), 4);
    for (i = 0; i < 4; i++)
        object_drop(&top[i]);
    memory_close(&m);
}

/* The next object of its size gets the head of one that left, but not while others hold it. */
static void
a_head_that_is_held_is_not_used_again(void **state)
{
    struct memory *m = memory_open(1 << 20);
    struct object *o = object_of_size(m, 1, 100);
    struct store_bytes *held = bytes_hold(o->head);
    char before[256];
    size_t n = held->size < sizeof before ? held->size : sizeof before;
    unsigned i;

    (void)state;
    memcpy(before, held->at, n);
    memory_put(m, o);
    object_drop(&o);
    for (i = 2; i < 12000; i++)
        put_memory(m, i, 100);
    assert_false(is_in(m, 1));
    assert_memory_equal(held->at, before, n);
    bytes_drop(&held);
    memory_close(&m);
}

static void
a_head_is_as_large_as_it_has_to_be(void **state)
{
    struct memory *m = memory_open(1 << 20);
    struct object *o[64];
    unsigned round, i;

    (void)state;
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 64; i++) {
            size_t n = 1 + (i * 71 + round * 997) % 4500;

            o[i] = object_new(m, n);
            assert_true(o[i]->head->size >= n && o[i]->head->size < n + 128);
            memset(o[i]->head->at, (int)i, n);
        }
        for (i = 0; i < 64; i++)
            object_drop(&o[i]);
    }
    memory_close(&m);
}

static void
what_was_read_late_does_not_replace(void **state)
{
    struct memory *m = memory_open(1 << 20);
    struct object *fresh = object_of_size(m, 1, 100), *late = object_of_size(m, 1, 100), *o;

    (void)state;
    fresh->change = 6;
    late->change = 5;
    memory_put(m, fresh);
    memory_put_read(m, late);
    o = memory_find(m, hash_of(1));
    assert_ptr_equal(o, fresh);
    object_drop(&o);
    object_drop(&fresh);
    object_drop(&late);
    memory_close(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checksum_is_the_same_on_every_processor),
        cmocka_unit_test(a_record_says_what_was_written),
        cmocka_unit_test(every_flipped_bit_of_a_record_is_found),
        cmocka_unit_test(records_that_contradict_themselves),
        cmocka_unit_test(a_record_of_another_version_is_bad),
        cmocka_unit_test(pages_are_found_wrong),
        cmocka_unit_test(entries_keep_what_they_say),
        cmocka_unit_test(put_found_moved_dropped),
        cmocka_unit_test(holds_what_it_is_planned_for),
        cmocka_unit_test(a_page_that_is_read_late_takes_nothing_back),
        cmocka_unit_test(a_flood_leaves_the_used),
        cmocka_unit_test(small_ones_find_seats),
        cmocka_unit_test(who_comes_again_stays),
        cmocka_unit_test(what_is_held_outlives_the_tier),
        cmocka_unit_test(a_head_that_is_held_is_not_used_again),
        cmocka_unit_test(a_head_is_as_large_as_it_has_to_be),
        cmocka_unit_test(what_was_read_late_does_not_replace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
