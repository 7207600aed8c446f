/* Several loops posting to each other, offloaded work coming back, counters read meanwhile:
 * what the thread sanitizer watches. */
/* threads */
/* with: server/event/descriptor.c server/event/timer.c server/event/slab.c server/event/offload.c server/net/buf.c server/runtime/append.c server/runtime/log.c server/runtime/json.c server/runtime/panic.c server/runtime/zone.c server/runtime/dry.c server/runtime/zone_index.c server/runtime/counter.c */
#include "unit.h"

#include "../../server/event/loop.c"
#include "runtime/counter.h"

#include <apr_general.h>
#include <pthread.h>
#include <unistd.h>

#define THREADS 3
#define POSTS 20000

struct note {
    struct sl_mail mail;
    unsigned from, number;
};

static struct sl_loop *loops[THREADS];
static struct note notes[THREADS][POSTS];
static unsigned seen[THREADS][THREADS];
static atomic_uint n_done;
static int counter;

static void
arrived(struct sl_loop *loop, struct sl_mail *mail)
{
    struct note *n = (struct note *)mail;

    assert_int_equal(n->number, seen[loop->index][n->from]); /* in the order it was sent */
    seen[loop->index][n->from]++;
    sl_count(loop, counter, 1);
    atomic_fetch_add(&n_done, 1);
}

static void *
serve(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void *
post(void *arg)
{
    unsigned from = (unsigned)(uintptr_t)arg, i;

    for (i = 0; i < POSTS; i++) {
        notes[from][i] = (struct note){{NULL, arrived}, from, i};
        sl_loop_post(loops[(from + 1) % THREADS], &notes[from][i].mail);
    }
    return NULL;
}

static void
stop(struct sl_loop *loop, struct sl_mail *mail)
{
    (void)mail;
    loop_stop(loop);
}

static void
mail_between_threads(void **state)
{
    pthread_t servers[THREADS], senders[THREADS];
    struct sl_mail stops[THREADS];
    unsigned i;

    (void)state;
    counter = sl_counter("test", "mail");
    assert_int_equal(counters_open(THREADS), 0);
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(loop_open(&loops[i], i), 0);
        counters_attach(loops[i]);
    }
    for (i = 0; i < THREADS; i++)
        pthread_create(&servers[i], NULL, serve, loops[i]);
    for (i = 0; i < THREADS; i++)
        pthread_create(&senders[i], NULL, post, (void *)(uintptr_t)i);
    while (atomic_load(&n_done) < THREADS * POSTS)
        assert_true(sl_counter_sum(counter) <= THREADS * POSTS);
    for (i = 0; i < THREADS; i++) {
        pthread_join(senders[i], NULL);
        stops[i].fn = stop;
        sl_loop_post(loops[i], &stops[i]);
        pthread_join(servers[i], NULL);
    }
    assert_int_equal(sl_counter_sum(counter), THREADS * POSTS);
    for (i = 0; i < THREADS; i++)
        loop_close(&loops[i]);
    counters_close();
    zones_close();
}

static struct sl_offload jobs[200];
static unsigned n_worked;
static atomic_uint n_back;

static void
work(struct sl_offload *job)
{
    (void)job;
}

static void
back(struct sl_loop *loop, struct sl_offload *job)
{
    (void)job;
    n_worked++;
    if (atomic_fetch_add(&n_back, 1) + 1 == 200)
        loop_stop(loop);
}

static void
offloaded_work_comes_back(void **state)
{
    struct sl_loop *loop;
    pthread_t server;
    unsigned i;

    (void)state;
    assert_int_equal(offload_open(3), 0);
    assert_int_equal(loop_open(&loop, 0), 0);
    for (i = 0; i < 200; i++) {
        jobs[i].work = work;
        jobs[i].done = back;
        assert_int_equal(sl_offload(loop, &jobs[i]), 0);
    }
    pthread_create(&server, NULL, serve, loop);
    pthread_join(server, NULL);
    assert_int_equal(n_worked, 200);
    offload_close();
    loop_close(&loop);
}

static unsigned n_late;

static void
work_takes_long(struct sl_offload *job)
{
    (void)job;
    usleep(20000);
}

static void
late_mail(struct sl_loop *loop, struct sl_mail *mail)
{
    (void)loop, (void)mail;
    n_late++;
}

static void
late_back(struct sl_loop *loop, struct sl_offload *job)
{
    job->mail.fn = late_mail;
    assert_int_equal(sl_offload(loop, job), -1);
    sl_loop_post(loop, &job->mail);
}

static void
a_loop_ends_when_its_jobs_are_back_and_its_mail_is_read(void **state)
{
    struct sl_mail stops = {NULL, stop}, late;
    struct sl_loop *loop;
    pthread_t server;
    unsigned i;

    (void)state;
    assert_int_equal(offload_open(2), 0);
    assert_int_equal(loop_open(&loop, 0), 0);
    for (i = 0; i < 6; i++) { /* more than there are threads */
        jobs[i] = (struct sl_offload){.work = work_takes_long, .done = late_back};
        assert_int_equal(sl_offload(loop, &jobs[i]), 0);
    }
    sl_loop_post(loop, &stops);
    pthread_create(&server, NULL, serve, loop);
    pthread_join(server, NULL);
    assert_int_equal(n_late, 6);
    assert_int_equal(loop_read_late(loop), 0);
    late = (struct sl_mail){NULL, late_mail};
    sl_loop_post(loop, &late); /* from one that leaves after it */
    assert_int_equal(loop_read_late(loop), 1);
    assert_int_equal(n_late, 7);
    offload_close();
    loop_close(&loop);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mail_between_threads),
                                       cmocka_unit_test(offloaded_work_comes_back),
                                       cmocka_unit_test(
                                           a_loop_ends_when_its_jobs_are_back_and_its_mail_is_read)};
    int rc;

    apr_initialize();
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return rc;
}
