/* What stands in segments, and when their pages are others. */
/* with: modules/cache/checksum.c */
#include "store_world.h"

#include <semaphore.h>

#define SMALL 3000

static void
fill(unsigned from, unsigned to, size_t n)
{
    unsigned i;

    for (i = from; i < to; i++) {
        put_object(i, 1, n);
        if (i % 40 == 39)
            run();
    }
    run();
}

/* ---- lists ---- */

static void
a_start_reads_lists_in_place_of_records(void **state)
{
    uint64_t n_read;

    (void)state;
    options.memory_size = 0;
    begin();
    tick();
    fill(0, 1000, SMALL);
    all_killed();
    begin();
    n_read = disk_did.n_read;
    tick();
    /* the tables, and of 3 MB an eighth at most */
    assert_true(disk_did.n_read - n_read <
                1000 * SMALL / 8 + store->layout.n_pages * PAGE_SIZE_DISK);
    assert_int_equal(stats().disk_objects, 1000);
    assert_int_equal(serve_all(1000, STORE_MEMORY), 1000);
    assert_int_equal(stats().n_bad_records, 0);
    end();
}

/* Where it stands, what it says or how many there are: then records say it themselves. */
static void
without_a_list_records_are_looked_at(void **state)
{
    const size_t wrong[] = {offsetof(struct record_header, size),
                            offsetof(struct record_header, n_inline),
                            sizeof(struct record_header) + offsetof(struct record_listed, n),
                            sizeof(struct record_header) + 3 * sizeof(struct record_listed)};
    unsigned i;

    (void)state;
    options.memory_size = 0;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        off_t at = SEGMENT_UNIT + (off_t)wrong[i];
        unsigned char byte;

        begin();
        tick();
        fill(0, 40, SMALL);
        assert_int_equal(pread(store->fd_objects, &byte, 1, at), 1);
        byte ^= 1;
        assert_int_equal(pwrite(store->fd_objects, &byte, 1, at), 1);
        all_killed();
        begin();
        tick();
        /* a list whose own head is wrong ends what is known of the segment */
        assert_int_equal(serve_all(40, STORE_MEMORY), i < 2 ? 0 : 40);
        end();
        folder_remove(NULL);
        mkdir(folder, 0700);
        world_begin();
    }
}

static void
forget_each_second(unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i += 2) {
        struct made m = make(i, 1, 0);

        store_invalidate(store, here, sl_span(m.key), NULL);
        unmake(&m);
    }
}

/* What was forgotten stays so, by the lists as well. */
static void
lists_have_tombs(void **state)
{
    (void)state;
    options.memory_size = 0;
    begin();
    tick();
    fill(0, 40, SMALL);
    forget_each_second(40);
    all_killed(); /* before they were written: nothing of them is known */
    begin();
    tick();
    assert_int_equal(serve_all(40, STORE_MEMORY), 40);
    forget_each_second(40);
    run();
    all_killed();
    begin();
    tick();
    assert_int_equal(serve_all(40, STORE_MEMORY), 20);
    end();
}

/* After an orderly end, too, which writes no page for it. */
static void
what_a_later_process_writes_is_later(void **state)
{
    uint64_t before;

    (void)state;
    begin();
    tick();
    fill(0, 40, SMALL);
    run();
    before = atomic_load(super_word(store, SUPER_ORDER));
    end();
    world_begin();
    begin();
    fill(0, 1, SMALL);
    run();
    assert_true(atomic_load(super_word(store, SUPER_ORDER)) > before);
    end();
}

static void
a_flood_of_small_objects_leaves_the_used(void **state)
{
    unsigned i;
    struct store_stats st;
    uint64_t n_read;

    (void)state;
    options.memory_size = 0;
    begin();
    tick();
    fill(0, 20, SMALL);
    n_read = disk_did.n_read;
    for (i = 20; i < 16000; i += 400) { /* three times the disk */
        fill(i, i + 400, SMALL);
        assert_int_equal(serve_all(20, STORE_MEMORY), 20);
    }
    st = stats();
    assert_true(st.n_evicted > 9000 && st.n_relocated >= 20);
    assert_int_equal(st.n_bad_records, 0);
    assert_true(st.disk_objects >= st.disk_size / 3584 * 3 / 4);
    /* who makes room reads little of what was written */
    assert_true(disk_did.n_read - n_read < 16000 * (uint64_t)SMALL / 4);
    end();
}

/* ---- pages ---- */

/* The disk is written over twice: how often pages have left the file meanwhile. */
static unsigned
renewed_in_rounds(unsigned from)
{
    unsigned before = disk_did.n_renewed;

    fill(from, from + 12000, SMALL);
    return disk_did.n_renewed - before;
}

