/* The states of a server, as tables: a word, an event, a word. */
/* with: modules/balancer/window.c */
#include "unit.h"

#include "../../modules/balancer/health.c"
#include "../../modules/balancer/window.h"

static const struct health_rules rules = {.rise = 2, .fall = 3};

static uint64_t
word(enum sl_health state, unsigned streak, unsigned n_rested, int64_t until)
{
    struct word w = {state, SL_ADMIN_NONE, streak, n_rested, until};

    return word_close(&w);
}

#define UP SL_HEALTH_UP
#define RESTING SL_HEALTH_RESTING
#define PROBED SL_HEALTH_PROBED
#define DOWN SL_HEALTH_DOWN

static const struct row {
    enum sl_health state;
    unsigned streak, n_rested;
    int64_t until;
    enum health_event event;
    enum sl_health state_after;
    unsigned streak_after, n_rested_after;
    int64_t until_after;
} rows[] = { /* at 100000 */
    /* failures of requests: rests get longer, and short again when it was well for long */
    {UP, 0, 0, 0, HEALTH_EJECTED, RESTING, 0, 1, 101000},
    {UP, 0, 1, 90000, HEALTH_EJECTED, RESTING, 0, 2, 102000},
    {UP, 0, 3, 90000, HEALTH_EJECTED, RESTING, 0, 4, 108000},
    {UP, 0, 9, 90000, HEALTH_EJECTED, RESTING, 0, 10, 110000},
    {UP, 0, 31, 90000, HEALTH_EJECTED, RESTING, 0, 31, 110000},
    {UP, 0, 9, 60000, HEALTH_EJECTED, RESTING, 0, 1, 101000},
    {RESTING, 0, 1, 100500, HEALTH_EJECTED, RESTING, 0, 1, 100500},
    {DOWN, 1, 1, 100, HEALTH_EJECTED, DOWN, 1, 1, 100},
    /* the probe: not before its time, one at a time, and its outcome */
    {UP, 0, 0, 0, HEALTH_PROBE_BEGINS, UP, 0, 0, 0},
    {RESTING, 0, 1, 100001, HEALTH_PROBE_BEGINS, RESTING, 0, 1, 100001},
    {RESTING, 0, 1, 100000, HEALTH_PROBE_BEGINS, PROBED, 0, 1, 130000},
    {PROBED, 0, 1, 110000, HEALTH_PROBE_BEGINS, PROBED, 0, 1, 110000},
    {PROBED, 0, 1, 99000, HEALTH_PROBE_BEGINS, PROBED, 0, 1, 130000},
    {PROBED, 0, 1, 110000, HEALTH_PROBE_REACHED, PROBED, 0, 1, 100000},
    {RESTING, 0, 1, 110000, HEALTH_PROBE_REACHED, RESTING, 0, 1, 110000},
    {UP, 0, 1, 90000, HEALTH_PROBE_REACHED, UP, 0, 1, 90000},
    {PROBED, 0, 1, 110000, HEALTH_PROBE_OK, UP, 0, 1, 100000},
    {PROBED, 0, 1, 110000, HEALTH_PROBE_FAILED, RESTING, 0, 2, 102000},
    {PROBED, 0, 1, 110000, HEALTH_PROBE_LOST, RESTING, 0, 1, 100000},
    {PROBED, 0, 1, 110000, HEALTH_EJECTED, PROBED, 0, 1, 110000},
    {RESTING, 0, 1, 110000, HEALTH_PROBE_OK, RESTING, 0, 1, 110000},
    {DOWN, 0, 1, 110000, HEALTH_PROBE_OK, DOWN, 0, 1, 110000},
    /* checks */
    {UP, 0, 0, 5, HEALTH_CHECK_FAILED, UP, 1, 0, 5},
    {UP, 1, 0, 5, HEALTH_CHECK_OK, UP, 0, 0, 5},
    {UP, 2, 0, 5, HEALTH_CHECK_FAILED, DOWN, 0, 0, 100000},
    {DOWN, 0, 0, 5, HEALTH_CHECK_OK, DOWN, 1, 0, 5},
    {DOWN, 1, 0, 5, HEALTH_CHECK_FAILED, DOWN, 0, 0, 5},
    {DOWN, 1, 0, 5, HEALTH_CHECK_OK, UP, 0, 0, 100000},
    {RESTING, 2, 3, 5, HEALTH_CHECK_FAILED, DOWN, 0, 3, 100000},
    {PROBED, 2, 3, 5, HEALTH_CHECK_FAILED, DOWN, 0, 3, 100000},
    {RESTING, 2, 3, 100001, HEALTH_CHECK_OK, RESTING, 0, 3, 100001},
    {RESTING, 2, 3, 100000, HEALTH_CHECK_OK, UP, 0, 3, 100000},
    {PROBED, 1, 3, 110000, HEALTH_CHECK_OK, PROBED, 0, 3, 110000},
    /* nobody checks it any more: it must not be down for ever */
    {DOWN, 1, 0, 5, HEALTH_UNCHECKED, UP, 0, 0, 100000},
    {UP, 2, 0, 5, HEALTH_UNCHECKED, UP, 0, 0, 5},
    {RESTING, 2, 1, 100500, HEALTH_UNCHECKED, RESTING, 0, 1, 100500},
};

