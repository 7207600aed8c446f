/* Weighted round robin while four threads take turns: the shares are exact, and a server that
 * is down gets nothing. */
/* threads */
/* with: modules/balancer/turns.c modules/balancer/retired.c */
#include "unit.h"

#include "../../modules/balancer/roundrobin.c"

#include <apr_general.h>
#include <pthread.h>

#define THREADS 4
#define PICKS 25000

static apr_pool_t *memory;
static struct turns_of rr;
static struct sl_server_state states[3];
static struct sl_server a = {.name = "a", .index = 0, .weight = 3, .state = &states[0]};
static struct sl_server b = {.name = "b", .index = 1, .weight = 1, .state = &states[1]};
static struct sl_server c = {.name = "c", .index = 2, .weight = 1, .state = &states[2]};
static struct sl_server *servers[] = {&a, &b, &c};
static struct sl_pool pool = {.name = "p", .servers = servers, .n_servers = 3};
static atomic_uint n_picked[3];

/* What the core would answer. */
unsigned
sl_server_active(const struct sl_server *s)
{
    (void)s;
    return 0;
}

int
sl_attempt_tried(const struct sl_attempt *attempt, const struct sl_server *server)
{
    (void)attempt;
    (void)server;
    return 0;
}

apr_pool_t *
sl_cmd_pool(const struct sl_cmd *cmd)
{
    (void)cmd;
    return memory;
}

int
sl_cmd_argc(const struct sl_cmd *cmd)
{
    (void)cmd;
    return 1;
}

static void *
pick_many(void *arg)
{
    struct sl_choice choice = {.now_ms = 1};
    unsigned i;

    (void)arg;
    for (i = 0; i < PICKS; i++)
        atomic_fetch_add(&n_picked[roundrobin_method.pick(&choice, &pool, &rr)->index], 1);
    return NULL;
}

static void
pick_on_all_threads(void)
{
    pthread_t threads[THREADS];
    unsigned i;

    for (i = 0; i < 3; i++)
        atomic_store(&n_picked[i], 0);
    for (i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, pick_many, NULL);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void
shares_are_exact(void **state)
{
    (void)state;
    pick_on_all_threads();
    assert_int_equal(atomic_load(&n_picked[0]), 60000);
    assert_int_equal(atomic_load(&n_picked[1]), 20000);
    assert_int_equal(atomic_load(&n_picked[2]), 20000);
}

/* The turns of the one that is down are spread over both others, not given to one. */
static void
down_means_nothing(void **state)
{
    (void)state;
    atomic_store(&a.state->health, (uint64_t)SL_HEALTH_DOWN << 61);
    pick_on_all_threads();
    atomic_store(&a.state->health, 0);
    assert_int_equal(atomic_load(&n_picked[0]), 0);
    assert_int_equal(atomic_load(&n_picked[1]) + atomic_load(&n_picked[2]), 100000);
    assert_in_range(atomic_load(&n_picked[1]), 40000, 60000);
}

/* While others pick. */
static void *
change_weights(void *arg)
{
    unsigned i;

    (void)arg;
    for (i = 0; i < 200; i++) {
        atomic_store(&a.weight, i % 5 + 1);
        assert_int_equal(roundrobin_method.ready(&pool, &rr), 0);
    }
    return NULL;
}

static void
weights_change_while_others_pick(void **state)
{
    pthread_t thread;

    (void)state;
    pthread_create(&thread, NULL, change_weights, NULL);
    pick_on_all_threads();
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&a.weight), 5);
    pick_on_all_threads();
    assert_in_range(atomic_load(&n_picked[0]), 71428, 71430); /* 5 of 7 */
}

static int
make(void **state)
{
    (void)state;
    apr_initialize();
    apr_pool_create(&memory, NULL);
    return roundrobin_method.ready(&pool, &rr);
}

static int
end(void **state)
{
    (void)state;
    turns_free(&rr);
    apr_pool_destroy(memory);
    apr_terminate();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shares_are_exact),
                                       cmocka_unit_test(down_means_nothing),
                                       cmocka_unit_test(weights_change_while_others_pick)};

    return cmocka_run_group_tests(tests, make, end);
}
