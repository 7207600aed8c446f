/* Seats: see seats.h.  All but the reading of records is thread 0's. */
#include "upstream/seats.h"

#include "runtime/clock.h"

#include "sluice/log.h"
#include "sluice/loop.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>

#define FOLLOW_MS 1000
#define REST_MS 2000 /* nobody who picked the one before still has to count himself */
#define WEIGHT_MAX 256
#define LEVELS_MOST 50 /* of priorities of SRV records: those above are one */

static int leads = 1;

void
seats_lead(int does)
{
    leads = does;
}

int
seats_leads(void)
{
    return leads;
}

/* ---- records ---- */

static uint64_t
words_sum(const uint64_t *words)
{
    uint64_t h = UINT64_C(14695981039346656037);
    size_t i;

    for (i = 0; i < SEAT_WORDS; i++)
        h = (h ^ words[i]) * UINT64_C(1099511628211);
    return h;
}

int
seat_read(const struct seat_record *r, struct seat *seat)
{
    uint64_t version = atomic_load_explicit(&r->version, memory_order_acquire), sum;
    uint64_t words[SEAT_WORDS];
    size_t i;

    if (version == 0 || version % 2 == 1)
        return 0;
    for (i = 0; i < SEAT_WORDS; i++)
        words[i] = atomic_load_explicit(&r->words[i], memory_order_acquire);
    sum = atomic_load_explicit(&r->sum, memory_order_acquire);
    if (sum != words_sum(words)
        || atomic_load_explicit(&r->version, memory_order_acquire) != version)
        return 0;
    memcpy(seat, words, sizeof *seat);
    return 1;
}

/* One whose writer was killed is odd: the next one goes on from there. */
void
seat_write(struct seat_record *r, const struct seat *seat)
{
    uint64_t version = atomic_load_explicit(&r->version, memory_order_relaxed) | 1;
    uint64_t words[SEAT_WORDS];
    size_t i;

    memcpy(words, seat, sizeof words);
    atomic_store_explicit(&r->version, version, memory_order_release);
    for (i = 0; i < SEAT_WORDS; i++)
        atomic_store_explicit(&r->words[i], words[i], memory_order_release);
    atomic_store_explicit(&r->sum, words_sum(words), memory_order_release);
    atomic_store_explicit(&r->version, version + 1, memory_order_release);
}

/* ---- what stands in a record holds ---- */

static struct address_set *
set_of_seat(const struct seat *seat)
{
    size_t n_name = strlen(seat->name) + 1, n_address = strlen(seat->address) + 1;
    struct address_parts parts;
    struct address_set *set;
    char *text;

    if (address_parse(seat->address, 0, &parts) != NULL || parts.is_name)
        return NULL;
    set = calloc(1, sizeof *set + sizeof set->at[0] + n_name + n_address);
    if (set == NULL)
        return NULL;
    set->n = 1;
    set->at[0] = parts.address;
    text = (char *)&set->at[1];
    set->name = memcpy(text, seat->name, n_name);
    set->address = memcpy(text + n_name, seat->address, n_address);
    return set;
}

/* 0, or -1: no memory, or an address that this version does not know. */
static int
seat_name(struct upstream_server *s, const struct seat *seat)
{
    struct address_set *now = atomic_load_explicit(&s->addresses, memory_order_relaxed), *set;

    if (now != NULL && strcmp(now->name, seat->name) == 0
        && strcmp(now->address, seat->address) == 0)
        return 0;
    set = set_of_seat(seat);
    if (set == NULL)
        return -1;
    set_replace(s, set);
    s->pub.name = set->name;
    if (s->line->target == NULL)
        s->pub.address = set->address;
    return 0;
}

static void
seat_weigh(struct upstream_server *s, const struct seat *seat)
{
    const struct seat_line *line = s->line;
    unsigned said = atomic_load_explicit(&s->pub.state->weight, memory_order_relaxed);

    s->pub.configured_weight = seat->weight > 0 ? seat->weight : line->weight;
    s->pub.weight = said > 0 ? said : s->pub.configured_weight;
    s->pub.level = line->level + seat->level;
    if (line->target != NULL)
        return;
    s->pub.maxconn = seat->maxconn;
    s->pub.slowstart_ms = seat->slowstart_ms;
}

