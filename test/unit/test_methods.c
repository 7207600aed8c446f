/* How methods share: by statistics, and what a server that comes or goes changes. */
/* threads */
/* with: modules/balancer/turns.c modules/balancer/retired.c modules/balancer/ring.c */
#include "unit.h"

#include "../../modules/balancer/first.c"
#include "../../modules/balancer/hash.c"
#include "../../modules/balancer/leastconn.c"
#include "../../modules/balancer/random2.c"

#include <apr_general.h>
#include <apr_strings.h>

#define MANY 100
#define PICKS 100000

static apr_pool_t *memory;
static struct sl_server_state states[MANY];
static atomic_uint counts[MANY];
static struct sl_server all[MANY], *servers[MANY];
static struct sl_pool pool = {.name = "p", .servers = servers};
static unsigned n_picked[MANY];
static const char *key;
static char key_text[16]; /* what it may lead to between two picks */
static int64_t now_ms = 1000000;

/* ---- what the core would answer ---- */

#include "balancer_doubles.h"

struct sl_loop *
sl_attempt_loop(struct sl_attempt *a)
{
    (void)a;
    return NULL;
}

int64_t
sl_loop_now(const struct sl_loop *loop)
{
    (void)loop;
    return now_ms;
}

struct sl_span
sl_expr_text(const struct sl_expr *e, struct sl_req *r)
{
    (void)e;
    (void)r;
    return sl_span(key);
}

const struct sl_sockaddr *
sl_req_client(struct sl_req *r)
{
    static struct sl_sockaddr a;

    (void)r;
    a.len = sizeof a.u.in;
    a.u.sa.sa_family = AF_INET;
    memcpy(&a.u.in.sin_addr, key, 4);
    return &a;
}

/* ---- pools and picks ---- */

static void
make_pool(unsigned n)
{
    unsigned i;

    memset(states, 0, sizeof states);
    memset(counts, 0, sizeof counts);
    memset(n_picked, 0, sizeof n_picked);
    for (i = 0; i < n; i++) {
        all[i] = (struct sl_server){.name = apr_psprintf(memory, "10.0.0.%u:80", i), .pool = &pool,
                                    .index = i, .weight = 1, .n_active = &counts[i],
                                    .state = &states[i]};
        servers[i] = &all[i];
    }
    pool.n_servers = n;
}

static void *
set_up(const struct sl_balance_method *m)
{
    void *data;

    assert_null(m->setup(NULL, &pool, &data));
    assert_int_equal(m->ready(&pool, data), 0);
    return data;
}

static struct sl_server *
pick_one(const struct sl_balance_method *m, void *data)
{
    struct sl_choice choice = {.attempt = (struct sl_attempt *)(void *)&pool, .now_ms = now_ms};

    return m->pick(&choice, &pool, data);
}

static void
pick_many(const struct sl_balance_method *m, void *data, unsigned n)
{
    unsigned i;

    memset(n_picked, 0, sizeof n_picked);
    for (i = 0; i < n; i++) {
        snprintf(key_text, sizeof key_text, "/%u", i * 7919);
        key = key_text;
        n_picked[pick_one(m, data)->index]++;
    }
}

/* Chi-square of what was picked against equal shares, over its degrees of freedom: near 1 for
 * chance, less for what is more even. */
static double
unevenness(unsigned n, unsigned picks)
{
    double expected = (double)picks / n, sum = 0;
    unsigned i;

    for (i = 0; i < n; i++)
        sum += (n_picked[i] - expected) * (n_picked[i] - expected) / expected;
    return sum / (n - 1);
}

static void
random2_is_even(void **state)
{
    void *data;

    (void)state;
    make_pool(MANY);
    data = set_up(&random2_method);
    pick_many(&random2_method, data, PICKS);
    assert_true(unevenness(MANY, PICKS) < 1.6); /* 99 degrees: one run in 10,000 has more */
    assert_true(unevenness(MANY, PICKS) > 0.4);
}

/* Power of two choices: without an end of requests the fullest is hardly above the mean. */
static void
random2_levels(void **state)
{
    unsigned i, most = 0;
    void *data;

    (void)state;
    make_pool(MANY);
    data = set_up(&random2_method);
    for (i = 0; i < 10000; i++)
        atomic_fetch_add(pick_one(&random2_method, data)->n_active, 1);
    for (i = 0; i < MANY; i++)
        most = counts[i] > most ? counts[i] : most;
    assert_in_range(most, 100, 104);
}

static void
random2_keeps_to_weights(void **state)
{
    void *data;

    (void)state;
    make_pool(2);
    all[0].weight = 3;
    data = set_up(&random2_method);
    for (unsigned i = 0; i < 4000; i++)
        atomic_fetch_add(pick_one(&random2_method, data)->n_active, 1);
    assert_in_range(counts[0], 2990, 3010);
}

