/* mod_ratelimit's arithmetic as tables, with a clock of the test's; and its shared table under
 * threads and under processes that are killed. */
/* threads */
#include "unit.h"

#include "../../modules/ratelimit/counts.c"
#include "../../modules/ratelimit/gcra.c"
#include "../../modules/ratelimit/offenders.c"
#include "../../modules/ratelimit/siphash.h"
#include "../../modules/ratelimit/table.c"
#include "../../modules/ratelimit/told.c"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- rates ---- */

static void
test_rates(void **state)
{
    static const struct {
        const char *text;
        uint32_t n, period_ms; /* 0: refused */
    } table[] = {
        {"10r/s", 1, 100},      {"600r/m", 1, 100},        {"10/s", 1, 100},
        {"1r/s", 1, 1000},      {"3r/s", 3, 1000},         {"7r/m", 7, 60000},
        {"1r/h", 1, 3600000},   {"1000r/d", 1, 86400},     {"1000000r/s", 1000, 1},
        {"999999r/s", 999999, 1000}, {"0r/s", 0, 0},       {"1000001r/s", 0, 0},
        {"r/s", 0, 0},          {"10", 0, 0},              {"10r", 0, 0},
        {"10r/", 0, 0},         {"10r/w", 0, 0},           {"10r/ss", 0, 0},
        {"-1r/s", 0, 0},        {"10k/s", 0, 0},           {"9999999999r/s", 0, 0},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct rate rate = {0, 0};
        const char *err = rate_parse(table[i].text, &rate);

        if ((err == NULL) != (table[i].n != 0) || rate.n != table[i].n || rate.period_ms != table[i].period_ms)
            fail_msg("%s: %u in %u ms, %s", table[i].text, rate.n, rate.period_ms, err != NULL ? err : "taken");
    }
}

/* ---- decisions ---- */

#define N_BUCKETS 64

static struct table
table_make(size_t n_buckets)
{
    struct table t = {.buckets = aligned_alloc(64, n_buckets * sizeof(struct bucket)),
                      .n_buckets = (uint32_t)n_buckets};

    assert_non_null(t.buckets);
    memset(t.buckets, 0, n_buckets * sizeof(struct bucket));
    return t;
}

static struct gcra
gcra_make(const char *text, unsigned burst, struct rate *rate, struct table *t)
{
    struct gcra g;

    assert_null(rate_parse(text, rate));
    g.cost = rate->period_ms;
    g.tolerance = burst * g.cost;
    t->most = g.most = g.tolerance + g.cost;
    return g;
}

/* At each time so many requests come: so many are admitted, and then so many ms are to wait. */
static void
test_decisions(void **state)
{
    static const struct {
        const char *rate;
        unsigned burst;
        struct {
            int64_t ms;
            int n, admitted;
            int64_t wait_ms;
        } at[6];
    } table[] = {
        {"10r/s", 0, {{0, 5, 1, 100}, {99, 3, 0, 1}, {100, 3, 1, 100}, {1000, 2, 1, 100}}},
        {"10r/s", 20, {{0, 50, 21, 100}, {100, 5, 1, 100}, {199, 2, 0, 1}, {1200, 30, 11, 100}}},
        {"600r/m", 2, {{0, 9, 3, 100}, {50, 1, 0, 50}, {100, 2, 1, 100}, {10000, 9, 3, 100}}},
        /* a third of a second is no whole number of ms: with a burst, nothing is lost by that */
        {"3r/s", 1, {{0, 3, 2, 334}, {333, 1, 0, 1}, {334, 2, 1, 333}, {667, 2, 1, 333}, {1000, 2, 1, 334}}},
        {"7r/m", 0, {{0, 1, 1, 8572}, {8571, 1, 0, 1}, {8572, 1, 1, 8572}}},
        {"1r/h", 1, {{0, 5, 2, 3600000}, {3599999, 1, 0, 1}, {3600000, 2, 1, 3600000}}},
        {"1000r/s", 0, {{0, 3, 1, 1}, {1, 3, 1, 1}, {2, 3, 1, 1}}},
        {"1000000r/s", 999, {{0, 2000, 1000, 1}, {1, 2000, 1000, 1}}},
    };
    /* Also where the ring begins anew. */
    static const int64_t starts[] = {1, 123456789, INT64_C(1) << RING_BITS, (INT64_C(1) << RING_BITS) - 150};
    size_t i, k, s;
    int n;

    (void)state;
    for (s = 0; s < sizeof starts / sizeof starts[0]; s++)
        for (i = 0; i < sizeof table / sizeof table[0]; i++) {
            struct table t = table_make(N_BUCKETS);
            struct rate rate;
            struct gcra g = gcra_make(table[i].rate, table[i].burst, &rate, &t);

            for (k = 0; k < 6 && table[i].at[k].n > 0; k++) {
                uint64_t now = rate_ticks(&rate, starts[s] + table[i].at[k].ms), ahead;
                int admitted = 0;
                int64_t wait;

                for (n = 0; n < table[i].at[k].n; n++)
                    admitted += table_charge(&t, 42, now, &g, &ahead) == TABLE_ADMITTED;
                wait = rate_ms(&rate, gcra_wait(&g, table_ahead(&t, 42, now)));
                if (admitted != table[i].at[k].admitted || wait != table[i].at[k].wait_ms)
                    fail_msg("%s burst %u from %lld, at %lld ms: %d admitted, then %lld ms", table[i].rate,
                             table[i].burst, (long long)starts[s], (long long)table[i].at[k].ms, admitted,
                             (long long)wait);
            }
            free(t.buckets);
        }
}