/* 1: something has changed. */
static int
seat_adopt(struct upstream_server *s)
{
    uint64_t version = atomic_load_explicit(&s->record->version, memory_order_acquire);
    unsigned flags = s->pub.flags & (unsigned)~SL_SERVER_GONE;
    struct seat seat;

    if (version == s->seen || !seat_read(s->record, &seat))
        return 0;
    s->seen = version;
    if (seat.state == SEAT_FREE || seat_name(s, &seat) != 0) {
        s->pub.flags = flags | SL_SERVER_GONE;
        return 1;
    }
    seat_weigh(s, &seat);
    if (s->line->target == NULL)
        flags = (flags & (unsigned)~(SL_SERVER_BACKUP | SL_SERVER_DRAIN)) | seat.flags;
    s->pub.flags = flags | (seat.state == SEAT_TAKEN ? 0 : SL_SERVER_GONE);
    return 1;
}

static void
pool_changed(struct sl_pool *pool)
{
    if (pool->owner != NULL && pool->owner->changed != NULL)
        pool->owner->changed(pool);
}

/* ---- at the start ---- */

void
seat_key(const struct upstream_server *s, char *to, size_t n)
{
    const struct seat_line *line = s->line;

    snprintf(to, n, "%s%s%s#%u", line->name != NULL ? line->name : "",
             line->name != NULL && line->target != NULL ? "=" : "",
             line->target != NULL ? line->target : "", s->pub.index - line->first);
}

void
seat_open(struct upstream_server *s, struct seat_record *record)
{
    struct seat_line *line = s->line;

    if (s->pub.index == line->first) {
        line->level = s->pub.level;
        line->weight = s->pub.configured_weight;
    }
    if (record != NULL)
        s->record = record;
    s->pub.flags |= SL_SERVER_GONE;
    seat_adopt(s);
}

/* ---- keeping up ---- */

static struct sl_timer follow_timer;

static int
pool_follow(struct sl_pool *pool)
{
    unsigned i, n_changed = 0, n_seats = 0;

    for (i = 0; i < pool->n_servers; i++)
        if (upstream_server(pool->servers[i])->line != NULL) {
            n_seats++;
            n_changed += (unsigned)seat_adopt(upstream_server(pool->servers[i]));
        }
    if (n_changed > 0)
        pool_changed(pool);
    return n_seats > 0;
}

static void
follow_due(struct sl_loop *loop, struct sl_timer *timer)
{
    struct upstream_pool *p;
    int any = 0;

    for (p = pools_first(); p != NULL; p = p->next)
        any |= pool_follow(&p->pool);
    if (any)
        sl_timer_set(loop, timer, sl_loop_now(loop) + FOLLOW_MS);
}

void
seats_follow(struct sl_loop *loop)
{
    follow_timer.fn = follow_due;
    follow_timer.due = INT64_MAX;
    follow_due(loop, &follow_timer);
}

/* ---- taking a seat, and leaving it ---- */

static struct upstream_server *
seat_at(const struct upstream_server *first, unsigned i)
{
    return upstream_server(first->pub.pool->servers[first->line->first + i]);
}

static void
seat_now(const struct upstream_server *s, struct seat *seat)
{
    if (!seat_read(s->record, seat))
        memset(seat, 0, sizeof *seat);
}

/* Whether nobody has it: who left it has nothing in flight, and nobody is about to have. */
static int
seat_is_free(const struct upstream_server *s, const struct seat *seat, int64_t now_ms)
{
    if (seat->state == SEAT_LEFT)
        return now_ms - seat->left_at >= REST_MS && sl_server_active(&s->pub) == 0;
    return seat->state == SEAT_FREE;
}

/* The seat `address` had last; else one that nobody had, else the one that was left first.  -1:
 * all are taken. */
