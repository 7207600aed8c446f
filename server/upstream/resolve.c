/* Look-ups of names: by getaddrinfo, where it may block.
 *
 * A look-up runs on an offload thread, or before the loops run on a thread of its own, and
 * publishes what it found: readers see the old set or the new one.  All bookkeeping around
 * that is under one lock, which no request ever takes.  A set that was replaced is freed
 * ten minutes later, so a reader needs no more than to be done with it by then.
 *
 * getaddrinfo may hang longer than we wait.  A look-up that comes back late finds its
 * server again by walking the pools under the lock; if the configuration is gone, it finds
 * nothing and its answer is dropped. */

#include "upstream/pool.h"

#include "runtime/clock.h"

#include "sluice/log.h"
#include "sluice/loop.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define RESOLVE_AGAIN_MS 30000
#define RESOLVE_RETRY_MS 2000
#define RESOLVE_THREADS 16    /* at the start, when nothing has an address yet */
#define RETIRED_KEEP_MS 600000
#define ADDRESSES_MAX 64      /* more of one name are not used */

/* A server whose host is a name. */
struct lookup {
    struct sl_offload job; /* first */
    struct sl_timer timer; /* on the loop of pools_resolve_start() */
    struct upstream_server *server;
    struct address_set *retired; /* newest first */
    int has_failed;              /* the last time; a warning was written */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The order getaddrinfo gives is kept: it is the host's policy (RFC 6724). */
static struct address_set *
address_set_make(const struct addrinfo *found, int port)
{
    const struct addrinfo *ai;
    struct address_set *set =
        calloc(1, sizeof(*set) + ADDRESSES_MAX * sizeof(struct upstream_address));

    for (ai = found; set != NULL && ai != NULL && set->n < ADDRESSES_MAX; ai = ai->ai_next)
        if (ai->ai_family == AF_INET || ai->ai_family == AF_INET6)
            address_fill(&set->at[set->n++], ai, port);
    if (set != NULL && set->n == 0) {
        free(set);
        return NULL;
    }
    return set;
}

/* Blocks.  NULL and getaddrinfo's words when nothing was found. */
static struct address_set *
name_resolve(const char *host, int port, const char **why)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct address_set *set = NULL;
    int rv = getaddrinfo(host, NULL, &hints, &found);

