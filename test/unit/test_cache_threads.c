/* The store as the threads of one process use it at once. */
/* with: modules/cache/checksum.c */
/* threads */
#include "store_world.h"

#include <sched.h>

#define THREADS 4
#define ROUNDS 400
#define N_KEYS 60

static atomic_uint n_served;

static struct sl_loop *
loop_new(void)
{
    struct sl_loop *loop = calloc(1, sizeof *loop);

    pthread_mutex_init(&loop->lock, NULL);
    loop->last = &loop->first;
    return loop;
}

/* A thread whose loop the flushing job ran on goes on until nobody needs it. */
static void
loop_end(atomic_uint *n_busy)
{
    atomic_fetch_sub(n_busy, 1);
    while (atomic_load(n_busy) > 0) {
        run();
        sched_yield();
    }
    run();
    pthread_mutex_destroy(&here->lock);
    free(here);
}

static atomic_uint n_busy;

/* Objects that are held while they leave memory, some of them with the bytes of one that left: nobody
 * else gets their bytes. */
#define HELD 8

static void
held_check(struct store_object **held)
{
    if (*held == NULL)
        return;
    SL_ASSERT(check_body(*held, STORE_MEMORY) == 0);
    store_drop(held);
}

static void *
holds(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg, n;
    struct store_object *held[HELD] = {NULL};

    here = loop_new();
    for (n = 0; n < 10 * ROUNDS; n++) {
        unsigned i = (unsigned)rand_r(&seed) % N_KEYS;
        struct store_object **at = &held[n % HELD], *o;
        struct made m = make(i, 0, 0);
        struct store_new new = {.flags = 7, .stamp = store_stamp(store)};

        held_check(at);
        put_object(i, n + 1, 400 + i % 7 * 100);
        o = find(m.key);
        if (o != NULL && n % 3 == 0) {
            new.meta = o->meta;
            *at = store_update(store, here, o, &new);
            store_drop(&o);
        } else
            *at = o;
        unmake(&m);
        run();
    }
    for (n = 0; n < HELD; n++)
        held_check(&held[n]);
    loop_end(&n_busy);
    return NULL;
}

static void
many_hold_what_leaves(void **state)
{
    pthread_t threads[THREADS];
    uintptr_t i;

    (void)state;
    options.memory_size = 32 << 10;
    begin();
    tick();
    put_object(0, 1, 100);
    atomic_store(&n_busy, THREADS);
    for (i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, holds, (void *)(i + 1));
    while (atomic_load(&n_busy) > 0)
        run();
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    end();
}

static void *
uses(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg, n;

    here = loop_new();
    for (n = 0; n < ROUNDS; n++) {
        unsigned i = (unsigned)rand_r(&seed) % N_KEYS;
        int rc = serve(i, n % 2 ? STORE_FILE : STORE_MEMORY);

        SL_ASSERT(rc >= 0);
        atomic_fetch_add(&n_served, (unsigned)rc);
        if (rc == 0 || n % 50 == 0)
            put_object(i, n + 1, i % 10 == 0 ? 300000 : 3000 + 100 * i);
        if (n % 97 == 0) {
            struct made m = make(i, 0, 0);

            store_invalidate(store, here, sl_span(m.key), NULL);
            unmake(&m);
        }
        run();
    }
    loop_end(&n_busy);
    return NULL;
}

static void
many_use_it(void **state)
{
    pthread_t threads[THREADS];
    uintptr_t i;

    (void)state;
    options.memory_size = 512 << 10; /* less than there is: objects come and go */
    begin();
    tick();
    put_object(0, 1, 100); /* the queue's timer stays with the first loop, which is to be the last */
    atomic_store(&n_busy, THREADS);
    for (i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, uses, (void *)(i + 1));
    for (i = 0; i < 20; i++) {
        usleep(10000);
        tick();
    }
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&n_served) > THREADS * ROUNDS / 2);
    assert_int_equal(stats().n_bad_records, 0);
    end();
}

static void *
follows(void *arg)
{
    struct made m = make(1, 1, 10 * STORE_INLINE);
    struct reading t = {.read = {.object = arg, .how = STORE_FILE, .done = was_read}};
    char *buffer = malloc(STORE_INLINE);

    here = loop_new();
    for (;;) {
        t.is_done = 0;
        t.io = store_read(store, here, &t.read);
        while (t.io == STORE_IO_WAIT && !t.is_done) {
            run();
            sched_yield();
        }
        if (t.io != STORE_IO_OK)
            break;
        if (t.read.piece.at == NULL)
            SL_ASSERT(pread(t.read.piece.fd, buffer, t.read.piece.n, t.read.piece.offset) ==
                      (ssize_t)t.read.piece.n);
        SL_ASSERT(memcmp(t.read.piece.at != NULL ? t.read.piece.at : buffer, m.body + t.read.from,
                         t.read.piece.n) == 0);
        t.read.from += t.read.piece.n;
        store_piece_drop(&t.read.piece);
    }
    SL_ASSERT(t.io == STORE_IO_END && t.read.from == m.n);
    store_drop(&t.read.object);
    unmake(&m);
    free(buffer);
    loop_end(&n_busy);
    return NULL;
}

static void
many_follow_one(void **state)
{
    struct made m = make(1, 1, 10 * STORE_INLINE);
    pthread_t threads[THREADS];
    struct store_writer *w;
    unsigned i;
    size_t at, part, room;
    char *to;

    (void)state;
    begin();
    w = writer_of(&m, -1, NULL, 0);
    atomic_store(&n_busy, THREADS);
    for (i = 0; i < THREADS; i++) {
        store_hold(store_writer_object(w));
        pthread_create(&threads[i], NULL, follows, store_writer_object(w));
    }
    for (at = 0; at < m.n; at += part) {
        part = m.n - at < 9973 ? m.n - at : 9973;
        to = store_room(w, &room);
        if (to != NULL) { /* as from a socket */
            part = part < room ? part : room;
            memcpy(to, m.body + at, part);
        }
        assert_int_not_equal(store_append(w, to != NULL ? to : m.body + at, part), SL_FLOW_GONE);
        run();
    }
    store_commit(&w);
    while (atomic_load(&n_busy) > 0)
        run();
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(serve(1, STORE_FILE), 1);
    unmake(&m);
    end();
}

#define T(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int
main(void)
{
    const struct CMUnitTest tests[] = {T(many_use_it), T(many_hold_what_leaves), T(many_follow_one)};

    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);

    run_wanted = 3;
    return n_failed + cmocka_run_group_tests_name("with runs of chunks", tests, NULL, NULL);
}