static int
seat_for(const struct upstream_server *first, const struct seat *seats, const char *name,
         const char *address, int64_t now_ms)
{
    int best = -1;
    unsigned i;

    for (i = 0; i < first->line->n; i++) {
        if (seats[i].state == SEAT_LEFT && strcmp(seats[i].address, address) == 0
            && strcmp(seats[i].name, name) == 0)
            return (int)i;
        if (seat_is_free(seat_at(first, i), &seats[i], now_ms)
            && (best < 0 || seats[i].left_at < seats[best].left_at))
            best = (int)i;
    }
    return best;
}

static int64_t
wall_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* A server of another address begins anew, and so does one that the operator adds, whoever sat there
 * before; one that a name leads to again is warmed up. */
static void
seat_give(struct upstream_server *s, const struct seat *seat)
{
    if (s->line->target == NULL)
        s->pub.slowstart_ms = seat->slowstart_ms;
    server_state_begin(&s->pub, seat->address, s->line->target == NULL);
    seat_write(s->record, seat);
    seat_adopt(s);
    sl_server_note(&s->pub, wall_us(), "joined");
    sl_log(SL_NOTICE, "SL0523", "pool %s: server %s joins", s->pub.pool->name, s->pub.name);
}

static void
seat_leave(struct upstream_server *s, struct seat *seat)
{
    seat->state = SEAT_LEFT;
    seat->left_at = monotonic_ms();
    seat_write(s->record, seat);
    seat_adopt(s);
    sl_server_note(&s->pub, wall_us(), "left");
    sl_log(SL_NOTICE, "SL0524", "pool %s: server %s leaves; %u requests in flight end there",
           s->pub.pool->name, s->pub.name, sl_server_active(&s->pub));
}

/* ---- what a name leads to ---- */

/* One who shall sit. */
struct guest {
    char address[ADDRESS_TEXT_MAX];
    uint32_t weight, level;
    unsigned priority;
    int is_seated;
};

/* Of two records for one address the one that counts comes first: the lowest priority, then the
 * greater weight. */
static int
guest_compare(const void *a, const void *b)
{
    const struct guest *x = a, *y = b;
    int by_address = strcmp(x->address, y->address);

    if (by_address != 0)
        return by_address;
    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    return (x->weight < y->weight) - (x->weight > y->weight);
}

static int
guest_compare_priority(const void *a, const void *b)
{
    const struct guest *x = a, *y = b;

    return x->priority != y->priority ? (x->priority < y->priority ? -1 : 1) : guest_compare(a, b);
}

/* Priorities become levels by their rank (RFC 2782: the lowest first). */
static void
guests_level(struct guest *g, unsigned n)
{
    unsigned i;

    qsort(g, n, sizeof *g, guest_compare_priority);
    for (i = 1; i < n; i++)
        g[i].level = g[i - 1].level
                     + (g[i].priority != g[i - 1].priority && g[i - 1].level < LEVELS_MOST);
    qsort(g, n, sizeof *g, guest_compare);
}

/* Weights up to 256 as they are; larger ones are scaled down, and 0 is the least (RFC 2782). */
static void
guests_weigh(struct guest *g, unsigned n)
{
    unsigned i, most = WEIGHT_MAX;

    for (i = 0; i < n; i++)
        most = g[i].weight > most ? g[i].weight : most;
    for (i = 0; i < n; i++) {
        g[i].weight = g[i].weight * WEIGHT_MAX / most;
        g[i].weight += g[i].weight == 0;
    }
}

/* In an order of their own: whatever the order of records, equal names have equal seats. */
static unsigned
guests_make(const struct seat_line *line, const struct sl_answer *answer, struct guest *g)
{
    struct upstream_address a;
    unsigned i, n = 0;

    for (i = 0; i < answer->n; i++) {
        a.family = answer->found[i].at.u.sa.sa_family;
        a.addr = answer->found[i].at;
        g[i] = (struct guest){.weight = answer->found[i].weight,
                              .priority = answer->found[i].priority};
        address_text(&a, g[i].address);
    }
    qsort(g, answer->n, sizeof *g, guest_compare);
    for (i = 0; i < answer->n; i++)
        if (n == 0 || strcmp(g[n - 1].address, g[i].address) != 0)
            g[n++] = g[i];
    if (!line->is_service)
        return n;
    guests_level(g, n);
    guests_weigh(g, n);
    return n;
}

