/* TLSEarlyData: requests that come with a client's first bytes, before the handshake is over
 * (RFC 8446, 2.3; RFC 8470).
 *
 *   hello ------------------> early bytes -----------> over
 *     SSL_read_early_data()      the protocol begins;     those who wait go on
 *                                answers leave
 *
 * Such bytes may be a copy that somebody sends again.  What stands against it:
 *
 *   - OpenSSL takes them only where the ticket's age is as the client says, within 10 s.
 *   - Each hello is remembered for longer than that, in a zone: all threads, generations and workers
 *     after a crash know it, and what comes a second time is no early data (RFC 8446, 8.2).  Where
 *     the zone may not know of hellos that were taken before it was made, nothing is taken for that
 *     time.  OpenSSL's own way, tickets good for one use, needs a cache for each process.
 *   - Machines that share the keys of tickets do not share this: each would take a copy once.
 *   - So only what is safe to repeat goes on at once, and the server is told by Early-Data: 1.  The
 *     rest waits for the handshake, which a copy cannot complete. */
#include "tls.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define EARLY_MAX 16384u /* bytes a client may send */

/* ---- hellos that were seen ---- */

#define ZONE_LAYOUT 1
#define WINDOW_S 20u /* OpenSSL's 10 s, what it rounds, and room for clocks that are set */
#define BUCKETS 16384u
#define BUCKET_SLOTS 8u

/* A slot: until when (s, monotonic) in the upper half, a part of the hello in the lower.  0: never
 * used. */
struct hello_zone {
    _Atomic(uint64_t) opens_s; /* before that nothing is taken */
    _Alignas(64) _Atomic(uint64_t) slots[BUCKETS][BUCKET_SLOTS];
};

static struct hello_zone *zone;

/* The first slot whose time is over; NULL: the bucket is full. */
static _Atomic(uint64_t) *
slot_take(_Atomic(uint64_t) *bucket, uint64_t mine, uint64_t now_s)
{
    unsigned i;

    for (i = 0; i < BUCKET_SLOTS; i++) {
        uint64_t was = atomic_load(&bucket[i]);

        if (was >> 32 <= now_s && atomic_compare_exchange_strong(&bucket[i], &was, mine))
            return &bucket[i];
    }
    return NULL;
}

/* Whether this hello comes for the first time.  It is written down before others like it are
 * looked for: of two threads that have the same one, at most one finds itself alone. */
static int
hello_is_new(struct hello_zone *z, const unsigned char *random, uint64_t now_s)
{
    uint32_t where, what;
    _Atomic(uint64_t) *bucket, *mine;
    unsigned i;

    memcpy(&where, random, sizeof where);
    memcpy(&what, random + sizeof where, sizeof what);
    bucket = z->slots[where % BUCKETS];
    mine = slot_take(bucket, (now_s + WINDOW_S) << 32 | what, now_s);
    if (mine == NULL)
        return 0;
    for (i = 0; i < BUCKET_SLOTS; i++) {
        uint64_t other = atomic_load(&bucket[i]);

        if (&bucket[i] != mine && (uint32_t)other == what && other >> 32 > now_s)
            return 0;
    }
    return 1;
}

/* The hello is the ticket's owner's: its binder was verified (RFC 8446, 8.2).  1: taken. */
static int
early_allow(SSL *ssl, void *unused)
{
    const struct tls *t = SSL_get_app_data(ssl);
    uint64_t now_s = (uint64_t)sl_loop_now(sl_conn_loop(t->conn)) / 1000;
    unsigned char random[SSL3_RANDOM_SIZE];

    (void)unused;
    return zone != NULL && now_s >= atomic_load(&zone->opens_s) &&
           SSL_get_client_random(ssl, random, sizeof random) == sizeof random &&
           hello_is_new(zone, random, now_s);
}

int
tls_early_open(void)
{
    struct timespec now;
    int is_fresh;

    zone = sl_zone("tls.early", ZONE_LAYOUT, sizeof *zone, &is_fresh);
    if (zone == NULL)
        return -1;
    clock_gettime(CLOCK_MONOTONIC, &now); /* as sl_loop_now(), before there are loops */
    if (is_fresh && !tls_tickets_are_new())
        atomic_store(&zone->opens_s, (uint64_t)now.tv_sec + WINDOW_S + 1);
    return 0;
}

/* ---- settings ---- */

void
tls_early_use(SSL_CTX *ctx, const struct tls_conf *conf)
{
    if (!conf->early_data || conf->client_verify != TLS_VERIFY_OFF)
        return;
    SSL_CTX_set_options(ctx, SSL_OP_NO_ANTI_REPLAY); /* ours takes its place */
    SSL_CTX_set_max_early_data(ctx, EARLY_MAX);
}

void
tls_early_enter(SSL *ssl, const SSL_CTX *ctx)
{
    SSL_set_max_early_data(ssl, SSL_CTX_get_max_early_data(ctx));
}

/* ---- a connection ---- */

/* A request that may not be repeated, until the handshake is over. */
struct waiter {
    struct waiter *next;
    struct sl_token token;
};

struct tls_early {
    struct tls *t;
    struct sl_timer timer;
    struct waiter *waiting;
    char *bytes; /* that the protocol has not read yet; NULL: none */
    unsigned n, from;
};

void
tls_early_accept(struct tls *t)
{
    if (zone == NULL)
        return;
    t->reads_early = 1;
    SSL_set_allow_early_data_cb(t->ssl, early_allow, NULL);
}

