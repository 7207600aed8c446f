/* What outcomes of attempts make of a server's state. */
/* with: modules/balancer/health.c modules/balancer/window.c server/runtime/causes.c */
#include "unit.h"

#include "../../modules/balancer/condition.c"

#include <stdarg.h>

static struct balancer b;
static struct sl_server_state states[3];
static struct sl_server all[3], *servers[3] = {&all[0], &all[1], &all[2]};
static struct sl_pool pool = {.name = "p", .servers = servers, .n_servers = 3, .data = &b};
static struct sl_server *const s = &all[0];
static char told[16][32]; /* numbers of messages */
static unsigned n_told, n_events;

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    (void)level;
    (void)fmt;
    snprintf(told[n_told++ % 16], sizeof told[0], "%s", id);
}

void
sl_server_note(struct sl_server *server, int64_t at_us, const char *text)
{
    (void)server;
    (void)at_us;
    (void)text;
    n_events++;
}

static int
make(void **state)
{
    unsigned i;

    (void)state;
    memset(states, 0, sizeof states);
    b = (struct balancer){.rules = {2, 3},
                          .eject = {.errors = 3, .ratio = -1, .samples = 10, .window_ms = 8000,
                                    .panic = 30}};
    for (i = 0; i < 3; i++)
        all[i] = (struct sl_server){.name = "s", .pool = &pool, .index = i, .weight = 1,
                                    .state = &states[i]};
    n_told = n_events = 0;
    return 0;
}

static enum sl_health
state_of(const struct sl_server *server)
{
    return SL_HEALTH_STATE(atomic_load(&server->state->health));
}

static void
fails(struct sl_server *server, int64_t now_ms)
{
    condition_attempt(server, &sl_cause_no_response, 0, 0, (struct moment){now_ms, 1});
}

static void
works(struct sl_server *server, int status, int64_t now_ms)
{
    condition_attempt(server, NULL, status, 0, (struct moment){now_ms, 1});
}

static void
three_in_a_row(void **state)
{
    (void)state;
    fails(s, 1000);
    fails(s, 1000);
    works(s, 200, 1000);
    fails(s, 1000);
    fails(s, 1000);
    assert_int_equal(state_of(s), SL_HEALTH_UP);
    fails(s, 1000);
    assert_int_equal(state_of(s), SL_HEALTH_RESTING);
    assert_string_equal(told[0], "BALANCER0010");
    assert_int_equal(n_events, 1);
    fails(s, 1000); /* sent before: changes nothing */
    assert_int_equal(n_told, 1);
}

static void
what_clients_do_says_nothing(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < 10; i++)
        condition_attempt(s, &sl_cause_client_gone, 0, 0, (struct moment){1000, 1});
    for (i = 0; i < 10; i++)
        works(s, 500, 1000); /* no ratio is configured */
    assert_int_equal(state_of(s), SL_HEALTH_UP);
    assert_int_equal(atomic_load(&s->state->n_failed), 0);
}

static void
the_ratio_needs_its_samples(void **state)
{
    unsigned i;

    (void)state;
    b.eject.ratio = 50;
    for (i = 0; i < 9; i++)
        works(s, i % 2 ? 200 : 503, 1000);
    assert_int_equal(state_of(s), SL_HEALTH_UP);
    works(s, 503, 1000);
    assert_int_equal(state_of(s), SL_HEALTH_RESTING);
}

static void
the_floor_holds(void **state)
{
    unsigned i, k;

    (void)state;
    for (i = 0; i < 3; i++)
        for (k = 0; k < 9; k++)
            fails(&all[i], 1000);
    assert_int_equal(state_of(&all[0]), SL_HEALTH_RESTING);
    assert_int_equal(state_of(&all[1]), SL_HEALTH_RESTING); /* a third is left: 33 >= 30 */
    assert_int_equal(state_of(&all[2]), SL_HEALTH_UP);
    assert_int_equal(n_told, 3); /* the floor once, not three times */
    assert_string_equal(told[2], "BALANCER0013");
}

/* Its prober died, with its process: the next request is a probe again. */
static void
a_probe_that_never_ended(void **state)
{
    struct moment at = {2000, 1};

    (void)state;
    fails(s, 1000), fails(s, 1000), fails(s, 1000);
    assert_true(health_tell(s, HEALTH_PROBE_BEGINS, "", at));
    assert_false(health_tell(s, HEALTH_PROBE_BEGINS, "", at));
    assert_false(sl_server_may_be_used(s, 2000 + PROBE_MS - 1));
    assert_true(sl_server_may_be_used(s, 2000 + PROBE_MS));
    at.now_ms = 2000 + PROBE_MS;
    assert_true(health_tell(s, HEALTH_PROBE_BEGINS, "", at));
    assert_false(health_tell(s, HEALTH_PROBE_BEGINS, "", at));
    condition_attempt(s, NULL, 200, 1, at);
    assert_int_equal(state_of(s), SL_HEALTH_UP);
}

static void
words_for_states(void **state)
{
    (void)state;
    assert_string_equal(condition_word(s), "up");
    s->flags = SL_SERVER_DRAIN;
    assert_string_equal(condition_word(s), "drained");
    atomic_store(&s->state->health, (uint64_t)SL_ADMIN_ON << 59);
    assert_string_equal(condition_word(s), "up");
    atomic_store(&s->state->health, (uint64_t)SL_ADMIN_OFF << 59 | (uint64_t)SL_HEALTH_DOWN << 61);
    assert_string_equal(condition_word(s), "disabled");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(three_in_a_row, make),
        cmocka_unit_test_setup(what_clients_do_says_nothing, make),
        cmocka_unit_test_setup(the_ratio_needs_its_samples, make),
        cmocka_unit_test_setup(the_floor_holds, make),
        cmocka_unit_test_setup(a_probe_that_never_ended, make),
        cmocka_unit_test_setup(words_for_states, make),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