static struct guest *
guest_of_seat(struct guest *g, unsigned n, const struct seat *seat)
{
    unsigned i;

    for (i = 0; seat->state != SEAT_FREE && i < n; i++)
        if (!g[i].is_seated && strcmp(g[i].address, seat->address) == 0)
            return &g[i];
    return NULL;
}

static void
guest_names(const struct seat_line *line, const struct guest *g, char *name)
{
    snprintf(name, SEAT_NAME, "%s%s%s", line->name != NULL ? line->name : "",
             line->name != NULL ? "@" : "", g->address);
}

/* Those who sit and stay, maybe with another weight, and those who leave. */
static unsigned
seats_settle(const struct upstream_server *first, struct seat *seats, struct guest *guests,
             unsigned n)
{
    unsigned i, n_changed = 0;

    for (i = 0; i < first->line->n; i++) {
        struct upstream_server *s = seat_at(first, i);
        struct guest *g = seats[i].state == SEAT_TAKEN ? guest_of_seat(guests, n, &seats[i]) : NULL;

        if (g != NULL)
            g->is_seated = 1;
        if (seats[i].state != SEAT_TAKEN
            || (g != NULL && g->weight == seats[i].weight && g->level == seats[i].level))
            continue;
        n_changed++;
        if (g == NULL) {
            seat_leave(s, &seats[i]);
            continue;
        }
        seats[i].weight = g->weight;
        seats[i].level = g->level;
        seat_write(s->record, &seats[i]);
        seat_adopt(s);
    }
    return n_changed;
}

/* How many found no seat: *n_changed grows by those who did. */
static unsigned
seats_fill(const struct upstream_server *first, struct seat *seats, struct guest *guests,
           unsigned n, unsigned *n_changed)
{
    int64_t now_ms = monotonic_ms();
    unsigned i, n_without = 0;

    for (i = 0; i < n; i++) {
        struct seat seat = {.state = SEAT_TAKEN, .weight = guests[i].weight,
                            .level = guests[i].level};
        int at;

        if (guests[i].is_seated)
            continue;
        guest_names(first->line, &guests[i], seat.name);
        snprintf(seat.address, sizeof seat.address, "%.*s", SEAT_ADDRESS - 1, guests[i].address);
        at = seat_for(first, seats, seat.name, seat.address, now_ms);
        if (at < 0) {
            n_without++;
            continue;
        }
        seats[at] = seat;
        seat_give(seat_at(first, (unsigned)at), &seat);
        ++*n_changed;
    }
    return n_without;
}

static void
tell_without(struct upstream_server *first, unsigned n_without, unsigned n)
{
    struct seat_line *line = first->line;

    if (n_without > line->n_without)
        sl_log(SL_WARN, "SL0525", "pool %s: %s leads to %u servers, and %u of them have no seat: "
               "write resolve=%u", first->pub.pool->name, line->target, n, n_without,
               n > line->n ? n : n + n_without);
    line->n_without = n_without;
    line->waits = n_without > 0 && n <= line->n;
}

void
seats_take(struct upstream_server *first, const struct sl_answer *answer)
{
    const struct seat_line *line = first->line;
    struct guest *guests = calloc(answer->n, sizeof *guests);
    struct seat *seats = calloc(line->n, sizeof *seats);
    unsigned i, n, n_changed;

    if (guests != NULL && seats != NULL) {
        n = guests_make(line, answer, guests);
        for (i = 0; i < line->n; i++)
            seat_now(seat_at(first, i), &seats[i]);
        n_changed = seats_settle(first, seats, guests, n);
        tell_without(first, seats_fill(first, seats, guests, n, &n_changed), n);
        if (n_changed > 0)
            pool_changed(first->pub.pool);
    }
    free(seats);
    free(guests);
}

unsigned
seats_n_taken(const struct upstream_server *first)
{
    unsigned i, n = 0;

    for (i = 0; i < first->line->n; i++)
        n += !sl_server_is_gone(&seat_at(first, i)->pub);
    return n;
}

