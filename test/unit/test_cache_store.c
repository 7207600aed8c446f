/* The store of the cache as one process uses it, after another, on a disk that fails. */
/* with: modules/cache/checksum.c */
#include "store_world.h"

/* ---- what is stored is found ---- */

static void
stored_is_found(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 4096, 16384, 100000, STORE_INLINE - 1, STORE_INLINE,
                                   STORE_INLINE + 1, 1000000, 3000000};
    unsigned i, n = sizeof sizes / sizeof sizes[0];

    (void)state;
    begin();
    for (i = 0; i < n; i++) {
        assert_int_equal(put_object(i, 1, sizes[i]), 0);
        run();
        assert_int_equal(serve(i, STORE_FILE), 1);
    }
    assert_int_equal(serve_all(n, STORE_MEMORY), n);
    assert_int_equal(serve(999, STORE_FILE), 0);
    assert_int_equal(stats().disk_objects, n);
    end();
    begin(); /* a reload: the zone is as it was */
    assert_int_equal(serve_all(n, STORE_FILE), n);
    end();
    world_begin(); /* a restart */
    begin();
    tick();
    assert_int_equal(serve_all(n, STORE_FILE), n);
    assert_int_equal(stats().n_bad_records, 0);
    end();
}

static void
found_in_memory_without_disk(void **state)
{
    (void)state;
    options.path = NULL;
    begin();
    assert_int_equal(put_object(1, 1, 1000), 0);
    assert_int_equal(put_object(2, 1, STORE_INLINE), 0);
    assert_int_equal(put_object(3, 1, STORE_INLINE + 1), -1);
    assert_int_equal(the_loop.n_jobs, 0);
    assert_int_equal(serve(1, STORE_MEMORY), 1);
    assert_int_equal(serve(2, STORE_MEMORY), 1);
    end();
}

static void
a_hit_in_memory_asks_no_disk(void **state)
{
    struct getting t = {.get = {.key = SL_SPAN("http://h1/dir1/1"), .done = got}};
    uint64_t reads;

    (void)state;
    begin();
    put_object(1, 1, 1000);
    run();
    reads = stats().n_disk_reads;
    t.get.hash = store_hash(store, t.get.key);
    assert_int_equal(store_get(store, &the_loop, &t.get, &t.found), STORE_HIT);
    assert_true(store_body(t.found).n == 1000);
    assert_int_equal(store_hits(t.found), 1);
    assert_int_equal(stats().n_disk_reads, reads);
    store_drop(&t.found);
    end();
}

/* Also not while the new one waits to be written and memory does not have that, as another process's. */
static void
what_is_replaced_is_not_found(void **state)
{
    unsigned i, version;

    (void)state;
    options.memory_size = 0;
    begin();
    for (i = 0; i < 8; i++)
        put_object(i, 1, i == 7 ? STORE_INLINE + 1 : 1000 + i);
    run();
    for (i = 0; i < 8; i++) {
        assert_int_equal(version_of(i), 1);
        put_object(i, 2, 2000 + i);
        version = version_of(i); /* which may have it written */
        assert_true(version == 0 || version == 2);
    }
    run();
    for (i = 0; i < 8; i++)
        assert_int_equal(version_of(i), 2);
    end();
}

static void
a_key_has_its_last_object(void **state)
{
    unsigned round;

    (void)state;
    begin();
    for (round = 1; round < 20; round++) {
        put_object(5, round, 1000 * round);
        if (round % 3 == 0)
            run();
        assert_int_equal(version_of(5), round);
    }
    run();
    assert_int_equal(stats().disk_objects, 1);
    all_killed();
    begin();
    tick();
    assert_int_equal(version_of(5), 19);
    end();
}

/* ---- bodies that arrive ---- */

/* As from a socket: to where they will stand, if there is such a place already. */
static size_t
append_in_place(struct store_writer *w, const char *at, size_t n)
{
    size_t room = 0;
    char *to = store_room(w, &room);

    if (to != NULL) {
        n = n < room ? n : room;
        memcpy(to, at, n);
        at = to;
    }
    assert_int_not_equal(store_append(w, at, n), SL_FLOW_GONE);
    return n;
}

static void
bytes_come_to_where_they_stand(void **state)
{
    static const size_t parts[] = {1, 10007, 65536, 2 * STORE_INLINE};
    struct made m = make(1, 1, 3 * STORE_INLINE + 77);
    size_t i, at, n;
    int known;

    (void)state;
    for (i = 0; i < 2 * sizeof parts / sizeof parts[0]; i++) {
        struct store_writer *w;
        size_t room = 0, part = parts[i / 2];

        begin();
        known = i % 2 == 0;
        w = writer_of(&m, known ? (int64_t)m.n : -1, NULL, 0);
        assert_null(store_room(w, &room));
        assert_int_not_equal(store_append(w, m.body, 100), SL_FLOW_GONE);
        assert_non_null(store_room(w, &room));
        assert_int_equal(room, (known ? STORE_INLINE : 16 * 1024) - 100);
        for (at = 100; at < m.n; at += n) {
            n = append_in_place(w, m.body + at, m.n - at < part ? m.n - at : part);
            run();
        }
        assert_true(!known || store_room(w, &room) == NULL);
        store_commit(&w);
        run();
        assert_int_equal(serve(1, STORE_FILE), 1);
        end();
    }
    unmake(&m);
}

static void
readers_follow_what_arrives(void **state)
{
    struct made m = make(1, 1, 3 * STORE_INLINE + 77);
    struct store_writer *w;
    struct store_object *o;
    struct reading first, late;
    size_t at, seen = 0;
    int is_complete;

    (void)state;
    begin();
    w = writer_of(&m, -1, NULL, 0);
    o = store_writer_object(w);
    store_hold(o);
    first = (struct reading){.read = {.object = o, .done = was_read}};
    assert_int_equal(store_read(store, &the_loop, &first.read), STORE_IO_WAIT);
    for (at = 0; at < m.n; at += 10007) {
        size_t n = m.n - at < 10007 ? m.n - at : 10007;

        assert_int_not_equal(store_append(w, m.body + at, n), SL_FLOW_GONE);
        while (run_mail(&the_loop))
            ;
        while (first.is_done && first.io == STORE_IO_OK) {
            assert_memory_equal(first.read.piece.at, m.body + seen, first.read.piece.n);
            first.read.from += first.read.piece.n;
            seen += first.read.piece.n;
            store_piece_drop(&first.read.piece);
            first.io = store_read(store, &the_loop, &first.read);
            first.is_done = first.io != STORE_IO_WAIT;
        }
        assert_int_equal(store_size(o, &is_complete), at + n);
        assert_false(is_complete);
    }
    assert_int_equal(seen, m.n);
    assert_null(find(m.key)); /* not before it is whole */
    store_commit(&w);
    run();
    assert_true(first.is_done);
    assert_int_equal(first.io, STORE_IO_END);
    assert_int_equal(store_size(o, &is_complete), m.n);
    assert_true(is_complete);
    assert_int_equal(check_body(o, STORE_MEMORY), 0); /* by the object that arrived */
    late = (struct reading){.read = {.object = o, .from = m.n, .done = was_read}};
    assert_int_equal(store_read(store, &the_loop, &late.read), STORE_IO_END);
    store_drop(&o);
    assert_int_equal(serve(1, STORE_FILE), 1);
    unmake(&m);
    end();
}

