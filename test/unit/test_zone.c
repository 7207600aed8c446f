/* Zones, the index of names, counters and counts in flight, as several processes see them: the
 * test is the master, and each worker a child at a place of its own. */
/* threads */
/* with: server/runtime/zone.c server/runtime/dry.c server/runtime/append.c server/runtime/log.c server/runtime/json.c server/runtime/panic.c */
#include "unit.h"

#include "../../server/runtime/counter.c"
#include "../../server/runtime/zone_index.c"
#include "../../server/upstream/shared.c"

#include "event/loop.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMES 8
#define ROUNDS 20000
#define WRITERS 3
#define CHILD_CHECK(e) ((e) ? (void)0 : child_failed(__LINE__, #e))

static void
child_failed(int line, const char *what)
{
    fprintf(stderr, "line %d of a child: %s\n", line, what);
    _exit(1);
}

/* ---- the master's part ---- */

static struct kept {
    const char *name;
    struct zone_shape shape;
    int fd;
    int is_lent;
} kept[] = {{.name = ZONE_PROCESSES}, {.name = "t"}, {.name = COUNTERS_ZONE}, {.name = SERVERS_ZONE}};
#define N_KEPT (sizeof kept / sizeof kept[0])
static struct processes *all;

/* Children are lent what is there before they are born: it is as large as any of them asks. */
static int
lend(void *data, const struct zone_shape *shape, int *is_fresh, char *why, size_t n)
{
    size_t i;

    (void)data;
    for (i = 0; i < N_KEPT; i++)
        if (strcmp(kept[i].name, shape->name) == 0 &&
            zone_size(shape) <= zone_size(&kept[i].shape)) {
            *is_fresh = 1;
            return dup(kept[i].fd);
        }
    snprintf(why, n, "not kept");
    return -1;
}

static int
keep(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N_KEPT; i++) {
        kept[i].shape = (struct zone_shape){kept[i].name, 1, 16 << 20, 1 << 16};
        kept[i].fd = zone_memory(&kept[i].shape);
        assert_true(kept[i].fd >= 0);
    }
    all = mmap(NULL, ZONE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, kept[0].fd, 0);
    return 0;
}

static int
let_go(void **state)
{
    size_t i;

    (void)state;
    munmap(all, ZONE_PAGE);
    for (i = 0; i < N_KEPT; i++)
        close(kept[i].fd);
    return 0;
}

/* A worker is born, does what it does, and is not cleared yet when it is dead. */
static pid_t
child(unsigned place, void (*work)(void))
{
    pid_t pid;

    atomic_fetch_or(&all->alive, UINT64_C(1) << place);
    pid = fork();
    if (pid == 0) {
        CHILD_CHECK(zones_open(lend, NULL, place) == 0);
        work();
        _exit(0);
    }
    return pid;
}

