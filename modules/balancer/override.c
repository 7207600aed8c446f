/* What the operator said of servers stands in the shared zone, so it holds for all generations
 * and outlives a reload or a crash; the core keeps a copy of it in StateDir for the next start.
 *
 * It stands for the Server line it was said of, by a mark of that line.  While the zone knows the
 * server, the zone is right; a server it does not know has what StateDir says.  When the line is
 * another one, the line holds, and that is settled when the generation that has it is ready: one
 * that is refused changes nothing.  What was said of a server that is not there any more waits
 * for it; so it is with those that come and go, whose line says no more of them than a name. */
#include "override.h"

#include "server_line.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define OWNER "server"
#define ADMIN_BITS (UINT64_C(3) << 59)
#define WEIGHT_MAX 256

static const char *const admins[] = {"", "drain", "disable", "enable"};

static struct sl_worker *worker; /* whose configuration it is */
static int decides;              /* this generation serves */

static struct server_line *
line_of(const struct sl_server *s)
{
    return s->balancer_data;
}

static int64_t *
said_at(const struct sl_server *s)
{
    const struct balancer *b = s->pool->data;

    return &b->said_at[s->index];
}

static uint64_t
word_of(const struct sl_server *s)
{
    return atomic_load_explicit(&s->state->health, memory_order_relaxed);
}

static unsigned
weight_of(const struct sl_server *s)
{
    return atomic_load_explicit(&s->state->weight, memory_order_relaxed);
}

/* ---- in words ---- */

static const char *
words_of(apr_pool_t *pool, enum sl_admin admin, unsigned weight)
{
    if (weight == 0)
        return admins[admin];
    return apr_psprintf(pool, "%s%sweight=%u", admins[admin], admin != SL_ADMIN_NONE ? " " : "",
                        weight);
}

const char *
override_text(apr_pool_t *pool, const struct sl_server *s)
{
    return words_of(pool, SL_HEALTH_ADMIN(word_of(s)), weight_of(s));
}

const char *
override_line(apr_pool_t *pool, const struct sl_server *s)
{
    const char *drain = s->flags & SL_SERVER_DRAIN ? " drain" : "";

    if (s->flags & SL_SERVER_SEAT) /* its weight is a record's, and changes with it */
        return apr_pstrcat(pool, s->address, drain, NULL);
    return apr_psprintf(pool, "%s weight=%u%s", s->address, s->configured_weight, drain);
}