/* How many bytes a read gives. */
static size_t
piece_size(struct reading *t)
{
    size_t n;

    t->io = store_read(store, &the_loop, &t->read);
    run();
    if (t->io == STORE_IO_WAIT)
        t->io = t->is_done ? STORE_IO_OK : STORE_IO_BROKEN;
    assert_int_equal(t->io, STORE_IO_OK);
    n = t->read.piece.n;
    store_piece_drop(&t->read.piece);
    return n;
}

static int
extents_at_hand(struct store_object *o)
{
    const struct store_extent *e = &object_of(o)->extents[0];

    return is_at_hand(store, e->offset, e->n);
}

/* What stands together is given together once it was found right, if the system tells that it has
 * it at hand. */
static void
a_run_is_one_piece_of_the_file(void **state)
{
    struct made m = make(1, 1, 7 * STORE_INLINE + 77);
    struct reading t = {.read = {.from = 100, .how = STORE_FILE, .done = was_read}};
    unsigned run_at_hand;

    (void)state;
    begin();
    assert_int_equal(put_object(1, 1, m.n), 0);
    run();
    t.read.object = find(m.key);
    run_at_hand = extents_at_hand(t.read.object) && store->gives_files ? store->layout.run : 1;
    assert_int_equal(piece_size(&t), STORE_INLINE - 100); /* the next was not looked at */
    assert_int_equal(check_body(t.read.object, STORE_FILE), 0);
    assert_int_equal(piece_size(&t), run_at_hand * STORE_INLINE - 100);
    t.read.how = STORE_MEMORY;
    assert_int_equal(piece_size(&t), STORE_INLINE - 100);
    store_drop(&t.read.object);
    unmake(&m);
    end();
}

/* The loop would wait for the page that left. */
static void
what_left_the_page_cache_in_its_middle_is_read_elsewhere(void **state)
{
    struct made m = make(1, 1, 3 * STORE_INLINE);
    struct reading t = {.read = {.how = STORE_FILE, .done = was_read}};
    const struct store_extent *e;

    (void)state;
    begin();
    assert_int_equal(put_object(1, 1, m.n), 0);
    run();
    t.read.object = find(m.key);
    assert_int_equal(check_body(t.read.object, STORE_FILE), 0);
    e = &object_of(t.read.object)->extents[0];
    fdatasync(store->fd_objects); /* before, nothing leaves */
    posix_fadvise(store->fd_objects, 0, 0, POSIX_FADV_DONTNEED);
    assert_int_equal(check_body(t.read.object, STORE_FILE), 0); /* in smaller pieces than were written */
    posix_fadvise(store->fd_objects, (off_t)(e->offset + STORE_INLINE / 2), STORE_INLINE / 4,
                  POSIX_FADV_DONTNEED);
    t.io = store_read(store, &the_loop, &t.read);
    if (store->counts_pages) /* before Linux 6.5 nobody tells */
        assert_int_equal(t.io, STORE_IO_WAIT);
    run();
    store_piece_drop(&t.read.piece);
    store_drop(&t.read.object);
    unmake(&m);
    end();
}

/* One that is far behind reads from the file what memory has no more. */
static void
the_slow_read_from_the_file(void **state)
{
    struct made m = make(1, 1, 12 * STORE_INLINE);
    struct store_writer *w;
    struct store_object *o;
    size_t at;

    (void)state;
    begin();
    w = writer_of(&m, -1, NULL, 0);
    o = store_writer_object(w);
    store_hold(o);
    for (at = 0; at < m.n; at += STORE_INLINE / 2) {
        assert_int_not_equal(store_append(w, m.body + at, STORE_INLINE / 2), SL_FLOW_GONE);
        run();
    }
    assert_null(object_of(o)->arriving->chunks[0].bytes);
    store_commit(&w);
    run();
    assert_int_equal(check_body(o, STORE_FILE), 0);
    assert_int_equal(check_body(o, STORE_MEMORY), 0);
    store_drop(&o);
    unmake(&m);
    end();
}

static int n_room;

static void
room_again(struct sl_loop *loop, void *data)
{
    (void)loop;
    (void)data;
    n_room++;
}

static void
a_writer_waits_for_the_disk(void **state)
{
    struct made m = make(1, 1, 12 * STORE_INLINE);
    struct store_new n = {.key = sl_span(m.key), .size = -1, .room = room_again};
    struct store_writer *w;
    size_t at = 0;

    (void)state;
    begin();
    n_room = 0;
    w = store_writer_open(store, &the_loop, &n);
    while (store_append(w, m.body + at, STORE_INLINE) == SL_FLOW_ROOM)
        at += STORE_INLINE;
    assert_true(at < m.n);
    assert_int_equal(n_room, 0);
    run();
    assert_int_equal(n_room, 1);
    store_abort(&w);
    unmake(&m);
    end();
}

static void
what_breaks_off_is_broken(void **state)
{
    struct made m = make(1, 1, 1000);
    struct store_writer *w;
    struct store_object *o;
    struct reading t;
    int is_complete;

    (void)state;
    begin();
    w = writer_of(&m, 1000, NULL, 0);
    o = store_writer_object(w);
    store_hold(o);
    store_append(w, m.body, 500);
    t = (struct reading){.read = {.object = o, .from = 500, .done = was_read}};
    assert_int_equal(store_read(store, &the_loop, &t.read), STORE_IO_WAIT);
    store_commit(&w); /* shorter than it said */
    run();
    assert_true(t.is_done);
    assert_int_equal(t.io, STORE_IO_BROKEN);
    assert_int_equal(store_size(o, &is_complete), -1);
    assert_null(find(m.key));
    store_drop(&o);

    w = writer_of(&m, 1000, NULL, 0);
    assert_int_equal(store_append(w, m.body, 1000), SL_FLOW_ROOM);
    assert_int_equal(store_append(w, m.body, 1), SL_FLOW_GONE); /* longer than it said */
    store_abort(&w);
    unmake(&m);
    end();
}

static void
a_wait_can_be_cancelled(void **state)
{
    struct made m = make(1, 1, 1000);
    struct store_writer *w;
    struct reading t[3];
    int i;

    (void)state;
    begin();
    w = writer_of(&m, 1000, NULL, 0);
    for (i = 0; i < 3; i++) {
        t[i] = (struct reading){.read = {.object = store_writer_object(w), .done = was_read}};
        assert_int_equal(store_read(store, &the_loop, &t[i].read), STORE_IO_WAIT);
    }
    assert_int_equal(store_read_cancel(&t[1].read), 1);
    assert_int_equal(store_read_cancel(&t[2].read), 1);
    assert_int_equal(store_read_cancel(&t[2].read), 0);
    assert_int_equal(store_read(store, &the_loop, &t[2].read), STORE_IO_WAIT);
    store_append(w, m.body, 1000);
    assert_int_equal(store_read_cancel(&t[0].read), 0); /* its mail is under way */
    run();
    assert_true(t[0].is_done && !t[1].is_done && t[2].is_done);
    store_piece_drop(&t[0].read.piece);
    store_piece_drop(&t[2].read.piece);
    store_commit(&w);
    unmake(&m);
    end();
}

/* ---- changes ---- */