/* A thread whose clock is behind sees a debt larger than any: it is one all the same. */
static void
test_clocks_apart(void **state)
{
    static const int64_t starts[] = {5000, INT64_C(1) << RING_BITS, (INT64_C(1) << RING_BITS) - 2};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        struct table t = table_make(N_BUCKETS);
        struct rate rate;
        struct gcra g = gcra_make("1r/h", 1, &rate, &t);
        uint64_t now = rate_ticks(&rate, starts[i]), late = rate_ticks(&rate, starts[i] - 3), ahead;

        t.apart = (uint64_t)CLOCKS_APART_MS * rate.n;
        assert_int_equal(table_charge(&t, 42, now, &g, &ahead), TABLE_ADMITTED);
        assert_int_equal(table_charge(&t, 42, now, &g, &ahead), TABLE_ADMITTED);
        assert_int_equal(table_charge(&t, 42, late, &g, &ahead), TABLE_REFUSED);
        assert_int_equal(table_charge(&t, 42, now, &g, &ahead), TABLE_REFUSED);
        assert_int_equal(table_count(&t, late), 1);
        free(t.buckets);
    }
}

/* What is owed beyond the most is forgiven, not all of it. */
static void
test_most(void **state)
{
    struct table t = table_make(N_BUCKETS);
    struct gcra g = {100, RING_MASK, 1000};
    uint64_t ahead;
    int i;

    (void)state;
    t.most = 1000;
    for (i = 0; i < 15; i++)
        table_charge(&t, 42, 5000, &g, &ahead);
    assert_int_equal(table_ahead(&t, 42, 5000), 1000);
    free(t.buckets);
}

/* A request every ms for an hour: what the rate allows and the burst, not one more or less. */
static void
test_exact_over_time(void **state)
{
    static const struct {
        const char *rate;
        int admitted;
    } table[] = {{"7r/s", 25201}, {"13r/m", 781}, {"999r/s", 3596401}, {"11r/h", 12}};
    size_t i;
    int64_t ms;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct table t = table_make(N_BUCKETS);
        struct rate rate;
        struct gcra g = gcra_make(table[i].rate, 1, &rate, &t);
        uint64_t ahead;
        int n = 0;

        for (ms = 0; ms < 3600000; ms++)
            n += table_charge(&t, 7, rate_ticks(&rate, ms), &g, &ahead) == TABLE_ADMITTED;
        assert_int_equal(n, table[i].admitted);
        free(t.buckets);
    }
}

static void
test_refund_raise_forget(void **state)
{
    struct table t = table_make(N_BUCKETS);
    struct rate rate;
    struct gcra g = gcra_make("10r/s", 5, &rate, &t);
    uint64_t ahead;

    (void)state;
    assert_int_equal(table_charge(&t, 1, 1000, &g, &ahead), TABLE_ADMITTED);
    assert_int_equal(table_charge(&t, 1, 1000, &g, &ahead), TABLE_ADMITTED);
    table_refund(&t, 1, 1000, g.cost);
    assert_int_equal(table_ahead(&t, 1, 1000), 100);
    table_refund(&t, 1, 1050, g.cost); /* half of it is paid already */
    assert_int_equal(table_ahead(&t, 1, 1050), 0);
    table_refund(&t, 2, 1050, g.cost); /* a key that is not there */
    assert_int_equal(table_ahead(&t, 2, 1050), 0);
    table_raise(&t, 1, 1050, 300);
    table_raise(&t, 1, 1050, 200);
    table_raise(&t, 3, 1050, 400);
    assert_int_equal(table_ahead(&t, 1, 1050), 300);
    assert_int_equal(table_ahead(&t, 3, 1050), 400);
    table_raise(&t, 3, 1050, UINT64_C(1) << 39); /* no debt is larger than the largest */
    assert_int_equal(table_ahead(&t, 3, 1050), 600);
    assert_int_equal(table_count(&t, 1050), 2);
    assert_true(table_forget(&t, 1));
    assert_false(table_forget(&t, 1));
    assert_int_equal(table_ahead(&t, 1, 1050), 0);
    table_clear(&t);
    assert_int_equal(table_count(&t, 1050), 0);
    free(t.buckets);
}