const char *
override_when(apr_pool_t *pool, const struct sl_server *s)
{
    time_t at = (time_t)*said_at(s);
    struct tm tm;
    char text[32];

    if (at == 0 || override_text(pool, s)[0] == '\0')
        return "";
    gmtime_r(&at, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return apr_pstrdup(pool, text);
}

/* 0, or -1: a later version said more. */
static int
words_read(const char *text, enum sl_admin *admin, unsigned *weight)
{
    const char *at = strstr(text, "weight="), *digits = at != NULL ? at + 7 : "";
    size_t n = at != NULL ? (size_t)(at - text) : strlen(text), n_digits = strspn(digits, "0123456789");
    unsigned i;

    *admin = SL_ADMIN_NONE;
    *weight = n_digits <= 3 ? (unsigned)atoi(digits) : 0;
    if (*weight > WEIGHT_MAX || digits[n_digits] != '\0' || (at != NULL && *weight == 0))
        return -1;
    while (n > 0 && text[n - 1] == ' ')
        n--;
    for (i = SL_ADMIN_DRAIN; i <= SL_ADMIN_ON; i++)
        if (strlen(admins[i]) == n && strncmp(admins[i], text, n) == 0)
            *admin = (enum sl_admin)i;
    return n > 0 && *admin == SL_ADMIN_NONE ? -1 : 0;
}

/* Of the line an override stands for; never 0, which says that nobody has taken the server over
 * yet. */
static unsigned
line_mark(const struct sl_server *s)
{
    unsigned h = 2166136261u + (s->flags & SL_SERVER_DRAIN) * 512;
    const char *at;

    if (!(s->flags & SL_SERVER_SEAT))
        h += s->configured_weight;

    for (at = s->address; *at != '\0'; at++)
        h = (h ^ (unsigned char)*at) * 16777619u;
    return h | 1;
}

/* ---- in force ---- */

/* New requests come to it again: it is given time to warm up. */
static void
warm(struct sl_server *s)
{
    if (s->slowstart_ms > 0)
        atomic_store_explicit(&s->state->warm_since, sl_loop_now(sl_loop_self()),
                              memory_order_relaxed);
}

static uint64_t
admin_put(struct sl_server *s, enum sl_admin admin)
{
    uint64_t old = word_of(s), word;

    do
        word = (old & ~ADMIN_BITS) | (uint64_t)admin << 59;
    while (!atomic_compare_exchange_weak_explicit(&s->state->health, &old, word,
                                                  memory_order_relaxed, memory_order_relaxed));
    return word;
}

/* Two lines may lead to one address, and a server may have left a seat for another one: what is said
 * of a name is said of all of them.  The next, from *i on; NULL: that was all. */
static struct sl_server *
next_of_name(const struct sl_server *s, unsigned *i)
{
    while (*i < s->pool->n_servers) {
        struct sl_server *other = s->pool->servers[(*i)++];

        if (strcmp(other->name, s->name) == 0)
            return other;
    }
    return NULL;
}

void
override_admin(struct sl_server *s, enum sl_admin admin)
{
    struct sl_server *other;
    unsigned i = 0;

    while ((other = next_of_name(s, &i)) != NULL) {
        int was_wanted = sl_server_is_wanted(other, word_of(other));

        if (sl_server_is_wanted(other, admin_put(other, admin)) && !was_wanted)
            warm(other);
    }
}

int
override_weight(struct sl_server *s, unsigned weight)
{
    struct balancer *b = s->pool->data;
    struct sl_server *other;
    unsigned i = 0;

    while ((other = next_of_name(s, &i)) != NULL) {
        atomic_store(&other->state->weight, weight == other->configured_weight ? 0 : weight);
        atomic_store(&other->weight, weight > 0 ? weight : other->configured_weight);
    }
    return b->method->ready(s->pool, b->method_data);
}

int
override_is_said(const struct sl_server *s)
{
    return SL_HEALTH_ADMIN(word_of(s)) != SL_ADMIN_NONE || weight_of(s) > 0;
}

/* ---- kept ---- */

static const char *
key_of(apr_pool_t *pool, const struct sl_server *s)
{
    return apr_pstrcat(pool, s->pool->name, "/", s->name, NULL);
}

/* Of this worker's, as it was read; NULL: none. */
static const struct sl_override *
kept_find(const char *key)
{
    const struct sl_override *o;
    unsigned i;

    for (i = 0; (o = sl_override_kept(worker, i)) != NULL; i++)
        if (strcmp(o->owner, OWNER) == 0 && strcmp(o->key, key) == 0)
            return o;
    return NULL;
}

static void
keep(apr_pool_t *pool, const struct sl_server *s, sl_kept_f *done, void *data)
{
    const char *says = override_text(pool, s);

    sl_override_keep(OWNER, key_of(pool, s), says[0] != '\0' ? says : NULL, override_line(pool, s),
                     done, data);
}

void
override_keep(struct sl_server *s, sl_kept_f *done, void *data)
{
    struct sl_server *other;
    apr_pool_t *pool;
    unsigned i = 0;

    while ((other = next_of_name(s, &i)) != NULL) {
        *said_at(other) = sl_loop_wall_us(sl_loop_self()) / 1000000;
        atomic_store_explicit(&other->state->base, line_mark(other), memory_order_relaxed);
    }
    apr_pool_create(&pool, sl_worker_pool(worker));
    keep(pool, s, done, data);
    apr_pool_destroy(pool);
}

int
override_forget(const char *key, sl_kept_f *done, void *data)
{
    if (kept_find(key) == NULL)
        return 0;
    sl_override_keep(OWNER, key, NULL, NULL, done, data);
    return 1;
}

/* ---- what was said before ---- */

/* Calls f for every server of every pool that is there. */
static void
servers_each(apr_pool_t *pool, void (*f)(apr_pool_t *pool, struct sl_server *s))
{
    struct balancer *b = NULL;
    unsigned i;

    while ((b = balancer_next(b)) != NULL)
        for (i = 0; i < b->pool->n_servers; i++)
            if (!sl_server_is_gone(b->pool->servers[i]))
                f(pool, b->pool->servers[i]);
}

static void
claim(apr_pool_t *pool, struct sl_server *s)
{
    const struct sl_override *kept = kept_find(key_of(pool, s));

    if (kept != NULL)
        sl_override_claim(worker, kept, line_of(s)->place,
                          strcmp(kept->of, override_line(pool, s)) == 0);
}

void
overrides_claim(struct sl_worker *w)
{
    struct balancer *b = NULL;

    worker = w;
    while ((b = balancer_next(b)) != NULL)
        b->said_at = apr_pcalloc(sl_worker_pool(w), (b->pool->n_servers + 1) * sizeof *b->said_at);
    if (sl_override_kept(w, 0) == NULL)
        return;
    servers_each(sl_worker_pool(w), claim);
    members_claim(w);
}

static void
forget(apr_pool_t *pool, struct sl_server *s, const char *says)
{
    sl_log(SL_NOTICE, "BALANCER0060", "pool %s: server %s: its line was edited and holds now (%s); "
           "what was said of it at run time (%s) is forgotten", s->pool->name, s->name,
           override_line(pool, s), says);
    admin_put(s, SL_ADMIN_NONE);
    atomic_store_explicit(&s->state->weight, 0, memory_order_relaxed);
}

static void
take_kept(apr_pool_t *pool, struct sl_server *s, const struct sl_override *kept)
{
    enum sl_admin admin;
    unsigned weight;

    if (strcmp(kept->of, override_line(pool, s)) != 0) {
        forget(pool, s, kept->says);
        return;
    }
    if (words_read(kept->says, &admin, &weight) != 0) {
        sl_log(SL_WARN, "BALANCER0063", "pool %s: server %s: StateDir says \"%s\" of it, which is "
               "not understood", s->pool->name, s->name, kept->says);
        return;
    }
    sl_log(SL_NOTICE, "BALANCER0061", "pool %s: server %s: what was said of it at run time holds: "
           "%s; the file says %s", s->pool->name, s->name, kept->says, kept->of);
    admin_put(s, admin);
    atomic_store_explicit(&s->state->weight, weight, memory_order_relaxed);
}

static void
take(apr_pool_t *pool, struct sl_server *s)
{
    const struct sl_override *kept = kept_find(key_of(pool, s));
    unsigned base = atomic_load_explicit(&s->state->base, memory_order_relaxed);
    const char *says = override_text(pool, s);

    if (kept != NULL)
        *said_at(s) = kept->at;
    if (base == 0 && kept != NULL)
        take_kept(pool, s, kept);
    else if (base != line_mark(s) && says[0] != '\0')
        forget(pool, s, says);
    atomic_store_explicit(&s->state->base, line_mark(s), memory_order_relaxed);
    atomic_store(&s->weight, weight_of(s) > 0 ? weight_of(s) : s->configured_weight);
}

/* Those whose server is not there. */
static void
tell_waiting(void)
{
    const struct sl_override *o;
    unsigned i;

    for (i = 0; (o = sl_override_kept(worker, i)) != NULL; i++)
        if (strcmp(o->owner, OWNER) == 0 && server_find(o->key) == NULL)
            sl_log(SL_NOTICE, "BALANCER0062", "server %s is not there: what was said of it at run "
                   "time (%s) waits for it (%s), or for \"ctl server reset %s\"", o->key, o->says,
                   o->of, o->key);
}

/* ---- StateDir follows, once the generation is accepted ---- */

static void
follow(apr_pool_t *pool, struct sl_server *s)
{
    if (override_text(pool, s)[0] != '\0' || kept_find(key_of(pool, s)) != NULL)
        keep(pool, s, NULL, NULL);
}

static struct {
    struct sl_mail mail; /* first */
    int is_posted;
} after_ready;

static void
state_dir_follows(struct sl_loop *loop, struct sl_mail *mail)
{
    apr_pool_t *pool;

    (void)loop;
    (void)mail;
    after_ready.is_posted = 0;
    apr_pool_create(&pool, sl_worker_pool(worker));
    members_restore(worker, pool);
    servers_each(pool, follow);
    apr_pool_destroy(pool);
}

void
overrides_rest(void)
{
    decides = 0;
}

void
overrides_arrived(struct sl_pool *pool)
{
    apr_pool_t *memory;
    unsigned i;

    if (!decides)
        return;
    apr_pool_create(&memory, sl_worker_pool(worker));
    for (i = 0; i < pool->n_servers; i++) {
        struct sl_server *s = pool->servers[i];

        if (sl_server_is_gone(s) || atomic_load(&s->state->base) == line_mark(s))
            continue;
        take(memory, s);
        follow(memory, s);
    }
    apr_pool_destroy(memory);
}

int
overrides_take(struct sl_worker *w)
{
    struct balancer *b = NULL;
    apr_pool_t *pool;

    apr_pool_create(&pool, sl_worker_pool(worker));
    servers_each(pool, take);
    tell_waiting();
    apr_pool_destroy(pool);
    while ((b = balancer_next(b)) != NULL)
        if (b->method->ready(b->pool, b->method_data) < 0)
            return -1;
    decides = 1;
    after_ready.mail.fn = state_dir_follows;
    if (!after_ready.is_posted)
        sl_loop_post(sl_worker_loop(w, 0), &after_ready.mail);
    after_ready.is_posted = 1;
    return 0;
}