static void
a_head_is_made_anew(void **state)
{
    static const size_t sizes[] = {500, 700000};
    unsigned i;

    (void)state;
    for (i = 0; i < 2; i++) {
        struct made m = make(i, 1, sizes[i]);
        char meta[80];
        struct store_new n = {.stamp = 0, .flags = 7};
        struct store_object *o, *fresh;

        begin();
        put_object(i, 1, sizes[i]);
        run();
        o = find(m.key);
        snprintf(meta, sizeof meta, "%s freshened", m.meta);
        n.meta = sl_span(meta);
        n.stamp = store_stamp(store);
        fresh = store_update(store, &the_loop, o, &n);
        assert_non_null(fresh);
        store_drop(&o);
        store_drop(&fresh);
        run();
        all_killed();
        begin();
        tick();
        o = find(m.key);
        assert_non_null(o);
        assert_true(sl_span_eq(o->meta, sl_span(meta)));
        assert_int_equal(check_body(o, STORE_FILE), 0);
        store_drop(&o);
        unmake(&m);
        end();
        world_begin();
    }
}

static void
invalidated_on_its_way_to_the_disk(void **state)
{
    struct made m = make(3, 1, 0);

    (void)state;
    begin();
    put_object(3, 1, 3 * STORE_INLINE);
    store_invalidate(store, &the_loop, sl_span(m.key), NULL);
    run();
    assert_int_equal(serve(3, STORE_MEMORY), 0);
    put_object(3, 2, 3 * STORE_INLINE);
    run();
    assert_int_equal(serve(3, STORE_MEMORY), 1);
    unmake(&m);
    end();
}

/* The job has found the queue empty, and its loop does not know that yet. */
static void
what_is_urgent_does_not_wait_behind_a_job_at_its_end(void **state)
{
    struct made m = make(3, 1, 0);
    struct sl_offload *job;

    (void)state;
    begin();
    tick();
    put_object(3, 1, 100);
    while (run_mail(here))
        ;
    run_timer(here);
    assert_int_equal(here->n_jobs, 1);
    job = here->jobs[--here->n_jobs];
    job->work(job);
    put_object(5, 1, 100);
    store_invalidate(store, here, sl_span(m.key), NULL);
    assert_int_equal(here->n_jobs, 0);
    job->done(here, job);
    assert_int_equal(here->n_jobs, 1);
    run();
    all_killed();
    begin();
    tick();
    assert_int_equal(serve(3, STORE_MEMORY), 0);
    assert_int_equal(serve(5, STORE_MEMORY), 1);
    unmake(&m);
    end();
}

/* The index on disk had it, and somebody found it there before the tomb was written. */
static void
invalidated_before_the_index_was_read(void **state)
{
    struct made m = make(3, 1, 0);
    struct getting t = {.get = {.key = sl_span(m.key), .done = got}};
    struct sl_offload *job;

    (void)state;
    begin();
    tick();
    put_object(3, 1, 100);
    run();
    tick();
    all_killed();
    begin();
    store_invalidate(store, here, sl_span(m.key), NULL);
    assert_int_equal(here->n_jobs, 1);
    job = here->jobs[--here->n_jobs];
    t.get.hash = store_hash(store, t.get.key);
    assert_int_equal(store_get(store, here, &t.get, &t.found), STORE_WAIT);
    run();
    if (t.found != NULL)
        store_drop(&t.found);
    job->work(job);
    job->done(here, job);
    run();
    assert_int_equal(version_of(3), 0);
    unmake(&m);
    end();
}

static void
disk_works_again(void)
{
    fault.write_error = 0;
    now_ms += 100000;
    tick();
    tick();
    assert_true(disk_is_on(store));
}

/* An older one that the disk has is not found again where it did not take the later one. */
static void
what_is_not_written_lets_nothing_older_come_back(void **state)
{
    struct made m = make(7, 1, 0);
    unsigned i, k;

    (void)state;
    for (i = 0; i < 2; i++) {
        size_t n = i == 0 ? 100 : 100000; /* in a stretch, and by itself */

        options.memory_size = 2 << 20;
        begin();
        tick();
        put_object(3, 1, n);
        put_object(5, 1, n);
        put_object(7, 1, n);
        run();
        fault.write_error = EIO;
        put_object(3, 2, n);
        run();
        assert_false(disk_is_on(store));
        put_object(5, 2, n); /* that it rests is known */
        store_invalidate(store, here, sl_span(m.key), NULL);
        fault.write_error = 0;
        for (k = 0; k < 100; k++)
            tick();
        assert_true(disk_is_on(store));
        assert_int_equal(version_of(3), 2);
        assert_int_equal(version_of(5), 2);
        assert_int_equal(version_of(7), 0);
        memory_forget(store->memory, store_hash(store, SL_SPAN("http://h2/dir5/5")));
        assert_int_equal(version_of(5), 0);
        memory_forget(store->memory, store_hash(store, SL_SPAN("http://h0/dir3/3")));
        assert_int_equal(version_of(3), 0);
        end();
        world_begin();
    }
    unmake(&m);
}

/* Nor where the older one itself waits to be written, and the queue has no room for the later. */
static void
what_is_not_taken_lets_nothing_older_come_back(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < 4; i++) {
        size_t n = i % 2 == 0 ? 100 : 100000; /* in a stretch, and by itself */

        begin();
        tick();
        put_object(3, 1, n);
        if (i >= 2) /* memory had no room for it either */
            memory_forget(store->memory, store_hash(store, SL_SPAN("http://h0/dir3/3")));
        store->queued.bytes += 64 << 20;
        put_object(3, 2, n);
        store->queued.bytes -= 64 << 20;
        run();
        assert_int_equal(version_of(3), 2);
        memory_forget(store->memory, store_hash(store, SL_SPAN("http://h0/dir3/3")));
        assert_int_equal(version_of(3), 0);
        end();
        world_begin();
    }
}

/* Nor where what another key did, which shares the cell of changes, stands between. */
static void
what_is_not_written_is_not_found_for_another_key_s_change(void **state)
{
    struct store_hash hash;

    (void)state;
    begin();
    tick();
    put_object(3, 1, 100);
    run();
    fault.write_error = EIO;
    put_object(3, 2, 100);
    hash = store_hash(store, SL_SPAN("http://h0/dir3/3"));
    atomic_fetch_add(change_of(store, hash), 1);
    run();
    disk_works_again();
    assert_int_equal(version_of(3), 0);
    end();
}

/* Nor where the later one is in chunks, of which the disk does not take the last, or any. */
static void
chunks_that_are_not_written_let_nothing_older_come_back(void **state)
{
    struct made m = make(3, 2, 3 * STORE_INLINE);
    struct store_writer *w;
    unsigned i;

    (void)state;
    for (i = 0; i < 2; i++) {
        begin();
        tick();
        put_object(3, 1, 100);
        run();
        w = writer_of(&m, (int64_t)m.n, NULL, 0);
        assert_int_equal(store_append(w, m.body, m.n), SL_FLOW_ROOM);
        fault.write_error = EIO;
        if (i == 0) { /* the disk rests by the time the body is over */
            put_object(5, 1, 100);
            run();
        }
        store_commit(&w);
        run();
        assert_false(disk_is_on(store));
        disk_works_again();
        assert_int_equal(version_of(3), 0);
        end();
        world_begin();
    }
    unmake(&m);
}

/* All of the first has come before all of the second has, which may be in chunks as well, and what the
 * disk has of the key before both. */
