/* Health checks: one connection a check, made by thread 0 of the generation that serves.
 *
 *   waits -> opens -> sends -> reads -> (outcome) -> waits
 *
 * Each server has a check of its own, which is at one point of this.  The first ones are spread
 * over a second, and each wait is a little longer or shorter, so that they never come in step.
 * Where a server is in doubt or down the next check comes sooner. */

#include "balancer.h"
#include "check_http.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>

#define SPREAD_MS 1000
#define ANSWER_MOST 8192 /* bytes of an answer that are looked at */
#define JITTER_PERCENT 10

struct check {
    struct sl_timer timer;
    struct sl_server *server;
    struct balancer *b;
    struct sl_conn *conn; /* NULL: it waits */
    const char *request;  /* NULL: tcp */
    const char *address;  /* for which it was made */
    const char *name;     /* of the server that is asked: another one may get its seat meanwhile */
    apr_pool_t *pool;     /* it is in; a seat's own */
    size_t n_request, n_sent, n_read;
    char *answer; /* ANSWER_MOST, while one is read */
    int64_t began_ms;
    int is_open;
};

/* Thread 0's. */
static struct {
    struct sl_loop *loop;
    unsigned n;
    struct check *at;
} checks;

/* ---- one after the other ---- */

static int64_t
jittered(int64_t ms)
{
    int64_t part = ms * JITTER_PERCENT / 100;

    return part > 0 ? ms - part + random_below((unsigned)(2 * part)) : ms;
}

static int64_t
wait_ms(const struct check *k)
{
    uint64_t word = atomic_load_explicit(&k->server->state->health, memory_order_relaxed);
    int is_certain = SL_HEALTH_STATE(word) == SL_HEALTH_UP && health_streak(word) == 0;

    return jittered(is_certain ? k->b->check.interval_ms : k->b->check.fast_ms);
}

static void
check_let_go(struct check *k)
{
    free(k->answer);
    k->answer = NULL;
    if (k->conn != NULL)
        sl_conn_close(&k->conn);
}

static void
check_tells(const struct check *k, int is_good, const char *why)
{
    char evidence[SL_EVENT_TEXT];
    struct sl_server *s = k->server;

    snprintf(evidence, sizeof evidence, "check: %s, %lld ms", why,
             (long long)(sl_loop_now(checks.loop) - k->began_ms));
    if (!is_good)
        sl_log(SL_INFO, "BALANCER0014", "pool %s: server %s: %s", s->pool->name, s->name, evidence);
    health_tell(s, is_good ? HEALTH_CHECK_OK : HEALTH_CHECK_FAILED, evidence,
                moment_of(checks.loop));
}

/* The outcome. */
static void
check_over(struct check *k, int is_good, const char *why)
{
    check_let_go(k);
    if (k->server->name == k->name && !sl_server_is_gone(k->server))
        check_tells(k, is_good, why);
    sl_timer_set(checks.loop, &k->timer, sl_loop_now(checks.loop) + wait_ms(k));
}

/* ---- the steps: each ends the check, or waits for the connection ---- */

static void
check_reads(struct check *k)
{
    char why[SL_EVENT_TEXT];
    enum check_verdict verdict;
    ssize_t n;

    do {
        n = sl_conn_read(k->conn, k->answer + k->n_read, ANSWER_MOST - k->n_read);
        if (n == SL_IO_AGAIN)
            return;
        if (n > 0)
            k->n_read += (size_t)n;
        verdict = check_answer(&k->b->check, k->answer, k->n_read,
                               n <= 0 || k->n_read == ANSWER_MOST, why, sizeof why);
    } while (verdict == CHECK_MORE);
    check_over(k, verdict == CHECK_GOOD, why);
}

static void
check_sends(struct check *k)
{
    struct iovec iov = {(char *)(uintptr_t)k->request + k->n_sent, k->n_request - k->n_sent};
    ssize_t n = k->n_sent < k->n_request ? sl_conn_writev(k->conn, &iov, 1) : 0;

    if (n == SL_IO_ERROR) {
        check_over(k, 0, "closed while the request was sent");
        return;
    }
    if (n > 0)
        k->n_sent += (size_t)n;
    if (k->n_sent == k->n_request)
        check_reads(k);
}

static void
check_opened(struct check *k)
{
    k->is_open = 1;
    if (k->request == NULL) {
        check_over(k, 1, "connected");
        return;
    }
    k->n_sent = k->n_read = 0;
    k->answer = malloc(ANSWER_MOST);
    if (k->answer == NULL) { /* says nothing about the server */
        check_let_go(k);
        sl_timer_set(checks.loop, &k->timer, sl_loop_now(checks.loop) + wait_ms(k));
        return;
    }
    check_sends(k);
}