static void
down_gets_nothing(void **state)
{
    static const struct sl_balance_method *const methods[] = {
        &random2_method, &ewma_method, &hash_method, &iphash_method, &leastconn_method,
        &first_method};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        unsigned k;
        void *data;

        make_pool(10);
        data = set_up(methods[i]);
        for (k = 0; k < 9; k++)
            atomic_store(&states[k].health, (uint64_t)SL_HEALTH_DOWN << 61);
        pick_many(methods[i], data, 1000);
        assert_int_equal(n_picked[9], 1000);
        atomic_store(&states[9].health, (uint64_t)SL_HEALTH_DOWN << 61);
        assert_null(pick_one(methods[i], data));
    }
}

/* Who is gone gets nothing; who has just come is found, also before ready() was called for it. */
static void
seats_come_and_go(void **state)
{
    static const struct sl_balance_method *const methods[] = {
        &random2_method, &ewma_method, &hash_method, &iphash_method, &leastconn_method,
        &first_method};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        unsigned k;
        void *data;

        make_pool(10);
        for (k = 0; k < 9; k++)
            all[k].flags = SL_SERVER_SEAT | SL_SERVER_GONE;
        data = set_up(methods[i]);
        pick_many(methods[i], data, 1000);
        assert_int_equal(n_picked[9], 1000);
        all[9].flags |= SL_SERVER_GONE;
        assert_null(pick_one(methods[i], data));
        all[3].flags = SL_SERVER_SEAT;
        all[3].level = 2;
        assert_null(pick_one(methods[i], data));
        all[3].level = 0;
        pick_many(methods[i], data, 1000);
        assert_int_equal(n_picked[3], 1000);
        all[9].flags = SL_SERVER_SEAT;
        assert_int_equal(methods[i]->ready(&pool, data), 0);
        pick_many(methods[i], data, 1000);
        assert_int_equal(n_picked[3] + n_picked[9], 1000);
    }
}

/* A server ten times as slow gets a small part, and is not forgotten when it is fast again. */
static void
ewma_prefers_the_faster(void **state)
{
    unsigned i;
    void *data;

    (void)state;
    make_pool(4);
    data = set_up(&ewma_method);
    for (i = 0; i < 20000; i++, now_ms += i % 10 == 0) {
        struct sl_server *s = pick_one(&ewma_method, data);

        n_picked[s->index]++;
        ewma_method.responded(s, data, s->index == 0 ? 100000 : 10000 + i % 100, now_ms);
    }
    assert_in_range(n_picked[0], 1, 600);
    assert_in_range(n_picked[1], 4000, 9000);
    now_ms += 60000; /* faded: it gets a chance */
    memset(n_picked, 0, sizeof n_picked);
    for (i = 0; i < 20000; i++, now_ms += i % 10 == 0) {
        struct sl_server *s = pick_one(&ewma_method, data);

        n_picked[s->index]++;
        ewma_method.responded(s, data, 10000 + i % 100, now_ms);
    }
    assert_in_range(n_picked[0], 3000, 7000);
}

static void
hash_is_fair(void **state)
{
    unsigned i;
    void *data;

    (void)state;
    make_pool(10);
    data = set_up(&hash_method);
    pick_many(&hash_method, data, PICKS);
    for (i = 0; i < 10; i++) /* 160 points: a deviation of 8 % */
        assert_in_range(n_picked[i], PICKS / 10 * 75 / 100, PICKS / 10 * 125 / 100);
    all[3].weight = 3;
    assert_int_equal(hash_method.ready(&pool, data), 0);
    pick_many(&hash_method, data, PICKS);
    assert_in_range(n_picked[3], PICKS / 4 * 80 / 100, PICKS / 4 * 120 / 100);
}

static unsigned
owner_of(void *data, unsigned i)
{
    snprintf(key_text, sizeof key_text, "/%u", i);
    key = key_text;
    return pick_one(&hash_method, data)->index;
}