static void
chunks_do_not_take_the_place_of_what_came_later(void **state)
{
    static const size_t sizes[] = {0, 100, 100000, 3 * STORE_INLINE};
    unsigned i;

    (void)state;
    for (i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        begin();
        tick();
        if (i % 2 == 1) {
            put_object(3, 1, 100);
            run();
        }
        put_object(3, 2, 2 * STORE_INLINE);
        put_object(3, 3, sizes[i / 2]);
        run();
        assert_int_equal(version_of(3), 3);
        assert_int_equal(serve(3, STORE_FILE), 1);
        memory_forget(store->memory, store_hash(store, SL_SPAN("http://h0/dir3/3")));
        assert_int_equal(version_of(3), 3);
        end();
        world_begin();
    }
}

/* What an object was made anew of gives its bytes to nobody else while they are a body. */
static void
a_body_stays_while_heads_are_used_again(void **state)
{
    struct store_object *o, *fresh, *held;
    struct made m = make(1, 1, 1000);
    struct store_new n = {.meta = SL_SPAN("anew"), .flags = 7};
    unsigned i;

    (void)state;
    options.path = NULL;
    options.memory_size = 64 << 10; /* what comes takes the place of what was there */
    begin();
    put_object(1, 1, 1000);
    o = find(m.key);
    assert_non_null(o);
    n.stamp = store_stamp(store);
    fresh = store_update(store, here, o, &n);
    assert_non_null(fresh);
    store_drop(&o);
    put_object(3, 1, 1000);
    held = find("http://h0/dir3/3");
    assert_non_null(held);
    for (i = 0; i < 400; i++) {
        put_object(100 + i, 1, 900 + i % 200);
        assert_int_equal(serve(100 + i, STORE_MEMORY), 1);
    }
    assert_null(find(m.key));
    assert_memory_equal(store_body(fresh).at, m.body, 1000);
    assert_int_equal(check_body(held, STORE_MEMORY), 0);
    store_drop(&fresh);
    store_drop(&held);
    for (i = 0; i < 400; i++) {
        put_object(600 + i, 1, 900 + i % 200);
        assert_int_equal(serve(600 + i, STORE_MEMORY), 1);
    }
    unmake(&m);
    end();
}

static void
a_forgone_body_is_whole_for_its_readers(void **state)
{
    struct made m = make(3, 1, 3 * STORE_INLINE);
    struct store_writer *w;
    struct store_object *o;

    (void)state;
    begin();
    w = writer_of(&m, -1, NULL, 0);
    o = store_writer_object(w);
    store_hold(o);
    assert_true(store_append(w, m.body, m.n) != SL_FLOW_GONE);
    store_forgo(&w);
    assert_int_equal(check_body(o, STORE_MEMORY), 0);
    store_drop(&o);
    run();
    assert_int_equal(serve(3, STORE_MEMORY), 0);
    unmake(&m);
    end();
}

static void
invalidated_stays_so(void **state)
{
    struct made m = make(3, 1, 0);

    (void)state;
    begin();
    put_object(3, 1, 5000);
    put_object(4, 1, 5000);
    run();
    tick(); /* the index on disk knows of both */
    store_invalidate(store, &the_loop, sl_span(m.key), NULL);
    assert_int_equal(serve(3, STORE_MEMORY), 0);
    run();
    assert_int_equal(serve(3, STORE_MEMORY), 0);
    all_killed();
    begin(); /* also for who asks before the first tick */
    assert_int_equal(serve(3, STORE_MEMORY), 0);
    assert_int_equal(serve(4, STORE_MEMORY), 1);
    tick();
    assert_int_equal(serve(3, STORE_MEMORY), 0);
    assert_int_equal(serve(4, STORE_MEMORY), 1);
    unmake(&m);
    end();
}

static int n_kept, n_not_kept;

static void
was_forgotten(struct sl_loop *loop, struct store_forget *f, int is_kept)
{
    (void)loop;
    (void)f;
    n_kept += is_kept;
    n_not_kept += !is_kept;
}

/* Who waits is told when no crash brings it back, or that one may. */
static void
who_forgets_is_told_when_it_is_kept(void **state)
{
    struct store_forget forgets[3] = {
        {.done = was_forgotten}, {.done = was_forgotten}, {.done = was_forgotten}};
    struct made a = make(3, 1, 0), b = make(4, 1, 0);

    (void)state;
    n_kept = n_not_kept = 0;
    begin();
    put_object(3, 1, 5000);
    put_object(4, 1, 5000);
    run();
    store_invalidate(store, here, sl_span(a.key), &forgets[0]);
    store_invalidate(store, here, sl_span(b.key), &forgets[1]);
    assert_int_equal(n_kept, 0);
    run();
    assert_int_equal(n_kept, 2);
    fault.write_error = EIO;
    store_invalidate(store, here, sl_span(a.key), &forgets[0]);
    run();
    store_invalidate(store, here, sl_span(a.key), &forgets[1]); /* the disk rests */
    store_invalidate(store, here, sl_span(""), &forgets[2]);
    run();
    assert_int_equal(n_kept, 2);
    assert_int_equal(n_not_kept, 3);
    fault.write_error = 0;
    all_killed();
    begin();
    assert_int_equal(serve(3, STORE_MEMORY) + serve(4, STORE_MEMORY), 0);
    end();
    unmake(&a);
    unmake(&b);
}

/* Of two processes the first has the older segment: what it writes later is later all the same. */
static void
what_came_last_holds_whichever_segment_has_it(void **state)
{
    struct made m = make(3, 1, 0);
    struct store *older, *newer;
    unsigned round;

    (void)state;
    for (round = 0; round < 2; round++) {
        begin();
        older = store;
        put_object(1, 1, 5000);
        run();
        world_place(1);
        begin();
        newer = store;
        put_object(3, 1 + 2 * round, 5000);
        put_object(5, 1, 5000);
        run();
        assert_true(older->current >= 0 && newer->current >= 0 && older->current != newer->current);
        store = older;
        put_object(3, 2 + 2 * round, 5000);
        if (round == 1)
            store_invalidate(store, here, sl_span(m.key), NULL);
        run();
        killed();
        store = newer;
        all_killed();
        begin();
        assert_int_equal(version_of(1), 1);
        assert_int_equal(version_of(5), 1);
        assert_int_equal(version_of(3), round == 0 ? 2 : 0);
        end();
        world_begin();
    }
    unmake(&m);
}

static int kept;

static void
purged(struct sl_loop *loop, struct store_purge *p, int is_kept)
{
    (void)loop;
    (void)p;
    kept = is_kept;
}

static void
purge(enum store_purge_what what, const char *text, const char *host, int is_soft)
{
    struct store_purge p = {
        .what = what, .text = sl_span(text), .host = sl_span(host), .is_soft = is_soft, .done = purged};

    kept = -1;
    store_purge(store, &the_loop, &p);
    run();
    assert_int_equal(kept, disk_is_on(store));
}

static enum store_state
state_of(unsigned i)
{
    struct made m = make(i, 0, 0);
    struct store_object *o = find(m.key);
    enum store_state is = STORE_GONE;

    if (o != NULL) {
        is = store_state(store, o);
        store_drop(&o);
    }
    unmake(&m);
    return is;
}

/* Cells are even in number: tags that are all odd would share the half of them. */
static void
tags_are_odd_and_even(void **state)
{
    uint64_t n_odd[3] = {0, 0, 0};
    unsigned i;
    char text[16];

    (void)state;
    begin();
    for (i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "t%u", i);
        n_odd[0] += store_tag(store, sl_span(text)) % 2;
        n_odd[1] += store_host_tag(store, sl_span(text)) % 2;
        n_odd[2] += store_key_tag(store_hash(store, sl_span(text))) % 2;
    }
    for (i = 0; i < 3; i++)
        assert_true(n_odd[i] > 64 && n_odd[i] < 192);
    end();
}