/* A server that keeps the connection open has said by now what it had to say. */
static void
check_late(struct check *k)
{
    char why[SL_EVENT_TEXT] = "no answer in time";

    if (k->is_open && k->n_read > 0)
        check_answer(&k->b->check, k->answer, k->n_read, 1, why, sizeof why);
    check_over(k, 0, k->is_open ? why : "no connection in time");
}

static void
check_ready(struct sl_conn *c, unsigned what)
{
    struct check *k = *sl_conn_protocol_data(c);

    if (what & SL_TIMEOUT)
        check_late(k);
    else if (k->is_open)
        check_sends(k);
    else if (what & SL_WRITABLE)
        check_opened(k);
    else
        check_over(k, 0, "the connection is refused or fails");
}

/* A seat may have got another server. */
static void
request_match(struct check *k)
{
    const char *address = k->server->address;

    if (k->b->check.is_tcp || address == k->address)
        return;
    if (k->request != NULL)
        apr_pool_clear(k->pool);
    k->request = check_request(k->pool, &k->b->check, k->server);
    k->n_request = strlen(k->request);
    k->address = address;
}

static void
check_due(struct sl_loop *loop, struct sl_timer *timer)
{
    struct check *k = (struct check *)(void *)((char *)timer - offsetof(struct check, timer));
    const char *why;

    if (sl_server_is_gone(k->server)) {
        k->address = NULL;
        sl_timer_set(loop, timer, sl_loop_now(loop) + wait_ms(k));
        return;
    }
    request_match(k);
    k->is_open = 0;
    k->name = k->server->name;
    k->began_ms = sl_loop_now(loop);
    k->conn = sl_server_open(loop, k->server, k->server->check_port, check_ready, k, &why);
    if (k->conn == NULL)
        check_over(k, 0, why);
    else
        sl_conn_timeout(k->conn, k->b->check.timeout_ms);
}

/* ---- with the generation that serves ---- */

static unsigned
n_checked(void)
{
    const struct balancer *b = NULL;
    unsigned i, n = 0;

    while ((b = balancer_next(b)) != NULL)
        for (i = 0; i < b->pool->n_servers; i++)
            n += (b->pool->servers[i]->flags & SL_SERVER_CHECKED) != 0;
    return n;
}

static void
check_make(struct check *k, struct balancer *b, struct sl_server *s, apr_pool_t *pool)
{
    k->server = s;
    k->b = b;
    k->timer.fn = check_due;
    k->timer.due = INT64_MAX;
    k->pool = pool;
    if (s->flags & SL_SERVER_SEAT)
        apr_pool_create(&k->pool, pool);
    request_match(k);
}

static void
checks_make(struct sl_worker *w)
{
    apr_pool_t *pool = sl_worker_pool(w);
    struct balancer *b = NULL;
    unsigned i;

    checks.loop = sl_worker_loop(w, 0);
    checks.at = apr_pcalloc(pool, (n_checked() + 1) * sizeof(struct check));
    while ((b = balancer_next(b)) != NULL)
        for (i = 0; i < b->pool->n_servers; i++)
            if (b->pool->servers[i]->flags & SL_SERVER_CHECKED)
                check_make(&checks.at[checks.n++], b, b->pool->servers[i], pool);
}

/* What a check said before nobody checks any more must not last. */
static void
unchecked_free(struct moment at)
{
    struct balancer *b = NULL;
    unsigned i;

    while ((b = balancer_next(b)) != NULL)
        for (i = 0; i < b->pool->n_servers; i++)
            if (!(b->pool->servers[i]->flags & SL_SERVER_CHECKED))
                health_tell(b->pool->servers[i], HEALTH_UNCHECKED, "it is not checked any more",
                            at);
}

/* Thread 0, or before it runs. */
void
checks_start(struct sl_worker *w)
{
    int64_t now_ms;
    unsigned i;

    if (checks.at == NULL)
        checks_make(w);
    unchecked_free(moment_of(checks.loop));
    now_ms = sl_loop_now(checks.loop);
    for (i = 0; i < checks.n; i++)
        sl_timer_set(checks.loop, &checks.at[i].timer,
                     now_ms + (int64_t)i * SPREAD_MS / checks.n);
}

void
checks_stop(void)
{
    unsigned i;

    for (i = 0; i < checks.n; i++) {
        sl_timer_stop(&checks.at[i].timer);
        check_let_go(&checks.at[i]);
    }
}