static void
test_told(void **state)
{
    static const struct {
        const char *rate;
        unsigned burst;
        uint64_t ahead_of_requests; /* debt in tenths of a request */
        const char *policy, *now;
    } table[] = {
        {"10r/s", 20, 10, "\"api\";q=21;w=3", "\"api\";r=20;t=1"},
        {"10r/s", 20, 210, "\"api\";q=21;w=3", "\"api\";r=0;t=1"},
        {"10r/s", 0, 10, "\"api\";q=1;w=1", "\"api\";r=0;t=1"},
        {"5r/m", 2, 10, "\"api\";q=3;w=36", "\"api\";r=2;t=12"},
        {"5r/m", 2, 25, "\"api\";q=3;w=36", "\"api\";r=0;t=6"},
        {"1r/h", 0, 10, "\"api\";q=1;w=3600", "\"api\";r=0;t=3600"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct table t = {.buckets = NULL};
        struct rate rate;
        struct told told = {.name = "api", .rate = &rate};
        char text[64];

        told.gcra = gcra_make(table[i].rate, table[i].burst, &rate, &t);
        told.ahead = table[i].ahead_of_requests * told.gcra.cost / 10;
        told_policy(&told, text, sizeof text);
        assert_string_equal(text, table[i].policy);
        told_state(&told, text, sizeof text);
        assert_string_equal(text, table[i].now);
    }
}

/* The vectors of the reference: key 00 01 .. 0f, input 00 01 02 ... */
static void
test_siphash(void **state)
{
    static const struct {
        size_t n;
        uint64_t hash;
    } table[] = {{0, UINT64_C(0x726fdb47dd0e0e31)}, {1, UINT64_C(0x74f839c593dc67fd)},
                 {2, UINT64_C(0x0d6c8009d9a94f5a)}, {3, UINT64_C(0x85676696d7fb7e2d)},
                 {7, UINT64_C(0xab0200f58b01d137)}, {8, UINT64_C(0x93f5f5799a932462)},
                 {15, UINT64_C(0xa129ca6149be45e5)}};
    static const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    unsigned char in[16];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof in; i++)
        in[i] = (unsigned char)i;
    for (i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_true(siphash(key, in, table[i].n) == table[i].hash);
}

/* ---- a full table ---- */

static uint64_t
hash_of(uint64_t key)
{
    static const uint64_t seed[2] = {1, 2};

    return siphash(seed, &key, sizeof key);
}

/* A million keys in what size=10m leaves for them: nearly all are known. */
static void
test_million_keys(void **state)
{
    enum { KEYS = 1000000 };
    struct table t = table_make((size_t)10 * 1024 * 1024 / 64 * 15 / 16);
    struct rate rate;
    struct gcra g = gcra_make("1r/h", 0, &rate, &t);
    uint64_t i, ahead;
    int evicted = 0, lost = 0;

    (void)state;
    for (i = 0; i < KEYS; i++)
        evicted += table_charge(&t, hash_of(i), 5000 + i / 100, &g, &ahead) == TABLE_EVICTED;
    for (i = 0; i < KEYS; i++)
        lost += table_ahead(&t, hash_of(i), 20000) == 0;
    print_message("of a million keys, %d were evicted and %d lost\n", evicted, lost);
    assert_in_range(evicted, 0, KEYS / 1000);
    assert_in_range(lost, 0, KEYS / 1000);
    free(t.buckets);
}

/* When there are more keys than room, those go whose time is up first. */
static void
test_oldest_goes(void **state)
{
    enum { KEYS = 2 * N_BUCKETS * BUCKET_WORDS };
    struct table t = table_make(N_BUCKETS);
    struct rate rate;
    struct gcra g = gcra_make("1r/m", 0, &rate, &t);
    uint64_t i, ahead;
    int old = 0, young = 0;

    (void)state;
    for (i = 0; i < KEYS; i++)
        table_charge(&t, hash_of(i), 1000 + i, &g, &ahead);
    for (i = 0; i < KEYS / 4; i++) {
        old += table_ahead(&t, hash_of(i), 1000 + KEYS) > 0;
        young += table_ahead(&t, hash_of(KEYS - 1 - i), 1000 + KEYS) > 0;
    }
    assert_in_range(young, KEYS / 4 * 95 / 100, KEYS / 4);
    assert_in_range(old, 0, KEYS / 4 * 10 / 100);
    free(t.buckets);
}

/* ---- threads ---- */

#define THREADS 4
#define KEYS 37
#define ROUNDS 20000
#define BURST 49

static struct table shared;
static struct gcra shared_gcra;
static _Atomic(int) admitted[KEYS];

static void *
charger(void *arg)
{
    uint64_t ahead, seed = (uint64_t)(uintptr_t)arg;
    int i;

    for (i = 0; i < ROUNDS; i++) {
        unsigned key = (unsigned)((seed = seed * UINT64_C(6364136223846793005) + 1) >> 33) % KEYS;

        if (table_charge(&shared, hash_of(key), 9000, &shared_gcra, &ahead) != TABLE_REFUSED)
            atomic_fetch_add(&admitted[key], 1);
        if (i % 16 == 0) {
            table_raise(&shared, hash_of(key), 9000, 1);
            table_count(&shared, 9000);
        }
    }
    return NULL;
}

static void
test_threads_admit_no_more(void **state)
{
    pthread_t threads[THREADS];
    struct rate rate;
    int i;

    (void)state;
    shared = table_make(N_BUCKETS);
    shared_gcra = gcra_make("10r/s", BURST, &rate, &shared);
    for (i = 0; i < KEYS; i++)
        atomic_store(&admitted[i], 0);
    for (i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, charger, (void *)(uintptr_t)(i + 1)), 0);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (i = 0; i < KEYS; i++)
        assert_int_equal(atomic_load(&admitted[i]), BURST + 1);
    free(shared.buckets);
}