/* ---- what the operator says ---- */

static struct upstream_server *
operators_first(const struct sl_pool *p)
{
    unsigned i;

    for (i = 0; i < p->n_servers; i++) {
        struct upstream_server *s = upstream_server(p->servers[i]);

        if (s->line != NULL && s->line->target == NULL)
            return s;
    }
    return NULL;
}

/* State files, commands and cookies have it as it is. */
static int
is_plain(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text >= 0x7f || strchr("\"\\'", *text) != NULL)
            return 0;
    return 1;
}

static const char *
member_check(apr_pool_t *pool, const struct sl_pool *p, const struct sl_member *m,
             const char *name)
{
    struct address_parts parts;
    const char *err = address_parse(m->address, 0, &parts);
    unsigned i;

    if (err != NULL)
        return err;
    if (parts.is_name)
        return apr_psprintf(pool, "%s is a name: expected an address; names belong in the "
                            "configuration, on a line \"Server %s resolve\"", m->address,
                            m->address);
    if (strlen(m->address) >= SEAT_ADDRESS || !is_plain(m->address))
        return "expected an address of at most 111 bytes of ASCII, without blanks and quotes";
    if (name[0] == '\0' || strlen(name) >= SEAT_NAME || strchr(name, '/') != NULL || !is_plain(name))
        return "expected a name of 1 to 95 bytes of ASCII, without blanks, quotes and '/'";
    for (i = 0; i < p->n_servers; i++)
        if (!sl_server_is_gone(p->servers[i]) && strcmp(p->servers[i]->name, name) == 0)
            return apr_psprintf(pool, "the pool has a server %s already", name);
    return NULL;
}

static const char *
seats_missing(apr_pool_t *pool, const struct sl_pool *p, const struct upstream_server *first)
{
    if (first == NULL)
        return apr_psprintf(pool, "pool %s has no seats for servers that are added: write \"Seats "
                            "N\" in its section, and reload", p->name);
    return apr_psprintf(pool, "all %u seats of pool %s are taken, or their servers have requests "
                        "in flight: remove one, or write \"Seats %u\" in its section and reload",
                        first->line->n, p->name, 2 * first->line->n);
}

struct sl_server *
sl_pool_seat(apr_pool_t *pool, struct sl_pool *p, const struct sl_member *m, const char **err)
{
    struct upstream_server *first = operators_first(p), *s;
    struct seat seat = {.state = SEAT_TAKEN, .weight = m->weight, .level = m->level,
                        .maxconn = m->maxconn, .slowstart_ms = m->slowstart_ms, .flags = m->flags};
    const char *name = m->name != NULL ? m->name : m->address;
    struct seat *seats;
    unsigned i;
    int at;

    *err = member_check(pool, p, m, name);
    if (*err == NULL && first == NULL)
        *err = seats_missing(pool, p, NULL);
    if (*err != NULL)
        return NULL;
    snprintf(seat.name, sizeof seat.name, "%s", name);
    snprintf(seat.address, sizeof seat.address, "%s", m->address);
    seats = apr_pcalloc(pool, first->line->n * sizeof *seats);
    for (i = 0; i < first->line->n; i++)
        seat_now(seat_at(first, i), &seats[i]);
    at = seat_for(first, seats, seat.name, seat.address, monotonic_ms());
    if (at < 0) {
        *err = seats_missing(pool, p, first);
        return NULL;
    }
    s = seat_at(first, (unsigned)at);
    seat_give(s, &seat);
    pool_changed(p);
    return &s->pub;
}

const char *
sl_pool_unseat(apr_pool_t *pool, struct sl_server *server)
{
    struct upstream_server *s = upstream_server(server);
    struct seat seat;

    if (s->line == NULL)
        return "it stands in the configuration: take its line away, and reload";
    if (s->line->target != NULL)
        return apr_psprintf(pool, "%s leads to it: drain keeps new requests away", s->line->target);
    seat_now(s, &seat);
    if (seat.state != SEAT_TAKEN)
        return "it has left already";
    seat_leave(s, &seat);
    pool_changed(server->pool);
    return NULL;
}