/* i: host h(i % 3), folder dir(i % 7). */
static void
purges_take_what_they_name(void **state)
{
    static const struct {
        enum store_purge_what what;
        const char *text;
        int is_soft;
        enum store_state is[4]; /* of 0 (h0, dir0), 1 (h1, dir1), 3 (h0, dir3), 7 (h1, dir0) */
    } rows[] = {
        {STORE_PURGE_HOST, "h0", 0, {STORE_GONE, STORE_GOOD, STORE_GONE, STORE_GOOD}},
        {STORE_PURGE_HOST, "h1", 1, {STORE_GOOD, STORE_SOFT, STORE_GOOD, STORE_SOFT}},
        {STORE_PURGE_HOST, "other", 0, {STORE_GOOD, STORE_GOOD, STORE_GOOD, STORE_GOOD}},
        {STORE_PURGE_TAG, "t1", 0, {STORE_GOOD, STORE_GONE, STORE_GOOD, STORE_GONE}},
        {STORE_PURGE_TAG, "h1", 0, {STORE_GOOD, STORE_GOOD, STORE_GOOD, STORE_GOOD}},
        {STORE_PURGE_KEY, "http://h1/dir1/1", 1, {STORE_GOOD, STORE_SOFT, STORE_GOOD, STORE_GOOD}},
        {STORE_PURGE_ALL, "", 0, {STORE_GONE, STORE_GONE, STORE_GONE, STORE_GONE}},
        {STORE_PURGE_ALL, "", 1, {STORE_SOFT, STORE_SOFT, STORE_SOFT, STORE_SOFT}},
        {STORE_PURGE_PREFIX, "http://h0/dir3", 0, {STORE_GOOD, STORE_GOOD, STORE_GONE, STORE_GOOD}},
        {STORE_PURGE_PREFIX, "http://h1/", 1, {STORE_GOOD, STORE_SOFT, STORE_GOOD, STORE_SOFT}},
        {STORE_PURGE_PREFIX, "http://h1/dir1/1", 0, {STORE_GOOD, STORE_GONE, STORE_GOOD, STORE_GOOD}},
    };
    static const unsigned objects[4] = {0, 1, 3, 7};
    unsigned i, j, round;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin();
        tick();
        for (j = 0; j < 4; j++)
            put_object(objects[j], 1, 3000);
        run();
        purge(rows[i].what, rows[i].text, "", rows[i].is_soft);
        for (round = 0; round < 3; round++) { /* at once, in a next process, after a crash of all */
            for (j = 0; j < 4; j++)
                assert_int_equal(state_of(objects[j]), rows[i].is[j]);
            if (round == 1)
                all_killed();
            else
                end();
            begin();
            tick();
        }
        for (j = 0; j < 4; j++) { /* what comes afterwards is not concerned */
            put_object(objects[j], 2, 3000);
            assert_int_equal(state_of(objects[j]), STORE_GOOD);
        }
        end();
    }
}

static void
asked_for_before_a_purge_falls_to_it(void **state)
{
    struct made m = make(1, 1, 100);
    struct store_writer *w;

    (void)state;
    begin();
    w = writer_of(&m, 100, NULL, 0);
    purge(STORE_PURGE_ALL, "", "", 0);
    store_append(w, m.body, 100);
    store_commit(&w);
    assert_null(find(m.key));
    unmake(&m);
    end();
}

static void
many_prefixes_become_hosts(void **state)
{
    char prefix[64];
    unsigned i;

    (void)state;
    begin();
    put_object(0, 1, 100); /* h0 */
    put_object(1, 1, 100); /* h1 */
    put_object(2, 1, 100); /* h2 */
    run();
    for (i = 0; i < N_PREFIXES; i++) {
        snprintf(prefix, sizeof prefix, "http://h0/none%u", i);
        purge(STORE_PURGE_PREFIX, prefix, "h0", 0);
    }
    assert_int_equal(state_of(0), STORE_GOOD);
    purge(STORE_PURGE_PREFIX, "http://h1/none", "h1", 0); /* the first one becomes its host */
    assert_int_equal(state_of(0), STORE_GONE);
    assert_int_equal(state_of(1), STORE_GOOD);
    purge(STORE_PURGE_PREFIX, "http://h2/", "h2", 0);
    assert_int_equal(state_of(1), STORE_GOOD);
    assert_int_equal(state_of(2), STORE_GONE);
    end();
}

/* ---- bounds ---- */

static uint64_t
folder_bytes(int allocated)
{
    static const char *names[] = {"objects", "index"};
    uint64_t sum = 0;
    unsigned i;

    for (i = 0; i < 2; i++) {
        char path[128];
        struct stat st;

        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(stat(path, &st), 0);
        sum += allocated ? (uint64_t)st.st_blocks * 512 : (uint64_t)st.st_size;
    }
    return sum;
}

static void
bounded_and_the_used_stay(void **state)
{
    unsigned i, n_last = 0;
    struct store_stats st;

    (void)state;
    options.memory_size = 1 << 20;
    begin();
    tick();
    for (i = 0; i < 20; i++)
        put_object(i, 1, 20000);
    run();
    for (i = 20; i < 4000; i++) { /* 80 MB of objects that nobody asks for again */
        put_object(i, 1, 20000);
        run();
        if (i % 50 == 0)
            assert_int_equal(serve_all(20, STORE_MEMORY), 20);
        if (i % 400 == 0)
            tick();
        assert_true(stats().memory_bytes <= options.memory_size);
    }
    st = stats();
    assert_int_equal(folder_bytes(0), st.disk_size + store->layout.n_pages * PAGE_SIZE_DISK);
    /* on the disk, too, but for what the file system itself needs to note where it is */
    assert_true(folder_bytes(1) <= folder_bytes(0) + (64 << 10));
    assert_true(st.disk_bytes <= st.disk_size);
    assert_true(st.n_evicted > 2000 && st.n_relocated > 20);
    assert_true(st.disk_objects <= st.disk_size / 20000);
    assert_true(st.disk_objects >= st.disk_size / 20000 * 3 / 4);
    assert_int_equal(serve_all(20, STORE_MEMORY), 20);
    for (i = 3900; i < 4000; i++)
        n_last += serve(i, STORE_MEMORY) == 1;
    assert_int_equal(n_last, 100);
    assert_int_equal(serve(100, STORE_MEMORY), 0);
    assert_int_equal(st.n_bad_records, 0);
    end();
}

static void
used_large_objects_stay(void **state)
{
    unsigned i;

    (void)state;
    begin();
    put_object(0, 1, 700000);
    run();
    for (i = 1; i < 80; i++) {
        assert_int_equal(serve(0, STORE_FILE), 1);
        put_object(i, 1, 600000);
        run();
    }
    assert_int_equal(serve(0, STORE_FILE), 1);
    assert_true(serve_all(80, STORE_FILE) < 40);
    end();
}

