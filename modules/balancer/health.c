#include "health.h"

#define N_RESTED_MAX 31
#define STREAK_MAX 255

/* The word taken apart. */
struct word {
    enum sl_health state;
    enum sl_admin admin;
    unsigned streak, n_rested;
    int64_t until;
};

static struct word
word_open(uint64_t w)
{
    return (struct word){SL_HEALTH_STATE(w), SL_HEALTH_ADMIN(w), health_streak(w),
                         health_n_rested(w), SL_HEALTH_UNTIL(w)};
}

static uint64_t
word_close(const struct word *w)
{
    return (uint64_t)w->state << 61 | (uint64_t)w->admin << 59 | (uint64_t)w->streak << 51
           | (uint64_t)w->n_rested << 46 | (uint64_t)w->until;
}

int64_t
health_rest_ms(unsigned n_rested)
{
    int64_t ms = n_rested < 4 ? (int64_t)REST_FIRST_MS << n_rested : REST_MAX_MS;

    return ms < REST_MAX_MS ? ms : REST_MAX_MS;
}

/* ---- what may happen; each tells the new state by changing the word ---- */

typedef void act_f(struct word *w, const struct health_rules *rules, int64_t now_ms);

/* until: since when. */
static void
act_well(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    (void)rules;
    w->state = SL_HEALTH_UP;
    w->streak = 0;
    w->until = now_ms;
}

static void
act_rest(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    (void)rules;
    if (w->state == SL_HEALTH_UP && now_ms - w->until >= WELL_AFTER_MS)
        w->n_rested = 0;
    w->state = SL_HEALTH_RESTING;
    w->until = now_ms + health_rest_ms(w->n_rested);
    if (w->n_rested < N_RESTED_MAX)
        w->n_rested++;
}

static void
act_probe(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    (void)rules;
    if (w->until > now_ms)
        return;
    w->state = SL_HEALTH_PROBED;
    w->until = now_ms + PROBE_MS;
}

static void
act_reached(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    (void)rules;
    w->until = now_ms;
}

static void
act_lost(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    (void)rules;
    w->state = SL_HEALTH_RESTING;
    w->until = now_ms;
}

static void
act_check_failed(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    if (w->streak < STREAK_MAX)
        w->streak++;
    if (w->streak < rules->fall)
        return;
    w->state = SL_HEALTH_DOWN;
    w->streak = 0;
    w->until = now_ms;
}

static void
act_check_ok(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    (void)rules;
    (void)now_ms;
    w->streak = 0;
}

/* As good as a probe. */
static void
act_check_ok_at_rest(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    w->streak = 0;
    if (w->until <= now_ms)
        act_well(w, rules, now_ms);
}

static void
act_rise(struct word *w, const struct health_rules *rules, int64_t now_ms)
{
    if (w->streak < STREAK_MAX)
        w->streak++;
    if (w->streak >= rules->rise)
        act_well(w, rules, now_ms);
}

/* Outcomes of requests that were sent before belong to what was known then: they have no row. */
static act_f *const acts[][HEALTH_EVENTS] = {
    [SL_HEALTH_UP] = {[HEALTH_EJECTED] = act_rest,
                      [HEALTH_CHECK_OK] = act_check_ok,
                      [HEALTH_CHECK_FAILED] = act_check_failed,
                      [HEALTH_UNCHECKED] = act_check_ok},
    [SL_HEALTH_RESTING] = {[HEALTH_PROBE_BEGINS] = act_probe,
                           [HEALTH_CHECK_OK] = act_check_ok_at_rest,
                           [HEALTH_CHECK_FAILED] = act_check_failed,
                           [HEALTH_UNCHECKED] = act_check_ok},
    [SL_HEALTH_PROBED] = {[HEALTH_PROBE_BEGINS] = act_probe,
                          [HEALTH_PROBE_REACHED] = act_reached,
                          [HEALTH_PROBE_OK] = act_well,
                          [HEALTH_PROBE_FAILED] = act_rest,
                          [HEALTH_PROBE_LOST] = act_lost,
                          [HEALTH_CHECK_OK] = act_check_ok_at_rest,
                          [HEALTH_CHECK_FAILED] = act_check_failed,
                          [HEALTH_UNCHECKED] = act_check_ok},
    [SL_HEALTH_DOWN] = {[HEALTH_CHECK_OK] = act_rise,
                        [HEALTH_CHECK_FAILED] = act_check_ok,
                        [HEALTH_UNCHECKED] = act_well},
};

uint64_t
health_next(uint64_t word, enum health_event event, const struct health_rules *rules,
            int64_t now_ms)
{
    struct word w = word_open(word);
    act_f *act = acts[w.state][event];

    if (act == NULL)
        return word;
    act(&w, rules, now_ms);
    return word_close(&w);
}
