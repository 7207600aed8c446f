/* The timer wheel against a naive model: never early, at most a tick late, whatever is set,
 * stopped and unlinked in between and however long the loop slept. */
#include "unit.h"

#include "../../server/event/timer.c"

#define N 200

static struct sl_loop loop;
static struct sl_timer timers[N];
static int64_t due[N]; /* the model; INT64_MAX: not set */
static unsigned n_fired;

static void
fired(struct sl_loop *l, struct sl_timer *t)
{
    size_t i = (size_t)(t - timers);

    assert_true(due[i] <= l->now_ms);
    due[i] = INT64_MAX;
    n_fired++;
    if (rand() % 4 == 0) { /* set another from within */
        size_t k = (size_t)rand() % N;

        due[k] = l->now_ms + rand() % 5000;
        sl_timer_set(l, &timers[k], due[k]);
    }
    if (rand() % 8 == 0) {
        size_t k = (size_t)rand() % N;

        due[k] = INT64_MAX;
        sl_timer_unlink(&timers[k]);
    }
}

static void
check_none_is_late(void)
{
    size_t i;

    for (i = 0; i < N; i++)
        assert_true(due[i] == INT64_MAX || due[i] > loop.now_ms - 2 * TIMER_TICK_MS);
}

static void
advance(int64_t ms)
{
    loop.now_ms += ms;
    timers_run(&loop);
    check_none_is_late();
}

static void
as_the_model_says(void **state)
{
    unsigned step;

    (void)state;
    srand(7);
    memset(&loop, 0, sizeof loop);
    loop.now_ms = loop.wheel_ms = TIMER_TICK_MS * 1000;
    for (step = 0; step < N; step++) {
        timers[step].fn = fired;
        timers[step].due = due[step] = INT64_MAX;
    }
    for (step = 0; step < 200000; step++) {
        size_t k = (size_t)rand() % N;

        switch (rand() % 5) {
        case 0:
        case 1:
            due[k] = loop.now_ms + (rand() % 20 == 0 ? rand() % 1000000 : rand() % 3000);
            sl_timer_set(&loop, &timers[k], due[k]);
            break;
        case 2:
            due[k] = INT64_MAX;
            sl_timer_stop(&timers[k]);
            break;
        case 3:
            due[k] = INT64_MAX;
            sl_timer_unlink(&timers[k]);
            break;
        default:
            advance(rand() % 500 == 0 ? rand() % 400000 : rand() % 200);
        }
    }
    assert_true(n_fired > 1000);
}

static void
the_wait_is_never_too_long(void **state)
{
    struct sl_timer t = {.fn = fired, .due = INT64_MAX};
    int64_t left;

    (void)state;
    memset(&loop, 0, sizeof loop);
    loop.now_ms = loop.wheel_ms = TIMER_TICK_MS * 50;
    assert_int_equal(timers_wait_ms(&loop), -1);
    for (left = 1; left < 10000; left += 37) {
        sl_timer_set(&loop, &t, loop.now_ms + left);
        assert_in_range(timers_wait_ms(&loop), 0, (unsigned long)(left + TIMER_TICK_MS));
        sl_timer_unlink(&t);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_model_says),
                                       cmocka_unit_test(the_wait_is_never_too_long)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