static void
pinned_segments_are_not_reused(void **state)
{
    struct made m = make(0, 1, 700000);
    struct reading t;
    char *buffer = malloc(STORE_INLINE);
    struct store_object *o;
    unsigned i;

    (void)state;
    begin();
    put_object(0, 1, 700000);
    run();
    o = find(m.key);
    t = (struct reading){.read = {.object = o, .how = STORE_FILE, .done = was_read}};
    assert_int_equal(store_read(store, &the_loop, &t.read), STORE_IO_WAIT);
    run();
    assert_int_equal(t.io, STORE_IO_OK);
    assert_null(t.read.piece.at);
    for (i = 1; i < 100; i++) {
        put_object(i, 1, 600000);
        run();
    }
    assert_int_equal(pread(t.read.piece.fd, buffer, t.read.piece.n, t.read.piece.offset),
                     STORE_INLINE);
    assert_memory_equal(buffer, m.body, STORE_INLINE);
    store_piece_drop(&t.read.piece);
    store_drop(&o);
    for (i = 1; i < 100; i++) {
        put_object(i, 2, 600000);
        run();
    }
    assert_int_equal(stats().n_disk_errors, 0);
    free(buffer);
    unmake(&m);
    end();
}

/* ---- crashes ---- */

static void
killed_at_any_moment_is_warm(void **state)
{
    unsigned i;

    (void)state;
    begin();
    tick();
    for (i = 0; i < 300; i++) {
        put_object(i, 1, 10000);
        run();
        if (i == 150)
            tick();
    }
    all_killed();
    begin();
    assert_int_equal(stats().disk_objects, 300);
    assert_int_equal(serve_all(300, STORE_MEMORY), 300);
    tick();
    assert_int_equal(serve_all(300, STORE_MEMORY), 300);
    assert_int_equal(stats().n_bad_records, 0);
    put_object(300, 1, 10000);
    end();
    world_begin();
    begin();
    assert_int_equal(stats().disk_objects, 0);
    assert_int_equal(serve(0, STORE_MEMORY), 1); /* its page is read when it is asked for */
    assert_int_equal(serve_all(301, STORE_MEMORY), 301);
    end();
}

static void
a_segment_is_gone_on_with(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < 12; i++) {
        begin();
        put_object(i, 1, 1000);
        run();
        if (i % 2 == 0)
            end();
        else
            killed();
    }
    begin();
    assert_int_equal(stats().n_segments_free, stats().n_segments - 1);
    assert_int_equal(serve_all(12, STORE_MEMORY), 12);
    end();
}

/* ---- a disk that fails ---- */

static void
a_full_disk_rests(void **state)
{
    static const int errors[] = {ENOSPC, EIO, EROFS};
    unsigned i;

    (void)state;
    for (i = 0; i < 3; i++) {
        begin();
        tick();
        put_object(10 * i, 1, 1000);
        run();
        fault.write_error = errors[i];
        put_object(10 * i + 1, 1, 1000);
        run();
        assert_string_equal(stats().disk, "rests after an error");
        assert_non_null(strstr(said, "cannot write objects"));
        assert_non_null(strstr(said, strerror(errors[i])));
        assert_int_equal(serve(10 * i + 1, STORE_MEMORY), 1); /* from memory */
        assert_int_equal(put_object(10 * i + 2, 1, 2000000), -1);
        assert_int_equal(stats().n_unwritten, 1);
        tick();
        fault.write_error = 0;
        now_ms += 10000;
        tick();
        assert_string_equal(stats().disk, "in use");
        put_object(10 * i + 3, 1, 1000);
        run();
        all_killed();
        begin();
        tick();
        assert_int_equal(serve(10 * i, STORE_MEMORY), 1);
        assert_int_equal(serve(10 * i + 1, STORE_MEMORY), 0);
        assert_int_equal(serve(10 * i + 3, STORE_MEMORY), 1);
        end();
        world_begin();
        said[0] = '\0';
    }
}

/* Each try to begin on it leaves what is in memory alone. */
static void
a_disk_that_is_full_from_the_start_costs_nothing(void **state)
{
    unsigned i;

    (void)state;
    fault.room = 1;
    begin();
    tick();
    put_object(1, 1, 1000);
    run();
    for (i = 0; i < 3; i++) {
        now_ms += 10000;
        tick();
        assert_string_equal(stats().disk, "rests after an error");
        assert_int_equal(serve(1, STORE_MEMORY), 1);
    }
    fault.room = 0;
    now_ms += 10000;
    tick();
    assert_string_equal(stats().disk, "in use");
    end();
}

static void
a_disk_that_fills_up_keeps_what_it_has(void **state)
{
    unsigned i, n = 0;

    (void)state;
    options.memory_size = 0;
    begin();
    tick();
    fault.room = 5 << 20;
    for (i = 0; i < 1000; i++) { /* 20 MB */
        assert_int_equal(put_object(i, 1, 20000), 0);
        run();
    }
    assert_non_null(strstr(said, "CACHEDISK0107"));
    assert_string_equal(stats().disk, "in use");
    assert_true(folder_bytes(1) < 8 << 20);
    for (i = 900; i < 1000; i++)
        n += serve(i, STORE_MEMORY) == 1;
    assert_int_equal(n, 100);
    fault.room = 0;
    for (i = 0; i < 600; i++)
        put_object(i, 2, 20000);
    run();
    assert_true(serve_all(600, STORE_MEMORY) > 500);
    end();
}

/* One who reads what arrives, chunk by chunk, as he is let. */
struct follower {
    struct store_reader reader;
    struct reading t;
};

static void
follow(struct follower *f, const struct made *m, uint64_t to)
{
    struct store_read *r = &f->t.read;

    while (r->from < to) {
        store_reader_move(&f->reader, r->from);
        f->t.is_done = 0;
        f->t.io = store_read(store, here, r);
        if (f->t.io == STORE_IO_WAIT)
            run();
        assert_int_equal(f->t.io, STORE_IO_OK);
        assert_memory_equal(r->piece.at, m->body + r->from, r->piece.n);
        r->from += r->piece.n;
        store_piece_drop(&r->piece);
    }
    store_reader_move(&f->reader, r->from);
    run();
}

static unsigned
chunks_in_memory(const struct store_object *o)
{
    const struct arriving *a = object_of(o)->arriving;
    unsigned i, n = 0;

    for (i = 0; i < a->n_chunks; i++)
        n += a->chunks[i].bytes != NULL;
    return n;
}

/* A body that is not stored after all, 60 chunks of it: all who read it get it, the fast no further
 * ahead of the slow than memory shall have, and nobody else finds it. */
static void
relayed_after_all(struct store_new *n, const struct made *m, uint32_t breaks_at,
                  enum store_relayed why)
{
    struct follower fast, slow, late;
    struct store_writer *w;
    struct store_object *o;
    size_t at = 0, turns = 0;
    enum sl_flow flow = SL_FLOW_ROOM;

