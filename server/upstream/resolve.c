/* Names of servers: who is asked, when again, and what becomes of the answers.
 *
 * Readers see the old set of addresses or the new one.  A set that was replaced is freed ten
 * minutes later, so a reader needs no more than to be done with it by then.  All of this is thread
 * 0's, or the main thread's before loops run; only getaddrinfo, where it is asked, blocks an
 * offload thread. */

#include "upstream/seats.h"
#include "upstream/system_names.h"

#include "runtime/clock.h"

#include "sluice/log.h"
#include "sluice/loop.h"
#include "sluice/provider.h"

#include <stdlib.h>

#define SYSTEM_GOOD_MS 30000 /* getaddrinfo does not tell how long */
#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS 30000
#define RETIRED_KEEP_MS 600000
#define SEATS_AGAIN_MS 3000 /* longer than a seat rests */

/* Of a server whose host is a name, or of seats: the first of them has it. */
struct lookup {
    struct sl_lookup asked; /* first */
    struct sl_offload job;  /* where getaddrinfo is asked */
    struct found_list *found;
    const char *why;
    struct sl_timer timer; /* thread 0's */
    struct upstream_server *server;
    int is_open;       /* asked, and not answered yet */
    unsigned n_failed; /* in a row */
    unsigned n_partial; /* in a row */
};

static const struct sl_resolver *
resolver_find(void)
{
    const char *name = sl_provider_name("resolver", 0);

    return name != NULL ? sl_provider_find("resolver", name) : NULL;
}

/* ---- sets of addresses ---- */

static struct address_set *
address_set_make(const struct sl_found *found, unsigned n)
{
    struct address_set *set = calloc(1, sizeof(*set) + n * sizeof(struct upstream_address));

    for (; set != NULL && set->n < n; set->n++) {
        set->at[set->n].family = found[set->n].at.u.sa.sa_family;
        set->at[set->n].addr = found[set->n].at;
    }
    return set;
}

static int
address_set_has(const struct address_set *set, const struct upstream_address *a)
{
    unsigned i;

    for (i = 0; i < set->n; i++)
        if (set->at[i].addr.len == a->addr.len
            && memcmp(&set->at[i].addr.u, &a->addr.u, a->addr.len) == 0)
            return 1;
    return 0;
}

/* Name servers rotate their answers: another order alone is no news. */
static int
address_set_equals(const struct address_set *a, const struct address_set *b)
{
    unsigned i;

    if (a == NULL || a->n != b->n)
        return 0;
    for (i = 0; i < a->n; i++)
        if (!address_set_has(b, &a->at[i]))
            return 0;
    return 1;
}

static void
retired_free(struct upstream_server *s, int64_t before)
{
    struct address_set **at = &s->retired;

    while (*at != NULL && (*at)->retired_at >= before)
        at = &(*at)->next;
    while (*at != NULL) {
        struct address_set *set = *at;

        *at = set->next;
        free(set);
    }
}

/* Connections made for the old set are not used again: the new epoch tells. */
void
set_replace(struct upstream_server *s, struct address_set *set)
{
    struct address_set *old = atomic_load_explicit(&s->addresses, memory_order_relaxed);
    int64_t now = monotonic_ms();

    atomic_store_explicit(&s->first, 0, memory_order_relaxed);
    atomic_store_explicit(&s->addresses, set, memory_order_release);
    atomic_fetch_add_explicit(&s->epoch, 1, memory_order_relaxed);
    if (old != NULL) {
        old->retired_at = now;
        old->next = s->retired;
        s->retired = old;
    }
    retired_free(s, now - RETIRED_KEEP_MS);
}

void
set_publish(struct upstream_server *s, struct address_set *set)
{
    if (address_set_equals(atomic_load_explicit(&s->addresses, memory_order_relaxed), set))
        free(set);
    else
        set_replace(s, set);
}

void
server_watch_name(apr_pool_t *pool, struct upstream_server *s)
{
    s->lookup = apr_pcalloc(pool, sizeof(struct lookup));
    s->lookup->server = s;
}

void
server_forget_name(struct upstream_server *s)
{
    if (s->lookup == NULL && s->line == NULL)
        return;
    retired_free(s, INT64_MAX);
    if (s->lookup != NULL)
        free(s->lookup->found);
    free(atomic_exchange(&s->addresses, NULL));
}

