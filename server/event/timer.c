/* Timers: one wheel of slots, lazily re-armed.
 *
 * A timer is filed under the tick it is due in or an earlier one; setting it later is a store,
 * and when its slot comes it is filed anew.  Connections set theirs
 * twice a request, so this is the path that counts.
 *
 *   wheel_ms: the time the wheel has run to.  A time t is filed in the slot of its tick;
 *   what lies beyond the wheel is filed in the last slot and moved on when that comes. */
#include "event/loop.h"

static unsigned
slot_of(int64_t ms)
{
    return (unsigned)(ms / TIMER_TICK_MS) % TIMER_SLOTS;
}

static void
timer_file(struct sl_loop *loop, struct sl_timer *t)
{
    int64_t first = loop->wheel_ms + TIMER_TICK_MS;
    int64_t last = loop->wheel_ms + (int64_t)(TIMER_SLOTS - 1) * TIMER_TICK_MS;
    int64_t at = t->due < first ? first : t->due > last ? last : t->due + TIMER_TICK_MS - 1;
    unsigned slot;

    if (at > last)
        at = last;
    slot = slot_of(at);
    t->filed = at - at % TIMER_TICK_MS;
    t->next = loop->wheel[slot];
    t->prev = &loop->wheel[slot];
    if (t->next != NULL)
        t->next->prev = &t->next;
    loop->wheel[slot] = t;
    loop->wheel_used[slot / 64] |= (uint64_t)1 << slot % 64;
}

void
sl_timer_unlink(struct sl_timer *t)
{
    if (t->prev == NULL)
        return;
    *t->prev = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    t->prev = NULL;
    t->next = NULL;
}

void
sl_timer_set(struct sl_loop *loop, struct sl_timer *t, int64_t due_ms)
{
    t->due = due_ms;
    if (due_ms == INT64_MAX || (t->prev != NULL && t->filed - TIMER_TICK_MS < due_ms))
        return;
    sl_timer_unlink(t);
    timer_file(loop, t);
}

void
sl_timer_stop(struct sl_timer *t)
{
    t->due = INT64_MAX;
}

/* One slot's timers: fired, filed anew, or let go.  The list is taken off the wheel first,
 * and each timer off the list, so that fn may set and unlink whatever it likes. */
static void
timer_run_slot(struct sl_loop *loop, unsigned slot)
{
    struct sl_timer *list = loop->wheel[slot];

    loop->wheel[slot] = NULL;
    loop->wheel_used[slot / 64] &= ~((uint64_t)1 << slot % 64);
    if (list != NULL)
        list->prev = &list;
    while (list != NULL) {
        struct sl_timer *t = list;

        sl_timer_unlink(t);
        if (t->due == INT64_MAX)
            continue;
        if (t->due > loop->now_ms)
            timer_file(loop, t);
        else {
            t->due = INT64_MAX;
            t->fn(loop, t);
        }
    }
}

/* Slots of all ticks that have passed; after a long sleep each slot once. */
void
timers_run(struct sl_loop *loop)
{
    int64_t now = loop->now_ms - loop->now_ms % TIMER_TICK_MS;
    int64_t n = (now - loop->wheel_ms) / TIMER_TICK_MS, i;
    int64_t from = loop->wheel_ms;

    if (n <= 0)
        return;
    if (n > TIMER_SLOTS)
        n = TIMER_SLOTS;
    loop->wheel_ms = now;
    for (i = 1; i <= n; i++) {
        unsigned slot = slot_of(from + i * TIMER_TICK_MS);

        if (loop->wheel_used[slot / 64] >> slot % 64 & 1)
            timer_run_slot(loop, slot);
    }
}

/* To the first slot in use, going round the wheel from the present. */
int
timers_wait_ms(const struct sl_loop *loop)
{
    unsigned begin = slot_of(loop->wheel_ms) + 1, i;

    for (i = 0; i < TIMER_SLOTS;) {
        unsigned slot = (begin + i) % TIMER_SLOTS;
        uint64_t word = loop->wheel_used[slot / 64] >> slot % 64;

        if (word != 0) {
            int64_t at = loop->wheel_ms +
                         (int64_t)(i + 1 + (unsigned)__builtin_ctzll(word)) * TIMER_TICK_MS;

            return at > loop->now_ms ? (int)(at - loop->now_ms) : 0;
        }
        i += 64 - slot % 64;
    }
    return -1;
}
