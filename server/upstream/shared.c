/* The zone "servers": how servers fare, shared by all generations, and how many attempts each
 * process has in flight at them, in its slot.
 *
 * A server is the same one by the names of its pool and its own; it has one number in all
 * processes (runtime/zone_index.h), so servers of one pool, made in one go, stand side by side:
 * the counts of sixteen in a line of the cache.  Under another address the same server is given
 * a new chance: failures are forgotten.
 *
 * Events are written by many and read by anybody, without a lock: all bytes are atomics, and a
 * number tells whether what was read is one event. */
#include "upstream/shared.h"

#include "runtime/clock.h"
#include "runtime/zone_index.h"
#include "upstream/seats.h"

#include "sluice/log.h"
#include "sluice/loop.h"

#include <stdio.h>
#include <stdlib.h>

#define SERVERS_ZONE "servers"
#define SERVERS_LAYOUT 3
#define SERVERS_MAX 8192
#define EVENTS_KEPT 16
#define EVENT_WORDS (SL_EVENT_TEXT / 8)

/* number: of the event, from 1; 0 while it is written. */
struct event {
    atomic_uint number;
    _Atomic(int64_t) at_us;
    _Atomic(uint64_t) text[EVENT_WORDS];
};

_Static_assert(SL_EVENT_TEXT % 8 == 0, "texts are written word by word");

struct servers_zone {
    INDEX_TABLE(SERVERS_MAX) names;
    struct sl_server_state states[SERVERS_MAX];
    struct event events[SERVERS_MAX][EVENTS_KEPT];
    struct seat_record seats[SERVERS_MAX];
};

struct servers_slot {
    atomic_uint n_active[SERVERS_MAX];
    _Atomic(unsigned char) holds[SERVERS_MAX];
};

static const struct sl_slots *slots;
static int zone_is_fresh; /* no process has been ready with it */

static void
state_reset(struct sl_server_state *state, unsigned address)
{
    unsigned i;

    atomic_store_explicit(&state->health, 0, memory_order_relaxed);
    atomic_store_explicit(&state->warm_since, 0, memory_order_relaxed);
    atomic_store_explicit(&state->response, 0, memory_order_relaxed);
    atomic_store_explicit(&state->n_failed, 0, memory_order_relaxed);
    atomic_store_explicit(&state->weight, 0, memory_order_relaxed);
    atomic_store_explicit(&state->base, 0, memory_order_relaxed);
    atomic_store_explicit(&state->n_events, 0, memory_order_relaxed);
    for (i = 0; i < SL_WINDOW_PARTS; i++)
        atomic_store_explicit(&state->window[i], 0, memory_order_relaxed);
    atomic_store_explicit(&state->address, address, memory_order_relaxed);
}

static void
state_clear(void *data, unsigned number)
{
    static const struct seat nobody;
    struct servers_zone *z = data;

    state_reset(&z->states[number], 0);
    if (atomic_load_explicit(&z->seats[number].version, memory_order_relaxed) != 0)
        seat_write(&z->seats[number], &nobody);
}

/* Not 0, which says that nothing has been said yet. */
static unsigned
address_mark(const char *address)
{
    unsigned h = 2166136261u;

    for (; *address != '\0'; address++)
        h = (h ^ (unsigned char)*address) * 16777619u;
    return h | 1;
}

static void
state_warm(struct sl_server *s)
{
    if (s->slowstart_ms > 0)
        atomic_store_explicit(&s->state->warm_since, monotonic_ms(), memory_order_relaxed);
}

/* One that others never had: it is given time to warm up, unless all are new. */
static void
address_take(struct sl_server *s)
{
    unsigned address = address_mark(s->address);

    if (atomic_load_explicit(&s->state->address, memory_order_relaxed) == address)
        return;
    state_reset(s->state, address);
    if (!zone_is_fresh)
        state_warm(s);
}

void
server_state_begin(struct sl_server *s, const char *address, int is_new)
{
    if (is_new || atomic_load_explicit(&s->state->address, memory_order_relaxed) != address_mark(address))
        state_reset(s->state, address_mark(address));
    if (!zone_is_fresh || sl_loop_self() != NULL)
        state_warm(s);
}

/* 0, or -1: there is no place for it. */
static int
server_share(const struct zone_index *ix, const char *pool_name, struct sl_server *s)
{
    struct servers_zone *z = ix->slots->shared;
    struct servers_slot *mine = sl_slot(ix->slots, ix->slots->mine);
    struct upstream_server *u = upstream_server(s);
    char seat[SEAT_KEY], *name;
    int i;

    if (u->line != NULL)
        seat_key(u, seat, sizeof seat);
    if (asprintf(&name, "%s/%s", pool_name, u->line != NULL ? seat : s->name) < 0)
        return -1;
    i = index_claim(ix, name);
    free(name);
    if (i < 0)
        return -1;
    s->n_active = &mine->n_active[i];
    s->state = &z->states[i];
    u->number = (unsigned)i;
    if (u->line != NULL)
        seat_open(u, &z->seats[i]);
    return 0;
}