static int
ended(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* What the master does at a death, where slots of this stride begin. */
static void
cleared(unsigned place, const struct kept *z, size_t shared, size_t stride)
{
    assert_int_equal(fallocate(z->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               (off_t)(shared + place * stride), (off_t)stride), 0);
    atomic_fetch_and(&all->alive, ~(UINT64_C(1) << place));
}

static size_t
pages(size_t n)
{
    return (n + ZONE_PAGE - 1) / ZONE_PAGE * ZONE_PAGE;
}

/* ---- the index ---- */

struct table {
    INDEX_TABLE(NAMES) names;
    int values[NAMES];
};

static void
value_clear(void *data, unsigned number)
{
    ((struct table *)data)->values[number] = 0;
}

static struct zone_index
table_open(void)
{
    int is_fresh;
    const struct sl_slots *s = sl_zone_slots("t", 1, sizeof(struct table), NAMES, &is_fresh);

    CHILD_CHECK(s != NULL);
    return INDEX_OF("t", s, &((struct table *)s->shared)->names, 0, NAMES, value_clear, s->shared);
}

static void
claims_abc(void)
{
    struct zone_index ix = table_open();

    CHILD_CHECK(index_claim(&ix, "a") == 0 && index_claim(&ix, "b") == 1);
    CHILD_CHECK(index_claim(&ix, "c") == 2 && index_claim(&ix, "a") == 0);
    ((struct table *)ix.slots->shared)->values[2] = 42;
}

static void
claims_cda(void)
{
    struct zone_index ix = table_open();

    CHILD_CHECK(index_claim(&ix, "c") == 2 && index_claim(&ix, "d") == 3);
    CHILD_CHECK(index_claim(&ix, "a") == 0);
    CHILD_CHECK(((struct table *)ix.slots->shared)->values[2] == 42);
}

static void
claims_until_full(void)
{
    struct zone_index ix = table_open();

    CHILD_CHECK(index_claim(&ix, "e") == 4 && index_claim(&ix, "f") == 5);
    CHILD_CHECK(index_claim(&ix, "g") == 6 && index_claim(&ix, "h") == 7);
    CHILD_CHECK(index_claim(&ix, "i") == 1); /* b: nobody holds it */
    CHILD_CHECK(index_claim(&ix, "b") == -1);
}

static void
claims_what_the_dead_held(void)
{
    struct zone_index ix = table_open();

    CHILD_CHECK(index_claim(&ix, "a") == 0 && index_claim(&ix, "x") == 1);
    CHILD_CHECK(index_claim(&ix, "c") == 2 && index_claim(&ix, "y") == 3);
    CHILD_CHECK(((struct table *)ix.slots->shared)->values[2] == 42);
    CHILD_CHECK(index_claim(&ix, "z") == 4);
    CHILD_CHECK(index_claim(&ix, "another") == 5 && index_claim(&ix, "third") == 6);
    CHILD_CHECK(index_claim(&ix, "fourth") == 7 && index_claim(&ix, "fifth") == -1);
}

static void
a_name_keeps_its_number(void **state)
{
    size_t shared = pages(sizeof(struct table));

    (void)state;
    assert_int_equal(ended(child(0, claims_abc)), 0);
    assert_int_equal(ended(child(1, claims_cda)), 0); /* both are held: 0 is not cleared yet */
    cleared(0, &kept[1], shared, ZONE_PAGE);
    assert_int_equal(ended(child(2, claims_until_full)), 0);
    cleared(1, &kept[1], shared, ZONE_PAGE);
    cleared(2, &kept[1], shared, ZONE_PAGE);
    assert_int_equal(ended(child(0, claims_what_the_dead_held)), 0);
    cleared(0, &kept[1], shared, ZONE_PAGE);
}

static void
dies_with_the_lock(void)
{
    struct zone_index ix = table_open();

    CHILD_CHECK(index_lock(&ix, zone_descriptor("t")) == 0);
    raise(SIGKILL);
}

static void
claims_a(void)
{
    struct zone_index ix = table_open();

    CHILD_CHECK(index_claim(&ix, "a") == 0);
}

static void
a_lock_dies_with_its_holder(void **state)
{
    (void)state;
    assert_int_equal(ended(child(0, dies_with_the_lock)), -SIGKILL);
    assert_int_equal(ended(child(0, claims_a)), 0);
}

/* ---- counters ---- */

static void
count(int n)
{
    struct sl_loop loop = {.index = 0};
    int hits = sl_counter("hits", ""), i;

    CHILD_CHECK(hits == 0 && counters_open(1) == 0 && zone != NULL);
    counters_attach(&loop);
    for (i = 0; i < n; i++)
        sl_count(&loop, hits, 1);
}

static void
counts_and_is_killed(void)
{
    count(1000);
    raise(SIGKILL);
}

static void
counts_10(void)
{
    count(10);
}

static void
sees_the_sum(void)
{
    int other = sl_counter("other", ""), hits = sl_counter("hits", "");

    CHILD_CHECK(other == 0 && hits == 1 && counters_open(2) == 0);
    CHILD_CHECK(sl_counter_sum(hits) == 1020 && sl_counter_sum(other) == 0);
}

static void
a_sum_loses_nothing(void **state)
{
    size_t shared = pages(sizeof(struct counters_zone)), stride = pages(sizeof(struct counters_slot));

    (void)state;
    assert_int_equal(ended(child(0, counts_and_is_killed)), -SIGKILL);
    cleared(0, &kept[2], shared, stride);
    assert_int_equal(ended(child(0, counts_10)), 0);
    assert_int_equal(ended(child(1, counts_10)), 0);
    assert_int_equal(ended(child(5, sees_the_sum)), 0);
}

/* ---- servers ---- */

static struct upstream_server a = {.pub = {.name = "a", .address = "a:80"}};
static struct upstream_server b = {.pub = {.name = "b", .address = "b:80"}};
static struct sl_server *servers[] = {&a.pub, &b.pub}, *turned[] = {&b.pub, &a.pub};
static struct upstream_pool pool = {.pool = {.name = "p", .servers = servers, .n_servers = 2}};

struct upstream_pool *
pools_first(void)
{
    return &pool;
}

/* None of them sits. */
void
seat_key(const struct upstream_server *s, char *to, size_t n)
{
    (void)s;
    snprintf(to, n, "-");
}

void
seat_open(struct upstream_server *s, struct seat_record *record)
{
    (void)s;
    (void)record;
}

void
seat_write(struct seat_record *r, const struct seat *seat)
{
    (void)r;
    (void)seat;
}

struct sl_loop *
sl_loop_self(void)
{
    return NULL;
}

static void
share(void)
{
    a.pub.n_active = &a.own_active;
    b.pub.n_active = &b.own_active;
    servers_share();
    servers_take_over();
    CHILD_CHECK(a.pub.n_active != &a.own_active && b.pub.state != &b.own_state);
}

static void
dies_with_three_in_flight(void)
{
    share();
    atomic_fetch_add(a.pub.n_active, 3);
    atomic_store(&a.pub.state->n_failed, 2);
    atomic_store(&a.pub.state->health, 12345);
    raise(SIGKILL);
}

static void
sees_three(void)
{
    pool.pool.servers = turned; /* another order, the same servers */
    share();
    atomic_fetch_add(a.pub.n_active, 1);
    CHILD_CHECK(sl_server_active(&a.pub) == 4 && sl_server_active_elsewhere(&a.pub) == 3);
    CHILD_CHECK(sl_server_active(&b.pub) == 0 && sl_places_others() != 0);
    CHILD_CHECK(atomic_load(&a.pub.state->n_failed) == 2);
}

static void
sees_none_but_the_failure(void)
{
    share();
    CHILD_CHECK(sl_places_others() == 0 && sl_server_active(&a.pub) == 0);
    CHILD_CHECK(atomic_load(&a.pub.state->health) == 12345);
}

static void
moves(void)
{
    a.pub.address = "elsewhere:80";
    share();
    CHILD_CHECK(atomic_load(&a.pub.state->health) == 0 &&
                atomic_load(&a.pub.state->n_failed) == 0);
}

static void
counts_in_flight_die_with_their_process(void **state)
{
    size_t shared = pages(sizeof(struct servers_zone)), stride = pages(sizeof(struct servers_slot));

    (void)state;
    atomic_store(&all->alive, 0);
    assert_int_equal(ended(child(0, dies_with_three_in_flight)), -SIGKILL);
    assert_int_equal(ended(child(1, sees_three)), 0);
    cleared(0, &kept[3], shared, stride);
    cleared(1, &kept[3], shared, stride);
    assert_int_equal(ended(child(2, sees_none_but_the_failure)), 0);
    cleared(2, &kept[3], shared, stride);
    assert_int_equal(ended(child(0, moves)), 0);
    cleared(0, &kept[3], shared, stride);
}

/* ---- threads of two processes at once ---- */

static atomic_uint n_ended;

static void *
writes(void *arg)
{
    struct sl_loop loop = {.index = (unsigned)(uintptr_t)arg};
    int i;

    counters_attach(&loop);
    for (i = 0; i < ROUNDS; i++) {
        atomic_fetch_add_explicit(a.pub.n_active, 1, memory_order_relaxed);
        sl_count(&loop, 0, 1);
        atomic_fetch_sub_explicit(a.pub.n_active, 1, memory_order_relaxed);
    }
    atomic_fetch_add(&n_ended, 1);
    return NULL;
}

static void
many_threads(void)
{
    pthread_t threads[WRITERS];
    int64_t least = 0, sum;
    uintptr_t i;

    CHILD_CHECK(sl_counter("rounds", "") == 0 && counters_open(WRITERS) == 0);
    share();
    for (i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, writes, (void *)i);
    while (atomic_load(&n_ended) < WRITERS) {
        sum = sl_counter_sum(0);
        CHILD_CHECK(sum >= least && sl_server_active(&a.pub) <= 2 * WRITERS);
        least = sum;
    }
    for (i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    CHILD_CHECK(atomic_load(a.pub.n_active) == 0);
}

static void
sees_all_rounds(void)
{
    CHILD_CHECK(sl_counter("rounds", "") == 0 && counters_open(1) == 0);
    CHILD_CHECK(sl_counter_sum(0) == 2 * WRITERS * ROUNDS);
}

static void
threads_of_two_processes(void **state)
{
    pid_t one, other;

    (void)state;
    one = child(0, many_threads);
    other = child(1, many_threads);
    assert_int_equal(ended(one), 0);
    assert_int_equal(ended(other), 0);
    assert_int_equal(ended(child(2, sees_all_rounds)), 0);
}

/* ---- what is refused ---- */

static void
is_refused(void)
{
    int is_fresh;
    void *zone_t = sl_zone("t", 1, 4096, &is_fresh);

    CHILD_CHECK(zone_t != NULL && is_fresh);
    CHILD_CHECK(sl_zone("t", 2, 4096, &is_fresh) == NULL && sl_zone("t", 1, 8192, &is_fresh) == NULL);
    CHILD_CHECK(sl_zone("unknown", 1, 4096, &is_fresh) == NULL);
    CHILD_CHECK(sl_zone("", 1, 4096, &is_fresh) == NULL);
    CHILD_CHECK(sl_zone("two words", 1, 4096, &is_fresh) == NULL);
    CHILD_CHECK(sl_zone("none", 1, 0, &is_fresh) == NULL);
    CHILD_CHECK(sl_counter("two words", "") == -1);
    zones_shut();
    CHILD_CHECK(sl_zone(COUNTERS_ZONE, 1, 4096, &is_fresh) == NULL);
    CHILD_CHECK(sl_zone("t", 1, 4096, &is_fresh) == zone_t && !is_fresh);
    CHILD_CHECK(zone_descriptor("t") == -1);
    zones_close();
}

static void
what_is_refused(void **state)
{
    (void)state;
    assert_int_equal(ended(child(0, is_refused)), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_name_keeps_its_number, keep, let_go),
        cmocka_unit_test_setup_teardown(a_lock_dies_with_its_holder, keep, let_go),
        cmocka_unit_test_setup_teardown(a_sum_loses_nothing, keep, let_go),
        cmocka_unit_test_setup_teardown(counts_in_flight_die_with_their_process, keep, let_go),
        cmocka_unit_test_setup_teardown(threads_of_two_processes, keep, let_go),
        cmocka_unit_test_setup_teardown(what_is_refused, keep, let_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
