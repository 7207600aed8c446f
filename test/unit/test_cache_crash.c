/* Generations that share a store and are killed at any moment, alone and all at once: whatever
 * is served afterwards is right, and most of what was stored is there. */
/* with: modules/cache/checksum.c */
#include "store_world.h"

#define N_KEYS 400
#define GENERATIONS 3
#define ROUNDS 60
#define STEPS 1000
/* Sixteen segments: each process that is born takes one, however little it then writes. */
#define DISK_SIZE (32 << 20)

static size_t
size_of(unsigned i)
{
    return i % 20 == 0 ? 300000 + i : i % 5 == 0 ? 40000 + i : 500 + 7 * i;
}

/* What all of them did so far, in shared memory: the clock of who kills them, since what they store
 * takes as long as the machine is busy. */
static _Atomic(unsigned) *n_steps;

/* Stores, reads, replaces, forgets and purges until it is killed. */
static void
live(unsigned place, unsigned seed)
{
    unsigned n;

    world_place(place);
    srandom(seed);
    begin();
    for (n = 1;; n++) {
        unsigned i = (unsigned)random() % N_KEYS;

        if (serve(i, random() % 2 ? STORE_FILE : STORE_MEMORY) == 0)
            put_object(i, n, size_of(i));
        if (random() % 40 == 0)
            put_object(i, n, size_of(i));
        if (random() % 300 == 0) {
            struct made m = make(i, 0, 0);

            store_invalidate(store, here, sl_span(m.key), NULL);
            unmake(&m);
        }
        if (random() % 8 == 0)
            run();
        if (n % 200 == 0)
            tick();
        atomic_fetch_add(n_steps, 1);
    }
}

static pid_t
born(unsigned place, unsigned seed)
{
    pid_t pid = fork();

    if (pid == 0)
        live(place, seed);
    atomic_fetch_or(&world->alive, UINT64_C(1) << place);
    return pid;
}

static void
dies(pid_t pid, unsigned place)
{
    int status;

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL); /* not SIGABRT: nothing wrong was served */
    world_bury(place);
}

/* A fresh process sees what is there; place: one that is nobody's. */
static unsigned
survey(unsigned place)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        unsigned n;

        world_place(place);
        begin();
        tick();
        n = serve_all(N_KEYS, STORE_FILE);
        SL_ASSERT(stats().disk_objects <= stats().index_objects_max);
        end();
        _exit((int)(n * 100 / N_KEYS));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    world_bury(place);
    return (unsigned)WEXITSTATUS(status);
}

static void
let_live(unsigned steps)
{
    unsigned end = atomic_load(n_steps) + steps;

    while ((int)(end - atomic_load(n_steps)) > 0)
        usleep(200);
}

static void
killed_again_and_again(void **state)
{
    pid_t pids[GENERATIONS];
    unsigned round, i, percent = 0, least = 100;

    (void)state;
    srandom(42);
    for (i = 0; i < GENERATIONS; i++)
        pids[i] = born(i, i);
    for (round = 0; round < ROUNDS; round++) {
        let_live(STEPS / 10 + (unsigned)random() % STEPS);
        if (round % 10 == 9) { /* the master, too */
            for (i = 0; i < GENERATIONS; i++)
                dies(pids[i], i);
            world_begin();
            percent = survey(9);
            least = percent < least && round > 30 ? percent : least;
            for (i = 0; i < GENERATIONS; i++)
                pids[i] = born(i, 1000 * round + i);
        } else {
            i = (unsigned)random() % GENERATIONS;
            dies(pids[i], i);
            pids[i] = born(i, 1000 * round + 500 + i);
        }
    }
    for (i = 0; i < GENERATIONS; i++)
        dies(pids[i], i);
    assert_true(survey(9) > 60);
    assert_true(least > 60);
}

static int
setup(void **state)
{
    int made = folder_make(state);

    options.disk_size = DISK_SIZE;
    return made;
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, folder_remove)

int
main(void)
{
    const struct CMUnitTest tests[] = {T(killed_again_and_again)};

    int n_failed;

    n_steps = mmap(NULL, sizeof *n_steps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SL_ASSERT(n_steps != MAP_FAILED);
    n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    run_wanted = 3;
    return n_failed + cmocka_run_group_tests_name("with runs of chunks", tests, NULL, NULL);
}