static void
every_row(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        uint64_t is = health_next(word(r->state, r->streak, r->n_rested, r->until), r->event,
                                  &rules, 100000);
        uint64_t wanted = word(r->state_after, r->streak_after, r->n_rested_after, r->until_after);

        if (is != wanted)
            fail_msg("row %zu: %llx instead of %llx", i, (unsigned long long)is,
                     (unsigned long long)wanted);
    }
}

/* What the operator said stays whatever happens, and a word is what it was made of. */
static void
the_operators_word_stays(void **state)
{
    int event, admin, health;

    (void)state;
    for (health = UP; health <= DOWN; health++)
        for (admin = SL_ADMIN_NONE; admin <= SL_ADMIN_ON; admin++)
            for (event = 0; event < HEALTH_EVENTS; event++) {
                struct word w = {(enum sl_health)health, (enum sl_admin)admin, 200, 17,
                                 INT64_C(1) << 45};
                uint64_t after;

                assert_int_equal(SL_HEALTH_STATE(word_close(&w)), health);
                assert_int_equal(health_streak(word_close(&w)), 200);
                assert_int_equal(health_n_rested(word_close(&w)), 17);
                assert_int_equal(SL_HEALTH_UNTIL(word_close(&w)), INT64_C(1) << 45);
                after = health_next(word_close(&w), (enum health_event)event, &rules, 7);
                assert_int_equal(SL_HEALTH_ADMIN(after), admin);
            }
}

/* No sequence of events makes a server one that nothing brings back. */
static void
nothing_is_for_ever(void **state)
{
    uint64_t w = 0, random = 88172645463325252u;
    int64_t now_ms = 1000;
    int i, k;

    (void)state;
    for (i = 0; i < 20000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        now_ms += (int64_t)(random % 700);
        w = health_next(w, (enum health_event)(random >> 20) % HEALTH_EVENTS, &rules, now_ms);
        if (i % 100 == 0) {
            uint64_t back = w;
            int64_t later = now_ms;

            for (k = 0; k < 3; k++)
                back = health_next(back, HEALTH_CHECK_OK, &rules, later += PROBE_MS + 1);
            assert_int_equal(SL_HEALTH_STATE(back), UP);
        }
    }
}

/* ---- the window ---- */

static void
the_window_slides(void **state)
{
    _Atomic(uint64_t) parts[SL_WINDOW_PARTS] = {0};
    struct window_sum sum;
    int64_t t;

    (void)state;
    for (t = 1000000; t < 1000800; t++) /* eight parts of 100 ms, every second one fails */
        window_count(parts, 100, t, t % 2 == 0);
    sum = window_sum(parts, 100, 1000799);
    assert_int_equal(sum.n, 800);
    assert_int_equal(sum.n_failed, 400);
    sum = window_sum(parts, 100, 1001299); /* five parts have gone */
    assert_int_equal(sum.n, 300);
    sum = window_sum(parts, 100, 1001600);
    assert_int_equal(sum.n, 0);
    window_count(parts, 100, 1002000, 1); /* takes over what a part held long ago */
    sum = window_sum(parts, 100, 1002000);
    assert_int_equal(sum.n, 1);
    assert_int_equal(sum.n_failed, 1);
    window_clear(parts);
    assert_int_equal(window_sum(parts, 100, 1002000).n, 0);
}

static void
a_full_part_does_not_spill(void **state)
{
    _Atomic(uint64_t) parts[SL_WINDOW_PARTS] = {0};
    unsigned i;

    (void)state;
    for (i = 0; i < (1u << 20) + 10; i++)
        window_count(parts, 100, 5000, 1);
    assert_int_equal(window_sum(parts, 100, 5000).n, (1u << 20) - 1);
    assert_int_equal(window_sum(parts, 100, 5000).n_failed, (1u << 20) - 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),           cmocka_unit_test(the_operators_word_stays),
        cmocka_unit_test(nothing_is_for_ever), cmocka_unit_test(the_window_slides),
        cmocka_unit_test(a_full_part_does_not_spill),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