    *why = rv != 0 ? gai_strerror(rv) : "no usable address";
    if (rv == 0) {
        set = address_set_make(found, port);
        freeaddrinfo(found);
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
retired_free(struct lookup *l, int64_t before)
{
    struct address_set **at = &l->retired;

    while (*at != NULL && (*at)->retired_at >= before)
        at = &(*at)->next;
    while (*at != NULL) {
        struct address_set *set = *at;

        *at = set->next;
        free(set);
    }
}

/* Under the lock.  Takes the set over. */
static void
set_publish(struct upstream_server *s, struct address_set *set)
{
    struct lookup *l = s->lookup;
    struct address_set *old = atomic_load_explicit(&s->addresses, memory_order_relaxed);
    int64_t now = monotonic_ms();

    if (address_set_equals(old, set)) {
        free(set);
        return;
    }
    atomic_store_explicit(&s->first, 0, memory_order_relaxed);
    atomic_store_explicit(&s->addresses, set, memory_order_release);
    if (old != NULL) {
        old->retired_at = now;
        old->next = l->retired;
        l->retired = old;
    }
    retired_free(l, now - RETIRED_KEEP_MS);
}

/* Under the lock.  Only news is logged: a name that stays unknown is told once. */
static void
lookup_report(struct upstream_server *s, const char *why)
{
    struct lookup *l = s->lookup;
    struct address_set *set = atomic_load_explicit(&s->addresses, memory_order_relaxed);
    char text[ADDRESS_TEXT_MAX];

    if (why != NULL && !l->has_failed)
        sl_log(SL_WARN, "SL0520", "pool %s: server %s: %s does not resolve: %s; %s",
               s->pub.pool->name, s->pub.name, s->host, why,
               set != NULL ? "its last addresses stay in use" : "asked again every 2 s");
    if (why == NULL && l->has_failed)
        sl_log(SL_NOTICE, "SL0521", "pool %s: server %s: %s resolves, to %s%s",
               s->pub.pool->name, s->pub.name, s->host, address_text(&set->at[0], text),
               set->n > 1 ? " and others" : "");
    l->has_failed = why != NULL;
}

/* Under the lock.  set NULL: it failed, for the reason `why`. */
static void
lookup_finish(struct upstream_server *s, struct address_set *set, const char *why)
{
    if (set != NULL)
        set_publish(s, set);
    lookup_report(s, set == NULL ? why : NULL);
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
    if (s->lookup == NULL)
        return;
    retired_free(s->lookup, INT64_MAX);
    free(atomic_exchange(&s->addresses, NULL));
}

void
pools_lock(void)
{
    pthread_mutex_lock(&lock);
}

void
pools_unlock(void)
{
    pthread_mutex_unlock(&lock);
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

/* Look-ups made at the start, by threads that may outlive the wait. */
struct batch {
    pthread_cond_t done;
    unsigned n_items;
    unsigned n_taken;
    unsigned n_finished;
    unsigned n_holders; /* threads, and the one that waits */
    struct batch_item {
        struct upstream_server *server; /* looked for in the list before it is touched */
        char host[ADDRESS_HOST_MAX];
        int port;
    } items[];
};

static struct batch *
batch_make(void)
{
    struct upstream_pool *p = pools_first();
    struct upstream_server *s;
    struct batch *b;
    pthread_condattr_t attr;
    unsigned i = 0, n = 0;

    while (named_next(&p, &i) != NULL)
        n++;
    b = n > 0 ? calloc(1, sizeof(*b) + n * sizeof(b->items[0])) : NULL;
    if (b == NULL)
        return NULL;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->done, &attr);
    pthread_condattr_destroy(&attr);
    b->n_holders = 1;
    for (p = pools_first(), i = 0; (s = named_next(&p, &i)) != NULL; b->n_items++) {
        b->items[b->n_items].server = s;
        b->items[b->n_items].port = s->port;
        strcpy(b->items[b->n_items].host, s->host);
    }
    return b;
}

/* Under the lock, which it gives back. */
static void
batch_release(struct batch *b)
{
    int is_last = --b->n_holders == 0;

    pthread_mutex_unlock(&lock);
    if (is_last) {
        pthread_cond_destroy(&b->done);
        free(b);
    }
}

/* Under the lock. */
static int
is_known(const struct upstream_server *server)
{
    struct upstream_pool *p = pools_first();
    struct upstream_server *s;
    unsigned i = 0;

    while ((s = named_next(&p, &i)) != NULL)
        if (s == server)
            return 1;
    return 0;
}

static void *
batch_thread(void *arg)
{
    struct batch *b = arg;

    pthread_mutex_lock(&lock);
    while (b->n_taken < b->n_items) {
        struct batch_item *item = &b->items[b->n_taken++];
        struct address_set *set;
        const char *why;

        pthread_mutex_unlock(&lock);
        set = name_resolve(item->host, item->port, &why);
        pthread_mutex_lock(&lock);
        if (is_known(item->server))
            lookup_finish(item->server, set, why);
        else
            free(set);
        b->n_finished++;
        pthread_cond_signal(&b->done);
    }
    batch_release(b);
    return NULL;
}

/* Under the lock. */
static void
batch_start(struct batch *b)
{
    pthread_attr_t attr;
    pthread_t thread;
    unsigned i;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (i = 0; i < b->n_items && i < RESOLVE_THREADS; i++)
        if (pthread_create(&thread, &attr, batch_thread, b) == 0)
            b->n_holders++;
    pthread_attr_destroy(&attr);
}

void
pools_resolve_now(int timeout_ms)
{
    struct batch *b = batch_make();
    int64_t until = monotonic_ms() + timeout_ms;
    struct timespec ts = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

    if (b == NULL)
        return;
    pthread_mutex_lock(&lock);
    batch_start(b);
    while (b->n_holders > 1 && b->n_finished < b->n_items)
        if (pthread_cond_timedwait(&b->done, &lock, &ts) == ETIMEDOUT)
            break;
    if (b->n_finished < b->n_items)
        sl_log(SL_WARN, "SL0522", "%u of %u server names have no answer after %d ms; started "
               "without them", b->n_items - b->n_finished, b->n_items, timeout_ms);
    batch_release(b);
}

static void
lookup_work(struct sl_offload *job)
{
    struct upstream_server *s = ((struct lookup *)job)->server;
    const char *why;
    struct address_set *set = name_resolve(s->host, s->port, &why);

    pthread_mutex_lock(&lock);
    lookup_finish(s, set, why);
    pthread_mutex_unlock(&lock);
}

static void
lookup_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct lookup *l = (struct lookup *)job;
    int has_failed;

    pthread_mutex_lock(&lock);
    has_failed = l->has_failed;
    pthread_mutex_unlock(&lock);
    sl_timer_set(loop, &l->timer,
                 sl_loop_now(loop) + (has_failed ? RESOLVE_RETRY_MS : RESOLVE_AGAIN_MS));
}

static void
lookup_due(struct sl_loop *loop, struct sl_timer *timer)
{
    struct lookup *l = (struct lookup *)((char *)timer - offsetof(struct lookup, timer));

    l->job.work = lookup_work;
    l->job.done = lookup_done;
    if (sl_offload(loop, &l->job) < 0)
        sl_timer_set(loop, timer, sl_loop_now(loop) + RESOLVE_RETRY_MS);
}

/* On the loop: names without an address are asked for at once, the others in their time. */
static void
lookups_arm(struct sl_loop *loop, struct sl_mail *mail)
{
    struct upstream_pool *p = pools_first();
    struct upstream_server *s;
    unsigned i = 0;

    (void)mail;
    while ((s = named_next(&p, &i)) != NULL) {
        s->lookup->timer.fn = lookup_due;
        sl_timer_set(loop, &s->lookup->timer,
                     sl_loop_now(loop) + (server_n_addresses(s) > 0 ? RESOLVE_AGAIN_MS : 0));
    }
}

void
pools_resolve_start(struct sl_loop *loop)
{
    static struct sl_mail mail = {.fn = lookups_arm};

    sl_loop_post(loop, &mail);
}