void
servers_share(void)
{
    struct upstream_pool *p;
    struct zone_index ix;
    unsigned n_without = 0, i;

    slots = sl_zone_slots(SERVERS_ZONE, SERVERS_LAYOUT, sizeof(struct servers_zone),
                          sizeof(struct servers_slot), &zone_is_fresh);
    if (slots == NULL)
        return;
    ix = INDEX_OF(SERVERS_ZONE, slots, &((struct servers_zone *)slots->shared)->names,
                  offsetof(struct servers_slot, holds), SERVERS_MAX, state_clear, slots->shared);
    for (p = pools_first(); p != NULL; p = p->next)
        for (i = 0; i < p->pool.n_servers; i++)
            n_without += server_share(&ix, p->direct_key != NULL ? p->direct_key : p->pool.name,
                                      p->pool.servers[i]) != 0;
    if (n_without > 0)
        sl_log(SL_WARN, "SL0531", "no room in the zone " SERVERS_ZONE " for %u servers: each "
               "generation has counts of its own for them", n_without);
}

void
servers_take_over(void)
{
    struct upstream_pool *p;
    unsigned i;

    for (p = pools_first(); p != NULL; p = p->next)
        for (i = 0; i < p->pool.n_servers; i++) {
            struct upstream_server *u = upstream_server(p->pool.servers[i]);

            if (u->line == NULL && u->pub.state != &u->own_state) /* seats: server_state_begin() */
                address_take(&u->pub);
        }
}

unsigned
sl_server_active_elsewhere(const struct sl_server *s)
{
    uint64_t places = sl_places_others();
    unsigned n = 0;
    size_t at;

    if (slots == NULL || s->n_active == &((const struct upstream_server *)s)->own_active)
        return 0;
    at = (size_t)((char *)s->n_active - (char *)sl_slot(slots, slots->mine));
    for (; places != 0; places &= places - 1) {
        const char *other = sl_slot(slots, (unsigned)__builtin_ctzll(places));

        n += atomic_load_explicit((const atomic_uint *)(const void *)(other + at),
                                  memory_order_relaxed);
    }
    return n;
}

unsigned
sl_server_active(const struct sl_server *s)
{
    unsigned n = atomic_load_explicit(s->n_active, memory_order_relaxed);

    return sl_places_others() == 0 ? n : n + sl_server_active_elsewhere(s);
}

int
sl_server_take(struct sl_server *s)
{
    unsigned n = atomic_fetch_add_explicit(s->n_active, 1, memory_order_seq_cst) + 1, most;

    most = atomic_load_explicit(&s->maxconn, memory_order_relaxed);
    if (most == 0)
        return 1;
    if (sl_places_others() != 0)
        n += sl_server_active_elsewhere(s);
    if (n <= most)
        return 1;
    atomic_fetch_sub_explicit(s->n_active, 1, memory_order_seq_cst);
    return 0;
}

/* ---- what happened ---- */

/* NULL: the server has no place in the zone, and no history. */
static struct event *
events_of(const struct sl_server *s)
{
    const struct upstream_server *u = (const struct upstream_server *)s;
    struct servers_zone *z = slots != NULL ? slots->shared : NULL;

    return z != NULL && s->state != &u->own_state ? z->events[u->number] : NULL;
}

void
sl_server_note(struct sl_server *s, int64_t at_us, const char *text)
{
    struct event *events = events_of(s), *e;
    uint64_t words[EVENT_WORDS] = {0};
    unsigned i, number;

    if (events == NULL)
        return;
    number = atomic_fetch_add_explicit(&s->state->n_events, 1, memory_order_relaxed) + 1;
    e = &events[number % EVENTS_KEPT];
    snprintf((char *)words, sizeof words, "%s", text);
    atomic_store_explicit(&e->number, 0, memory_order_release);
    atomic_store_explicit(&e->at_us, at_us, memory_order_release);
    for (i = 0; i < EVENT_WORDS; i++)
        atomic_store_explicit(&e->text[i], words[i], memory_order_release);
    atomic_store_explicit(&e->number, number, memory_order_release);
}

int
sl_server_event(const struct sl_server *s, unsigned i, struct sl_server_event *event)
{
    unsigned number = atomic_load_explicit(&s->state->n_events, memory_order_relaxed) - i, k;
    struct event *events = events_of(s), *e;
    uint64_t words[EVENT_WORDS];

    if (events == NULL || i >= EVENTS_KEPT || number == 0 || number > UINT32_MAX - EVENTS_KEPT)
        return 0;
    e = &events[number % EVENTS_KEPT];
    if (atomic_load_explicit(&e->number, memory_order_acquire) != number)
        return 0;
    event->at_us = atomic_load_explicit(&e->at_us, memory_order_acquire);
    for (k = 0; k < EVENT_WORDS; k++)
        words[k] = atomic_load_explicit(&e->text[k], memory_order_acquire);
    memcpy(event->text, words, sizeof words);
    event->text[SL_EVENT_TEXT - 1] = '\0';
    return atomic_load_explicit(&e->number, memory_order_acquire) == number;
}