/* Threads that meet a new key in the same moment, one key after the other. */

#define NEWCOMERS 2
#define NEW_KEYS 100000

static _Atomic(int) n_there, n_admitted, n_keys = NEW_KEYS;

/* Threads wait for each other at each key, for long where they have no processor: some seconds do. */
static void
end_in_time(int i, time_t end)
{
    int all = NEW_KEYS;

    if (i % 64 == 0 && time(NULL) >= end)
        atomic_compare_exchange_strong(&n_keys, &all, i + 2); /* the other is not beyond the next */
}

static void *
newcomer(void *arg)
{
    time_t end = time(NULL) + 5;
    uint64_t ahead;
    int i;

    (void)arg;
    for (i = 0; i < atomic_load(&n_keys); i++) {
        end_in_time(i, end);
        atomic_fetch_add(&n_there, 1);
        while (atomic_load(&n_there) < NEWCOMERS * (i + 1))
            sched_yield();
        if (table_charge(&shared, hash_of((unsigned)i), 9000 + (uint64_t)i, &shared_gcra, &ahead) != TABLE_REFUSED)
            atomic_fetch_add(&n_admitted, 1);
    }
    return NULL;
}

static void
test_threads_place_a_key_once(void **state)
{
    pthread_t threads[NEWCOMERS];
    struct rate rate;
    int i;

    (void)state;
    shared = table_make(N_BUCKETS);
    shared_gcra = gcra_make("10r/s", 0, &rate, &shared);
    for (i = 0; i < NEWCOMERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, newcomer, NULL), 0);
    for (i = 0; i < NEWCOMERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&n_admitted), atomic_load(&n_keys));
    free(shared.buckets);
}

/* ---- processes that are killed ---- */

struct common_page {
    _Atomic(int) admitted[KEYS];
    struct bucket buckets[N_BUCKETS];
};

static void
child(struct common_page *page, const struct gcra *g, uint64_t most, uint64_t seed)
{
    struct table t = {.buckets = page->buckets, .n_buckets = N_BUCKETS, .most = most};
    uint64_t ahead;

    for (;;) {
        unsigned key = (unsigned)((seed = seed * UINT64_C(6364136223846793005) + 1) >> 33) % KEYS;

        if (table_charge(&t, hash_of(key), 9000, g, &ahead) != TABLE_REFUSED)
            atomic_fetch_add(&page->admitted[key], 1);
        if (key == 0)
            usleep(50);
    }
}