    n_room = 0;
    w = store_writer_open(store, here, n);
    o = store_writer_object(w);
    store_hold(o);
    fast = slow = (struct follower){.t.read = {.object = o, .done = was_read}};
    assert_int_equal(store_reader_add(o, &fast.reader), 0);
    assert_int_equal(store_reader_add(o, &slow.reader), 0);
    while (at < m->n) {
        if (at / STORE_INLINE == breaks_at)
            fault.write_error = why == STORE_DISK_FAILS ? EIO : 0;
        flow = store_append(w, m->body + at, STORE_INLINE / 2);
        at += STORE_INLINE / 2;
        run();
        follow(&fast, m, at);
        if (store_is_relayed(w) == STORE_NOT_RELAYED || flow != SL_FLOW_FULL)
            continue;
        assert_true(chunks_in_memory(o) < 16);
        n_room = 0;
        follow(&slow, m, slow.t.read.from + STORE_INLINE);
        while (n_room == 0)
            follow(&slow, m, slow.t.read.from + STORE_INLINE);
        turns++;
    }
    assert_int_equal(store_is_relayed(w), why);
    assert_true(turns > 5);
    assert_int_equal(store_reader_add(o, &late.reader), -1);
    assert_true(object_of(o)->arriving->n_chunks < 60); /* they are not counted for ever */
    store_commit(&w);
    follow(&slow, m, m->n);
    slow.t.io = store_read(store, here, &slow.t.read);
    assert_int_equal(slow.t.io, STORE_IO_END);
    store_reader_remove(&fast.reader);
    store_reader_remove(&slow.reader);
    assert_true(chunks_in_memory(o) <= 1);
    store_drop(&o);
    assert_null(find(m->key));
}

static void
what_is_not_stored_after_all_reaches_its_readers(void **state)
{
    struct made m = make(1, 1, 60 * STORE_INLINE);
    struct store_new n = {.key = sl_span(m.key), .size = -1, .room = room_again};

    (void)state;
    begin(); /* a quarter of the disk is 16 chunks */
    relayed_after_all(&n, &m, 0, STORE_IS_TOO_LARGE);
    end();
    options.disk_size = 128 << 20;
    begin();
    relayed_after_all(&n, &m, 6, STORE_DISK_FAILS);
    n.size = (int64_t)m.n;
    fault.write_error = 0;
    end();
    begin();
    relayed_after_all(&n, &m, 6, STORE_DISK_FAILS);
    unmake(&m);
    end();
}

static void
what_nobody_reads_is_not_relayed(void **state)
{
    struct made m = make(1, 1, 4 * STORE_INLINE);
    struct store_new n = {.key = sl_span(m.key), .size = -1, .room = room_again};
    struct store_writer *w;
    struct follower only;

    (void)state;
    begin();
    w = store_writer_open(store, here, &n);
    only = (struct follower){.t.read = {.object = store_writer_object(w), .done = was_read}};
    store_reader_add(only.t.read.object, &only.reader);
    assert_int_equal(store_append(w, m.body, STORE_INLINE), SL_FLOW_ROOM);
    store_relay(w);
    assert_int_equal(store_append(w, m.body + STORE_INLINE, STORE_INLINE), SL_FLOW_ROOM);
    follow(&only, &m, 2 * STORE_INLINE);
    store_reader_remove(&only.reader);
    assert_int_equal(store_append(w, m.body, STORE_INLINE), SL_FLOW_GONE);
    store_abort(&w);
    unmake(&m);
    end();
}

static void
a_read_error_is_a_miss(void **state)
{
    (void)state;
    options.memory_size = 0;
    begin();
    put_object(1, 1, 1000);
    run();
    fault.read_error = EIO;
    assert_int_equal(serve(1, STORE_MEMORY), 0);
    assert_non_null(strstr(said, "CACHEDISK0101"));
    fault.read_error = 0;
    assert_int_equal(serve(1, STORE_MEMORY), 1);
    end();
}

static void
short_writes_and_reads_are_gone_on_with(void **state)
{
    unsigned i;

    (void)state;
    options.memory_size = 0;
    fault.is_short = 1;
    begin();
    for (i = 0; i < 8; i++)
        put_object(i, 1, 100000 * i);
    run();
    assert_int_equal(serve_all(8, STORE_MEMORY), 8);
    all_killed();
    begin();
    tick();
    assert_int_equal(serve_all(8, STORE_MEMORY), 8);
    end();
}

static void
without_a_folder_in_memory(void **state)
{
    (void)state;
    folder_remove(NULL);
    begin();
    assert_string_equal(stats().disk, "cannot be used");
    assert_non_null(strstr(said, "the folder cannot be used"));
    put_object(1, 1, 1000);
    run();
    assert_int_equal(serve(1, STORE_MEMORY), 1);
    tick();
    end();
    mkdir(folder, 0700);
}

static void
one_folder_has_one_user(void **state)
{
    struct world *other_world;
    struct store *other;

    (void)state;
    begin();
    other = store;
    other_world = world;
    world = NULL;
    world_begin(); /* another server */
    begin();
    assert_string_equal(stats().disk, "used by others");
    assert_non_null(strstr(said, "CACHEDISK0104"));
    put_object(1, 1, 1000);
    assert_int_equal(serve(1, STORE_MEMORY), 1);
    tick();
    assert_string_equal(stats().disk, "used by others");
    store_close(&other);
    tick();
    assert_string_equal(stats().disk, "in use");
    assert_int_equal(serve(1, STORE_MEMORY), 0); /* from before: purges could not reach it */
    put_object(2, 1, 1000);
    run();
    assert_int_equal(serve(2, STORE_MEMORY), 1);
    end();
    munmap(other_world, sizeof *other_world);
}

static void
what_another_server_changed_is_seen(void **state)
{
    struct world *ours;

    (void)state;
    options.memory_size = 0;
    begin();
    put_object(1, 1, 1000);
    put_object(3, 1, 1000);
    end();
    ours = world;
    world = NULL;
    world_begin();
    begin(); /* another server, while this one has no worker */
    tick();
    put_object(1, 2, 1000);
    put_object(2, 1, 1000);
    run();
    purge(STORE_PURGE_HOST, "h0", "", 0);
    end();
    munmap(world, sizeof *world);
    world = ours;
    world_place(0);
    begin();
    tick();
    assert_int_equal(version_of(1), 2);
    assert_int_equal(serve(2, STORE_MEMORY), 1);
    assert_int_equal(serve(3, STORE_MEMORY), 0);
    assert_int_equal(stats().disk_objects, 2);
    end();
}

/* Another process forgets a key whose object waits to be written here. */
static void
forgotten_while_it_waited(void **state)
{
    struct made m = make(1, 1, 0);

    (void)state;
    begin();
    tick();
    put_object(1, 1, 1000);
    atomic_fetch_add(change_of(store, store_hash(store, sl_span(m.key))), 1);
    run();
    assert_int_equal(serve(1, STORE_MEMORY), 0);
    assert_int_equal(stats().disk_objects, 0);
    put_object(1, 2, 1000);
    run();
    assert_int_equal(version_of(1), 2);
    unmake(&m);
    end();
}

/* ---- files that are not what they were ---- */

static int
file(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return open(path, O_RDWR);
}