static void
pages_that_no_socket_has_are_written_over(void **state)
{
    unsigned n;

    (void)state;
    options.memory_size = 0;
    begin();
    tick();
    put_object(0, 1, 700000);
    run();
    assert_int_equal(serve(0, STORE_MEMORY), 1);
    assert_true(renewed_in_rounds(1) >= 7); /* the first round */
    assert_int_equal(renewed_in_rounds(20000), 0);
    put_object(50000, 1, 700000);
    run();
    assert_int_equal(serve(50000, STORE_FILE), 1); /* a socket may have it still */
    n = renewed_in_rounds(60000);
    assert_true(n == 1 || n == 2); /* segments that it stood in */
    assert_int_equal(renewed_in_rounds(80000), 0);
    killed(); /* its sockets have what they have, and the zone knows */
    begin();
    assert_int_equal(renewed_in_rounds(100000), 0);
    all_killed(); /* nobody knows */
    begin();
    tick();
    assert_true(renewed_in_rounds(120000) >= 7);
    end();
}

/* Of larger ones, pieces of the page cache may be two segments'. */
static void
pages_are_given_where_they_are_one_segments(void **state)
{
    static const struct {
        long page;
        uint64_t size;
        int gives;
    } rows[] = {{4096, 16 << 20, 1}, {16384, 16 << 20, 0}, {16384, UINT64_C(4) << 30, 1},
                {65536, UINT64_C(4) << 30, 0}};
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fault.page = rows[i].page;
        options.disk_size = rows[i].size;
        begin();
        assert_int_equal(store->gives_files, rows[i].gives);
        end();
        world_begin();
    }
}

/* The index on disk still leads to what was there, in the middle of what is there now. */
static void
a_segment_that_was_used_again_is_not_damaged(void **state)
{
    (void)state;
    options.memory_size = 0;
    begin();
    tick();
    fill(0, 8000, SMALL);
    tick();
    fill(8000, 11000, SMALL + 500);
    all_killed();
    begin();
    assert_true(serve_all(11000, STORE_MEMORY) > 3000);
    fill(11000, 13000, SMALL);
    tick();
    assert_true(serve_all(13000, STORE_MEMORY) > 3000);
    assert_int_equal(stats().n_bad_records, 0);
    assert_null(strstr(said, "CACHEDISK0108"));
    end();
}

/* ---- a claim, and a copy of the tables at the same time ---- */

static pthread_t copier;
static sem_t is_copying, may_go_on;
static _Thread_local int is_copier;

/* All of the index is written but its first page. */
static void
copier_waits(off_t at)
{
    if (!is_copier || at != (off_t)(store->layout.index_at * PAGE_SIZE_DISK))
        return;
    is_copier = 0; /* it writes the page again if that changed */
    sem_post(&is_copying);
    sem_wait(&may_go_on);
}

static void *
copier_run(void *data)
{
    (void)data;
    is_copier = 1;
    page_is_changed(&store->pages[store->layout.index_at]);
    disk_copy_tables(store);
    return NULL;
}

static void
copier_begins(void)
{
    fault.at_fallocate = NULL;
    assert_int_equal(pthread_create(&copier, NULL, copier_run, NULL), 0);
    sem_wait(&is_copying);
}

/* How far a segment was filled before it is used again is not taken for how far the index on disk
 * knows it. */
static void
a_segment_is_copied_while_it_is_claimed(void **state)
{
    unsigned i, n;

    (void)state;
    options.memory_size = 0;
    begin();
    tick();
    fill(0, 8000, SMALL);
    tick();
    end();
    world_begin();
    sem_init(&is_copying, 0, 0);
    sem_init(&may_go_on, 0, 0);
    begin(); /* nobody knows what sockets have: pages leave the file */
    tick();
    fault.at_fallocate = copier_begins;
    fault.at_pwrite = copier_waits;
    for (n = 10000; fault.at_fallocate != NULL; n += 10)
        fill(n, n + 10, SMALL);
    fill(n, n + 50, SMALL);
    sem_post(&may_go_on);
    pthread_join(copier, NULL);
    fault.at_pwrite = NULL;
    all_killed();
    begin();
    for (i = n; i < n + 50; i++)
        assert_int_equal(serve(i, STORE_MEMORY), 1);
    end();
}

#define T(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_start_reads_lists_in_place_of_records),
        T(without_a_list_records_are_looked_at),
        T(lists_have_tombs),
        T(what_a_later_process_writes_is_later),
        T(a_flood_of_small_objects_leaves_the_used),
        T(pages_that_no_socket_has_are_written_over),
        T(pages_are_given_where_they_are_one_segments),
        T(a_segment_is_copied_while_it_is_claimed),
        T(a_segment_that_was_used_again_is_not_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