static void
test_killed_processes_leave_it_whole(void **state)
{
    enum { CHILDREN = 60 };
    struct common_page *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct table t;
    struct rate rate;
    struct gcra g;
    uint64_t debt;
    int i;

    (void)state;
    assert_true(page != MAP_FAILED);
    t = (struct table){.buckets = page->buckets, .n_buckets = N_BUCKETS};
    g = gcra_make("10r/s", 4000, &rate, &t);
    for (i = 0; i < CHILDREN; i++) {
        pid_t pid = fork();

        if (pid == 0)
            child(page, &g, t.most, (uint64_t)i + 1);
        usleep((useconds_t)(i * 137 % 3000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    for (i = 0; i < KEYS; i++) { /* what was counted was charged; each death may hide one */
        debt = table_ahead(&t, hash_of((uint64_t)i), 9000) / g.cost;
        assert_in_range(debt, atomic_load(&page->admitted[i]), atomic_load(&page->admitted[i]) + CHILDREN);
    }
    munmap(page, sizeof *page);
}

/* ---- offenders ---- */

static void
test_offenders(void **state)
{
    struct offender *rows = aligned_alloc(128, 8 * sizeof *rows);
    struct offenders o = {rows, 8};
    struct offender_copy copy;
    int64_t n;
    int i, found = 0;

    (void)state;
    memset(rows, 0, 8 * sizeof *rows);
    assert_true(offenders_note(&o, 5, SL_SPAN("10.0.0.1"), 1000, 60000, &n));
    assert_false(offenders_note(&o, 5, SL_SPAN("10.0.0.1"), 2000, 60000, &n));
    assert_false(offenders_note(&o, 5, SL_SPAN("10.0.0.1"), 60999, 60000, &n));
    assert_true(offenders_note(&o, 5, SL_SPAN("10.0.0.1"), 61000, 60000, &n));
    assert_int_equal(n, 4);
    assert_true(offenders_note(&o, 6, SL_SPAN("a\x1b[31m b"), 61000, 60000, &n));
    for (i = 0; i < 8; i++)
        if (offenders_read(&o, (uint32_t)i, &copy)) {
            found++;
            assert_string_equal(copy.text, copy.hash == 5 ? "10.0.0.1" : "a?[31m?b");
        }
    assert_int_equal(found, 2);
    atomic_store(&row_of(&o, 5)->text[0], 0); /* half of another's text */
    for (i = 0, found = 0; i < 8; i++)
        found += offenders_read(&o, (uint32_t)i, &copy);
    assert_int_equal(found, 1);
    offenders_note(&o, 5, SL_SPAN("10.0.0.1"), 62000, 60000, &n);
    for (i = 0, found = 0; i < 8; i++)
        found += offenders_read(&o, (uint32_t)i, &copy);
    assert_int_equal(found, 2);
    offenders_forget(&o, 6);
    offenders_note(&o, 9, SL_SPAN("c"), 63000, 60000, &n);
    assert_int_equal(n, 1);
    offenders_forget(&o, 0);
    for (i = 0; i < 8; i++)
        assert_false(offenders_read(&o, (uint32_t)i, &copy));
    free(rows);
}

/* Two threads that met it at once gave it a word each: neither may count for itself alone. */
static void
test_a_count_is_of_all_words(void **state)
{
    const uint64_t hash = UINT64_C(0x123456789abcdef0), other = UINT64_C(0x23456789abcdef01);
    struct bucket b = {{0}};
    _Atomic(uint64_t) *first, *second, *third;
    int64_t n;

    (void)state;
    first = counts_up(&b, other, &n);
    second = counts_up(&b, hash, &n);
    counts_down(first);
    assert_int_equal(counts_of(&b, other), 0);
    b.words[0] = (count_tag(hash) << COUNT_BITS) + 1; /* by a thread that saw the other's gone sooner */
    first = &b.words[0];
    assert_ptr_not_equal(first, second);
    third = counts_up(&b, hash, &n);
    assert_int_equal(n, 3);
    assert_int_equal(counts_of(&b, hash), 3);
    counts_down(third);
    counts_down(second);
    counts_down(first);
    assert_int_equal(counts_of(&b, hash), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_clocks_apart),
        cmocka_unit_test(test_most),
        cmocka_unit_test(test_exact_over_time),
        cmocka_unit_test(test_refund_raise_forget),
        cmocka_unit_test(test_told),
        cmocka_unit_test(test_siphash),
        cmocka_unit_test(test_million_keys),
        cmocka_unit_test(test_oldest_goes),
        cmocka_unit_test(test_threads_admit_no_more),
        cmocka_unit_test(test_threads_place_a_key_once),
        cmocka_unit_test(test_killed_processes_leave_it_whole),
        cmocka_unit_test(test_offenders),
        cmocka_unit_test(test_a_count_is_of_all_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
