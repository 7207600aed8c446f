/* Failures of clients in the log, before there is a request.  Anybody can cause as many as he likes,
 * so each client has one line a minute; how many more there were, and why the last one failed, is
 * told when the minute is over.  An IPv6 client is its /64.  The table is of fixed size: what finds
 * no place there is counted together.
 *
 * The table is all threads'.  Nobody waits for it: who finds it taken counts with the rest. */
#include "net/failures.h"

#include "net/conn.h"

#include "sluice/log.h"

#include <apr_siphash.h>
#include <arpa/inet.h>

#include <stdatomic.h>
#include <stdio.h>

#define MINUTE_MS 60000
#define SETS 64
#define WAYS 4
#define WHY_MAX 96

struct client {
    unsigned char key[16]; /* the address, IPv4 mapped, or the first half of it */
    int64_t since_ms;      /* its line was written; 0: nobody's place */
    unsigned n_more;       /* since then */
    char name[INET6_ADDRSTRLEN];
    char why[WHY_MAX]; /* of the last one */
};

static struct failures {
    atomic_flag is_taken;
    atomic_uint n_rest; /* found no place, or the table taken */
    unsigned char seed[APR_SIPHASH_KSIZE];
    struct client clients[SETS][WAYS];
} failures = {.is_taken = ATOMIC_FLAG_INIT};

static struct sl_timer timer;

static void
key_make(unsigned char key[16], const char *name)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    memset(key, 0, 16);
    if (inet_pton(AF_INET, name, key + 12) == 1)
        memcpy(key, mapped, sizeof mapped);
    else if (inet_pton(AF_INET6, name, key) == 1 && memcmp(key, mapped, sizeof mapped) != 0)
        memset(key + 8, 0, 8);
}

/* Who could tell which addresses share a set would fill that of another with his own. */
static struct client *
set_of(struct failures *f, const unsigned char key[16])
{
    return f->clients[apr_siphash24(key, 16, f->seed) % SETS];
}

/* 1: the line may be written. */
static int
failures_see(struct failures *f, const char *name, const char *why, int64_t now_ms)
{
    unsigned char key[16];
    struct client *set, *c, *room = NULL;

    key_make(key, name);
    set = set_of(f, key);
    for (c = set; c < set + WAYS; c++) {
        if (c->since_ms != 0 && memcmp(c->key, key, sizeof key) == 0) {
            c->n_more++;
            snprintf(c->why, sizeof c->why, "%s", why);
            return 0;
        }
        if (c->since_ms == 0)
            room = c;
    }
    if (room == NULL) {
        atomic_fetch_add(&f->n_rest, 1);
        return 0;
    }
    memcpy(room->key, key, sizeof key);
    room->since_ms = now_ms != 0 ? now_ms : 1;
    room->n_more = 0;
    snprintf(room->name, sizeof room->name, "%s", name);
    return 1;
}

/* Clients whose minute is over are told of and forgotten. */
static void
failures_tell(struct failures *f, int64_t now_ms)
{
    struct client *c;

    for (c = f->clients[0]; c < f->clients[0] + SETS * WAYS; c++) {
        if (c->since_ms == 0 || now_ms - c->since_ms < MINUTE_MS)
            continue;
        if (c->n_more > 0)
            sl_log(SL_INFO, "SL0218", "client %s: %u more within a minute; the last: %s", c->name,
                   c->n_more, c->why);
        c->since_ms = 0;
    }
}

static void
rest_tell(void)
{
    unsigned n_rest = atomic_exchange(&failures.n_rest, 0);

    if (n_rest > 0)
        sl_log(SL_INFO, "SL0219", "%u more connections failed, of clients not told apart", n_rest);
}

int
sl_conn_failure_has_line(struct sl_conn *c, const char *why)
{
    struct sl_span peer = conn_peer_text(c);
    char name[INET6_ADDRSTRLEN];
    int is_first;

    if (!sl_log_wants(SL_INFO))
        return 0;
    snprintf(name, sizeof name, "%.*s", (int)peer.n, peer.at);
    if (atomic_flag_test_and_set(&failures.is_taken)) {
        atomic_fetch_add(&failures.n_rest, 1);
        return 0;
    }
    is_first = failures_see(&failures, name, why, c->loop->now_ms);
    atomic_flag_clear(&failures.is_taken);
    return is_first;
}

static void
look(struct sl_loop *loop, struct sl_timer *t)
{
    int64_t now_ms = loop->now_ms;

    if (!atomic_flag_test_and_set(&failures.is_taken)) {
        failures_tell(&failures, now_ms);
        atomic_flag_clear(&failures.is_taken);
    }
    rest_tell();
    sl_timer_set(loop, t, now_ms + MINUTE_MS / 4);
}

void
failures_open(struct sl_loop *loop)
{
    sl_random_bytes(failures.seed, sizeof failures.seed);
    timer.fn = look;
    sl_timer_set(loop, &timer, loop->now_ms + MINUTE_MS / 4);
}

void
failures_close(void)
{
    sl_timer_unlink(&timer);
    failures_tell(&failures, INT64_MAX);
    rest_tell();
}