/* Only the keys of the server that left move, and they are spread over all others. */
static void
hash_is_stable(void **state)
{
    enum { KEYS = 10000 };
    static unsigned before[KEYS];
    unsigned i, n_moved = 0;
    void *data;

    (void)state;
    make_pool(10);
    data = set_up(&hash_method);
    for (i = 0; i < KEYS; i++)
        before[i] = owner_of(data, i);
    atomic_store(&states[4].health, (uint64_t)SL_HEALTH_DOWN << 61);
    for (i = 0; i < KEYS; i++) {
        unsigned now = owner_of(data, i);

        assert_true(now != 4 && (now == before[i] || before[i] == 4));
        n_picked[now] += before[i] == 4;
        n_moved += now != before[i];
    }
    assert_in_range(n_moved, KEYS / 10 / 2, KEYS / 10 * 3 / 2);
    for (i = 0; i < 10; i++)
        assert_true(n_picked[i] < n_moved / 3);
    /* the same when it is taken out of the configuration: the last one goes */
    make_pool(9);
    data = set_up(&hash_method);
    for (i = 0; i < KEYS; i++)
        assert_true(owner_of(data, i) == before[i] || before[i] == 9);
    /* and when it leaves its seat, and takes another one by its name */
    make_pool(12);
    all[4].flags = all[10].flags = all[11].flags = SL_SERVER_SEAT | SL_SERVER_GONE;
    data = set_up(&hash_method);
    for (i = 0; i < KEYS; i++)
        assert_true(owner_of(data, i) == before[i] || before[i] == 4);
    all[11].name = all[4].name;
    all[11].flags = SL_SERVER_SEAT;
    assert_int_equal(hash_method.ready(&pool, data), 0);
    for (i = 0; i < KEYS; i++)
        assert_int_equal(owner_of(data, i), before[i] == 4 ? 11 : before[i]);
}

/* One key that all ask for: its server has at most the bound, the rest goes to others. */
static void
hash_is_bounded(void **state)
{
    unsigned i, most = 0;
    struct hash *h;

    (void)state;
    make_pool(10);
    h = set_up(&hash_method);
    h->bound = 125;
    key = "/hot";
    for (i = 0; i < 1000; i++)
        atomic_fetch_add(pick_one(&hash_method, h)->n_active, 1);
    for (i = 0; i < 10; i++)
        most = counts[i] > most ? counts[i] : most;
    assert_in_range(most, 100, 126);
    /* by weight: 3 of 12 parts, and one that has the most is the only one that is full */
    make_pool(10);
    all[3].weight = 3;
    h = set_up(&hash_method);
    h->bound = 125;
    for (i = 0; i < 1000; i++)
        atomic_fetch_add(pick_one(&hash_method, h)->n_active, 1);
    for (i = 0; i < 10; i++)
        assert_true(counts[i] <= (i == 3 ? 314 : 105));
}

/* Whatever their number and where they begin, in a row or not. */
static void
counts_are_summed(void **state)
{
    static atomic_uint row[24];
    const atomic_uint *at[20];
    unsigned from, n, i;

    (void)state;
    for (from = 0; from < 3; from++)
        for (n = 0; n <= 20; n++) {
            struct counts in_row = {at, &row[from]}, apart = {at, NULL};
            uint64_t sum = 0;

            for (i = 0; i < 24; i++)
                row[i] = i * 100003;
            for (i = 0; i < n; i++)
                sum += *(at[i] = &row[from + i]);
            assert_int_equal(counts_sum(&in_row, n), sum);
            assert_int_equal(counts_sum(&apart, n), sum);
        }
}

static void
iphash_keeps_to_addresses(void **state)
{
    unsigned i, first, n_others = 0;
    void *data;

    (void)state;
    make_pool(10);
    data = set_up(&iphash_method);
    key = "\x0a\x01\x02\x03";
    first = pick_one(&iphash_method, data)->index;
    for (i = 0; i < 100; i++)
        assert_int_equal(pick_one(&iphash_method, data)->index, first);
    for (i = 0; i < 100; i++) {
        memcpy(key_text, (char[]){10, 1, 3, (char)i}, 4);
        key = key_text;
        n_others += pick_one(&iphash_method, data)->index != first;
    }
    assert_in_range(n_others, 70, 100);
}

static void
first_fills_up(void **state)
{
    unsigned i;

    (void)state;
    make_pool(3);
    all[0].maxconn = 5;
    all[1].maxconn = 5;
    for (i = 0; i < 12; i++)
        atomic_fetch_add(pick_one(&first_method, NULL)->n_active, 1);
    assert_int_equal(counts[0], 5);
    assert_int_equal(counts[1], 5);
    assert_int_equal(counts[2], 2);
}

static int
make(void **state)
{
    (void)state;
    apr_initialize();
    return apr_pool_create(&memory, NULL);
}

static int
end(void **state)
{
    (void)state;
    apr_pool_destroy(memory);
    apr_terminate();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random2_is_even),
        cmocka_unit_test(random2_levels),
        cmocka_unit_test(random2_keeps_to_weights),
        cmocka_unit_test(down_gets_nothing),
        cmocka_unit_test(seats_come_and_go),
        cmocka_unit_test(ewma_prefers_the_faster),
        cmocka_unit_test(hash_is_fair),
        cmocka_unit_test(hash_is_stable),
        cmocka_unit_test(hash_is_bounded),
        cmocka_unit_test(counts_are_summed),
        cmocka_unit_test(iphash_keeps_to_addresses),
        cmocka_unit_test(first_fills_up),
    };

    return cmocka_run_group_tests(tests, make, end);
}