static void
flip(const char *name, off_t at)
{
    int fd = file(name);
    unsigned char byte;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (unsigned char)(1 << at % 8);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

#define N_FILLED 60

static void
filled_folder(void)
{
    unsigned i;

    options.memory_size = 0;
    begin();
    for (i = 0; i < N_FILLED; i++)
        put_object(i, 1, i % 10 == 0 ? 300000 : 5000);
    run();
    end();
    world_begin();
}

/* Some are lost, none is wrong; and the store goes on. */
static unsigned
served_after_damage(void)
{
    unsigned n;

    begin();
    tick();
    n = serve_all(N_FILLED, STORE_FILE);
    assert_int_equal(put_object(1000, 1, 5000), 0);
    run();
    assert_int_equal(serve(1000, STORE_MEMORY), 1);
    end();
    world_begin();
    return n;
}

static void
flipped_bits_are_never_served(void **state)
{
    unsigned round, lost = 0;

    (void)state;
    filled_folder();
    srandom(1);
    assert_true(served_after_damage() >= N_FILLED - 1); /* a cell of changes may be that of two */
    for (round = 0; round < 60; round++) {
        flip("objects", random() % 2200000);
        flip("index", random() % (off_t)folder_bytes(0) % 1000000);
        lost += N_FILLED - served_after_damage();
    }
    assert_true(lost > 0);
}

static void
each_flipped_page_is_found(void **state)
{
    (void)state;
    filled_folder();
    flip("index", 3 * PAGE_SIZE_DISK + 100); /* a page of purges: what it knew counts as purged */
    served_after_damage();
    assert_non_null(strstr(said, "CACHEDISK0102"));
    flip("index", 8); /* the first page: another store */
    assert_int_equal(served_after_damage(), 0);
    assert_non_null(strstr(said, "begins empty"));
}

static void
truncated_files_are_never_served(void **state)
{
    static const off_t ends[] = {0, 1, 100, 4096, 5000, 500000, 1050000, 2000000};
    static const char *names[] = {"objects", "index"};
    unsigned i, j, n;

    (void)state;
    for (j = 0; j < 2; j++)
        for (i = 0; i < sizeof ends / sizeof ends[0]; i++) {
            int fd;

            folder_remove(NULL);
            mkdir(folder, 0700);
            filled_folder();
            fd = file(names[j]);
            assert_int_equal(ftruncate(fd, ends[i]), 0);
            close(fd);
            n = served_after_damage();
            assert_true(j > 0 || ends[i] > 500000 || n < N_FILLED);
        }
}

/* A file of the same shape from another store, of another version, or put back from a backup. */
static void
files_of_others_are_never_served(void **state)
{
    char objects[128], kept_objects[128];
    int fd;
    uint32_t version = 99;

    (void)state;
    filled_folder();
    snprintf(objects, sizeof objects, "%s/objects", folder);
    snprintf(kept_objects, sizeof kept_objects, "%s/kept", folder);
    assert_int_equal(rename(objects, kept_objects), 0);
    assert_int_equal(served_after_damage(), 0);
    assert_int_equal(rename(kept_objects, objects), 0);
    served_after_damage();
    fd = file("index");
    assert_int_equal(pwrite(fd, &version, sizeof version, offsetof(struct page_image, version)),
                     sizeof version);
    close(fd);
    assert_int_equal(served_after_damage(), 0);
    options.disk_size = 32 << 20; /* another size begins anew */
    assert_int_equal(served_after_damage(), 0);
}

/* Records of a segment's life before, whole as they are, are none. */
static void
a_reused_segment_has_no_old_records(void **state)
{
    static const size_t sizes[] = {1000, 700000};
    unsigned i;

    (void)state;
    options.memory_size = 0;
    for (i = 0; i < 2; i++) {
        begin();
        put_object(i, 1, sizes[i]);
        run();
        assert_int_equal(serve(i, STORE_FILE), 1);
        atomic_fetch_add(&segment_words(store, 0)[0], UINT64_C(1) << 24);
        assert_int_equal(serve(i, STORE_FILE), 0);
        end();
        folder_remove(NULL);
        mkdir(folder, 0700);
        world_begin();
    }
}

/* ---- looking ---- */

static unsigned top_hits[3], n_top;

static void
top_seen(struct sl_loop *loop, struct store_top *top)
{
    unsigned i;

    (void)loop;
    n_top = top->n;
    for (i = 0; i < 3 && i < n_top; i++)
        top_hits[i] = store_hits(top->objects[i]);
}

static int
has_key(const void *data, const struct store_object *o)
{
    return sl_span_eq(o->key, sl_span(data));
}

static void
the_most_used_come_first(void **state)
{
    struct store_top top = {.done = top_seen};
    struct made m = make(42, 1, 3000);
    unsigned i;

    (void)state;
    begin();
    for (i = 0; i < 50; i++)
        put_object(i, 1, 3000);
    run();
    for (i = 0; i < 9; i++)
        assert_int_equal(serve(i % 3 == 0 ? 17 : i % 3 == 1 && i < 6 ? 23 : 42, STORE_MEMORY), 1);
    assert_int_equal(store_top(store, &the_loop, &top), 0);
    run();
    assert_int_equal(n_top, STORE_TOP_MAX);
    assert_int_equal(top_hits[0], 4);
    assert_int_equal(top_hits[1], 3);
    assert_int_equal(top_hits[2], 2);
    top.wants = has_key;
    top.data = m.key;
    assert_int_equal(store_top(store, &the_loop, &top), 0);
    run();
    assert_int_equal(n_top, 1);
    assert_int_equal(top_hits[0], 4);
    unmake(&m);
    end();
}

#define T(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(stored_is_found),
        T(found_in_memory_without_disk),
        T(a_hit_in_memory_asks_no_disk),
        T(what_is_replaced_is_not_found),
        T(a_key_has_its_last_object),
        T(bytes_come_to_where_they_stand),
        T(readers_follow_what_arrives),
        T(a_run_is_one_piece_of_the_file),
        T(what_left_the_page_cache_in_its_middle_is_read_elsewhere),
        T(the_slow_read_from_the_file),
        T(a_writer_waits_for_the_disk),
        T(what_breaks_off_is_broken),
        T(a_wait_can_be_cancelled),
        T(a_head_is_made_anew),
        T(invalidated_stays_so),
        T(who_forgets_is_told_when_it_is_kept),
        T(what_came_last_holds_whichever_segment_has_it),
        T(invalidated_on_its_way_to_the_disk),
        T(invalidated_before_the_index_was_read),
        T(what_is_urgent_does_not_wait_behind_a_job_at_its_end),
        T(what_is_not_written_lets_nothing_older_come_back),
        T(what_is_not_taken_lets_nothing_older_come_back),
        T(chunks_that_are_not_written_let_nothing_older_come_back),
        T(what_is_not_written_is_not_found_for_another_key_s_change),
        T(chunks_do_not_take_the_place_of_what_came_later),
        T(a_body_stays_while_heads_are_used_again),
        T(a_forgone_body_is_whole_for_its_readers),
        T(tags_are_odd_and_even),
        T(purges_take_what_they_name),
        T(asked_for_before_a_purge_falls_to_it),
        T(many_prefixes_become_hosts),
        T(bounded_and_the_used_stay),
        T(used_large_objects_stay),
        T(pinned_segments_are_not_reused),
        T(killed_at_any_moment_is_warm),
        T(a_segment_is_gone_on_with),
        T(a_full_disk_rests),
        T(a_disk_that_is_full_from_the_start_costs_nothing),
        T(a_disk_that_fills_up_keeps_what_it_has),
        T(what_is_not_stored_after_all_reaches_its_readers),
        T(what_nobody_reads_is_not_relayed),
        T(a_read_error_is_a_miss),
        T(short_writes_and_reads_are_gone_on_with),
        T(without_a_folder_in_memory),
        T(one_folder_has_one_user),
        T(what_another_server_changed_is_seen),
        T(forgotten_while_it_waited),
        T(flipped_bits_are_never_served),
        T(each_flipped_page_is_found),
        T(truncated_files_are_never_served),
        T(files_of_others_are_never_served),
        T(a_reused_segment_has_no_old_records),
        T(the_most_used_come_first),
    };

    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);

    run_wanted = 3;
    return n_failed + cmocka_run_group_tests_name("with runs of chunks", tests, NULL, NULL);
}