/* The next server with a name, in the order of the list of pools. */
static struct upstream_server *
named_next(struct upstream_pool **p, unsigned *i)
{
    for (; *p != NULL; *p = (*p)->next, *i = 0)
        while (*i < (*p)->pool.n_servers) {
            struct upstream_server *s = upstream_server((*p)->pool.servers[(*i)++]);

            if (s->lookup != NULL)
                return s;
        }
    return NULL;
}

/* ---- answers ---- */

static int
has_any(const struct upstream_server *s)
{
    return s->line != NULL ? seats_n_taken(s) > 0
                           : atomic_load_explicit(&s->addresses, memory_order_relaxed) != NULL;
}

static const char *
line_name(const struct upstream_server *s)
{
    return s->line == NULL ? s->pub.name : s->line->name != NULL ? s->line->name : s->line->target;
}

/* Only news is logged: a name that stays unknown is told once. */
static void
tell_failed(const struct upstream_server *s, const char *why)
{
    if (s->lookup->n_failed == 1)
        sl_log(SL_WARN, "SL0520", "pool %s: server %s: %s does not resolve: %s; %s",
               s->pub.pool->name, line_name(s), s->host, why,
               has_any(s) ? "its last addresses stay in use" : "asked again and again");
}

static void
tell_found(const struct upstream_server *s, const struct sl_answer *answer)
{
    struct upstream_address first = {.family = answer->found[0].at.u.sa.sa_family,
                                     .addr = answer->found[0].at};
    char text[ADDRESS_TEXT_MAX];

    if (s->lookup->n_failed > 0)
        sl_log(SL_NOTICE, "SL0521", "pool %s: server %s: %s resolves, to %s%s",
               s->pub.pool->name, line_name(s), s->host, address_text(&first, text),
               answer->n > 1 ? " and others" : "");
}

static int64_t
retry_ms(unsigned n_failed)
{
    int64_t ms = n_failed < 6 ? (int64_t)RETRY_FIRST_MS << (n_failed - 1) : RETRY_MAX_MS;

    return ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
}

/* 0: there is no memory for it. */
static int
answer_use(struct upstream_server *s, const struct sl_answer *answer)
{
    struct address_set *set;

    if (s->line != NULL) {
        if (seats_leads())
            seats_take(s, answer);
        return 1;
    }
    set = address_set_make(answer->found, answer->n);
    if (set != NULL)
        set_publish(s, set);
    return set != NULL;
}

/* Neither who has no seat because others have only just left theirs waits for a TTL, nor what was not
 * found because a name server failed. */
static int64_t
next_ms(const struct lookup *l, const struct sl_answer *answer)
{
    const struct seat_line *line = l->server->line;
    int64_t ms = answer->good_ms;

    if (l->n_failed > 0)
        return retry_ms(l->n_failed);
    if (l->n_partial > 0 && retry_ms(l->n_partial) < ms)
        ms = retry_ms(l->n_partial);
    return line != NULL && line->waits && ms > SEATS_AGAIN_MS ? SEATS_AGAIN_MS : ms;
}

/* And sets the time of the next question. */
static void
answer_take(struct sl_loop *loop, struct sl_lookup *asked, const struct sl_answer *answer)
{
    struct lookup *l = (struct lookup *)(void *)asked;

    l->is_open = 0;
    l->n_partial = answer->is_partial ? l->n_partial + 1 : 0;
    if (answer->n > 0 && answer_use(l->server, answer)) {
        tell_found(l->server, answer);
        l->n_failed = 0;
    } else {
        l->n_failed++;
        tell_failed(l->server, answer->n > 0 ? "no memory" : answer->why);
    }
    sl_timer_set(loop, &l->timer, sl_loop_now(loop) + next_ms(l, answer));
}

/* ---- who is asked ---- */

static void
system_answered(struct sl_loop *loop, struct lookup *l, struct found_list *found, const char *why)
{
    struct sl_answer answer = {.why = why, .good_ms = SYSTEM_GOOD_MS};

    if (found != NULL) {
        answer.found = found->at;
        answer.n = found->n;
    }
    answer_take(loop, &l->asked, &answer);
    free(found);
}