/* Who sends a copy never completes the handshake, and may wait for its answer like that. */
static void
early_late(struct sl_loop *loop, struct sl_timer *timer)
{
    struct tls_early *e = (struct tls_early *)(void *)((char *)timer - offsetof(struct tls_early, timer));
    struct sl_conn *c = e->t->conn;

    (void)loop;
    if (sl_conn_failure_has_line(c, "the handshake was not completed within Timeout header"))
        sl_log(SL_INFO, "TLS0064", "client %.*s: the handshake was not completed within Timeout header",
               (int)sl_conn_peer_text(c).n, sl_conn_peer_text(c).at);
    sl_conn_close(&c);
}

static int
early_begin(struct tls *t)
{
    struct sl_client_terms terms;

    t->early = calloc(1, sizeof *t->early);
    if (t->early == NULL)
        return -1;
    t->early->t = t;
    t->early->timer.fn = early_late;
    sl_scope_terms(sl_conn_scope(t->conn), &terms);
    if (terms.header_ms >= 0)
        sl_timer_set(sl_conn_loop(t->conn), &t->early->timer,
                     sl_loop_now(sl_conn_loop(t->conn)) + terms.header_ms);
    return 0;
}

static int
early_keep(struct tls *t, const char *at, size_t n)
{
    struct tls_early *e;
    char *more;

    if (t->early == NULL && early_begin(t) != 0)
        return -1;
    e = t->early;
    if (e->from == e->n)
        e->from = e->n = 0;
    more = realloc(e->bytes, e->n + n);
    if (more == NULL)
        return -1;
    memcpy(more + e->n, at, n);
    e->bytes = more;
    e->n += (unsigned)n;
    return 0;
}

int
tls_early_read(struct tls *t)
{
    char bytes[EARLY_MAX];
    size_t n;

    for (;;)
        switch (SSL_read_early_data(t->ssl, bytes, sizeof bytes, &n)) {
        case SSL_READ_EARLY_DATA_SUCCESS:
            if (n > 0 && early_keep(t, bytes, n) != 0)
                return -1;
            break;
        case SSL_READ_EARLY_DATA_FINISH:
            t->reads_early = 0;
            return SSL_do_handshake(t->ssl);
        default:
            return 0;
        }
}

ssize_t
tls_early_take(struct tls *t, void *to, size_t n)
{
    struct tls_early *e = t->early;
    size_t k = e->n - e->from < n ? e->n - e->from : n;

    if (e->bytes == NULL)
        return t->is_done ? 0 : SL_IO_AGAIN;
    memcpy(to, e->bytes + e->from, k);
    e->from += (unsigned)k;
    if (e->from == e->n) {
        free(e->bytes);
        e->bytes = NULL;
        e->n = e->from = 0;
    }
    return (ssize_t)k;
}

/* While the handshake lasts there is always more to come: who closes must read on. */
int
tls_early_is_pending(const struct tls *t)
{
    return t->early->bytes != NULL || !t->is_done;
}

static void
early_let_go(struct tls_early *e, int is_over)
{
    while (e->waiting != NULL) {
        struct waiter *w = e->waiting;

        e->waiting = w->next;
        if (is_over)
            sl_req_resume(w->token, SL_NEXT);
        free(w);
    }
}

void
tls_early_over(struct tls *t)
{
    sl_timer_stop(&t->early->timer);
    early_let_go(t->early, 1);
}

void
tls_early_free(struct tls *t)
{
    struct tls_early *e = t->early;

    if (e == NULL)
        return;
    t->early = NULL;
    sl_timer_unlink(&e->timer);
    early_let_go(e, 0);
    free(e->bytes);
    free(e);
}

/* ---- a request ---- */

struct early_request {
    int went_early;
};

/* RFC 9110, 9.2.1.  What asks for another protocol is the beginning of more than itself. */
static int
is_safe_to_repeat(struct sl_req *r)
{
    struct sl_span m = sl_req_method(r);

    return (sl_span_eq(m, SL_SPAN("GET")) || sl_span_eq(m, SL_SPAN("HEAD")) ||
            sl_span_eq(m, SL_SPAN("OPTIONS"))) &&
           !sl_req_has_body(r) && !sl_fields_has_id(sl_req_head(r), SL_F_UPGRADE);
}

/* RFC 8470, 3: to wait is better than 425 where one can. */
static enum sl_verdict
early_wait(struct sl_req *r, struct tls_early *e)
{
    struct waiter *w = malloc(sizeof *w);

    if (w == NULL)
        return sl_req_fail(r, 0, &sl_cause_internal, "no memory to wait for the handshake");
    sl_note(r, "early data: waits for the end of the handshake");
    w->token = sl_req_suspend(r);
    w->next = e->waiting;
    e->waiting = w;
    return SL_WAIT;
}

enum sl_verdict
tls_early_access(struct sl_req *r, const struct tls_conf *conf, struct tls *t)
{
    struct early_request *d;

    if (!conf->early_data || !is_safe_to_repeat(r))
        return early_wait(r, t->early);
    d = sl_req_data(r, &sl_module_record, sizeof *d);
    d->went_early = 1;
    sl_note(r, "early data: goes on before the handshake is over");
    sl_fields_set(sl_req_head(r), "Early-Data", SL_SPAN("1")); /* RFC 8470, 5.1 */
    return SL_NEXT;
}

int
tls_early_went(struct sl_req *r, const struct tls *t)
{
    const struct early_request *d =
        t->early != NULL ? sl_req_data(r, &sl_module_record, sizeof *d) : NULL;

    return d != NULL && d->went_early;
}