static struct lookup *
lookup_of_job(struct sl_offload *job)
{
    return (struct lookup *)(void *)((char *)job - offsetof(struct lookup, job));
}

static void
system_work(struct sl_offload *job)
{
    struct lookup *l = lookup_of_job(job);

    l->found = system_name_find(l->asked.name, l->asked.port, &l->why);
}

static void
system_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct lookup *l = lookup_of_job(job);
    struct found_list *found = l->found;

    l->found = NULL;
    system_answered(loop, l, found, l->why);
}

static void
lookup_due(struct sl_loop *loop, struct sl_timer *timer)
{
    struct lookup *l = (struct lookup *)(void *)((char *)timer - offsetof(struct lookup, timer));
    const struct sl_resolver *resolver = resolver_find();

    if (l->server->line != NULL && !seats_leads()) {
        sl_timer_set(loop, timer, sl_loop_now(loop) + RETRY_FIRST_MS);
        return;
    }
    l->is_open = 1;
    l->job.work = system_work;
    l->job.done = system_done;
    if (resolver != NULL)
        resolver->ask(loop, &l->asked);
    else if (sl_offload(loop, &l->job) < 0)
        sl_timer_set(loop, timer, sl_loop_now(loop) + RETRY_FIRST_MS);
}

static void
lookup_prepare(struct upstream_server *s)
{
    struct lookup *l = s->lookup;

    l->asked.name = s->host;
    l->asked.port = s->port;
    l->asked.is_service = s->line != NULL && s->line->is_service;
    l->asked.done = answer_take;
    l->timer.fn = lookup_due;
    l->timer.due = INT64_MAX;
}

/* ---- at the start ---- */

static unsigned
names_prepare(void)
{
    struct upstream_pool *p = pools_first();
    struct upstream_server *s;
    unsigned i = 0, n = 0;

    for (; (s = named_next(&p, &i)) != NULL; n++)
        lookup_prepare(s);
    return n;
}

static void
resolver_asks_all(struct sl_loop *loop, const struct sl_resolver *resolver, int timeout_ms)
{
    struct upstream_pool *p = pools_first();
    struct upstream_server *s;
    unsigned i = 0;

    while ((s = named_next(&p, &i)) != NULL) {
        s->lookup->is_open = 1;
        resolver->ask(loop, &s->lookup->asked);
    }
    resolver->settle(timeout_ms);
}

/* Those without an answer in time are asked again at once. */
static void
system_asks_all(struct sl_loop *loop, unsigned n, int timeout_ms)
{
    struct system_question *questions = calloc(n, sizeof *questions);
    struct upstream_pool *p = pools_first();
    struct upstream_server *s;
    unsigned i = 0, k = 0;

    if (questions == NULL)
        return;
    for (; (s = named_next(&p, &i)) != NULL; k++)
        questions[k] = (struct system_question){.host = s->host, .port = s->port};
    system_names_find(questions, n, timeout_ms);
    for (p = pools_first(), i = 0, k = 0; (s = named_next(&p, &i)) != NULL; k++) {
        s->lookup->is_open = !questions[k].is_answered;
        if (questions[k].is_answered)
            system_answered(loop, s->lookup, questions[k].found, questions[k].why);
        else
            sl_timer_set(loop, &s->lookup->timer, sl_loop_now(loop));
    }
    free(questions);
}

static unsigned
n_open(void)
{
    struct upstream_pool *p = pools_first();
    struct upstream_server *s;
    unsigned i = 0, n = 0;

    while ((s = named_next(&p, &i)) != NULL)
        n += s->lookup->is_open != 0;
    return n;
}

void
pools_resolve(struct sl_loop *loop, int timeout_ms)
{
    const struct sl_resolver *resolver = resolver_find();
    unsigned n = names_prepare();

    if (n > 0 && resolver != NULL)
        resolver_asks_all(loop, resolver, timeout_ms);
    else if (n > 0)
        system_asks_all(loop, n, timeout_ms);
    if (n_open() > 0)
        sl_log(SL_WARN, "SL0522", "%u of %u server names have no answer after %d ms; started "
               "without them", n_open(), n, timeout_ms);
    seats_follow(loop);
}
