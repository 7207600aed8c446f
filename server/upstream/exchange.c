/* Exchanges: see exchange.h.  This file decides: which server, what is sent, whether another
 * attempt is made.  Connections come about in connect.c, the server's side is in attempt.c. */
#include "upstream/exchange.h"

#include <apr_strings.h>

#include <stdio.h>

_Static_assert(sizeof(struct held) <= sizeof(struct piece), "both are cut from loop->pieces");

/* ---- the end of an attempt, and of the exchange ---- */

static int
ex_is_dry(const struct sl_exchange *ex)
{
    return ex->r != NULL && (ex->r->flags & REQ_DRY) != 0;
}

static void
ex_server_done(struct sl_exchange *ex, const struct sl_cause *cause)
{
    struct sl_attempt *a = &ex->a;

    if (a->server == NULL)
        return;
    hooks_run_attempt(ex->scope, SL_HOOK_UPSTREAM_DONE, a);
    /* Before the owner looks who waits for room: who waits has looked at the count after that. */
    atomic_fetch_sub_explicit(a->server->pub.n_active, 1, memory_order_seq_cst);
    if (ex->pool->owner != NULL && ex->pool->owner->done != NULL && !ex_is_dry(ex))
        ex->pool->owner->done(a, &a->server->pub, cause);
    if (ex->r != NULL)
        ex->r->upstream_us = ex->loop->wall_us - a->began_us;
    a->server = NULL;
}

/* Only its protocol closes a connection that others may be using, when its time is over. */
static void
ex_leave_shared(struct sl_exchange *ex, struct sl_conn *c)
{
    int may_stay = ex->pool->send_proxy == 0 && !c->loop->is_stopping &&
                   c->epoch == server_epoch(c->server);

    ex->a.conn = NULL;
    if (--c->n_attempts == 0 && !c->io.is_dead)
        conn_due(c, may_stay ? idle_patience_ms(c) : 0);
}

static void
ex_drop_conn(struct sl_exchange *ex)
{
    struct sl_conn *c = ex->a.conn;

    ex->a.conn = NULL;
    if (c == NULL)
        return;
    if (ex->shares)
        sl_timer_stop(&ex->timer);
    if (ex->is_waiting) {
        exchange_stop_waiting(ex, c);
        return;
    }
    if (!c->io.is_dead)
        c->upstream_protocol->cancel(&ex->a, c);
    if (ex->shares)
        ex_leave_shared(ex, c);
}

/* The response is whole: the connection is kept where both sides are done with it. */
static void
ex_done_with_conn(struct sl_exchange *ex, int reusable)
{
    struct sl_conn *c = ex->a.conn;

    if (reusable && ex->shares)
        ex_leave_shared(ex, c);
    else if (reusable && ex->pool->send_proxy == 0 && ex->body_ended && !conn_is_writing(c) &&
             idle_put(c))
        ex->a.conn = NULL;
    else
        ex_drop_conn(ex);
}

/* The exchange is no more; its request, if it has one, hears of it by settling. */
static void
ex_free(struct sl_exchange *ex)
{
    if (ex->r != NULL) {
        ex->r->exchange = NULL;
        ex->r->flags |= REQ_SOURCE_DONE;
    }
    exchange_drop_held(ex);
    if (ex->shares)
        sl_timer_unlink(&ex->timer);
    ex->magic = ~EXCHANGE_MAGIC;
    slab_give(&ex->loop->exchanges, ex);
}

void
exchange_cancel(struct sl_exchange *ex)
{
    if (ex->state == EX_WAIT)
        ex->pool->owner->leave(&ex->a, ex->pool);
    ex_drop_conn(ex);
    ex_server_done(ex, &sl_cause_client_gone);
    ex_free(ex);
}

/* The response was given. */
void
sl_attempt_end(struct sl_attempt *a, int reusable)
{
    struct sl_exchange *ex = exchange_of(a);
    struct sl_req *r = ex->r;
    int is_intercepted = ex->state == EX_OVER;

    if ((r->flags & (REQ_ENDS_GIVEN | REQ_SOURCE_ENDED)) == 0 &&
        attempt_data(a, (struct sl_data){NULL, 0, NULL}, 1) == SL_FLOW_GONE)
        return;
    ex_done_with_conn(ex, reusable);
    ex_server_done(ex, NULL);
    ex_free(ex);
    if (is_intercepted)
        answer_replaced(r);
    req_settle(r);
}

/* The rest of an intercepted answer is not worth more of anybody's time. */
void
exchange_replace(struct sl_exchange *ex)
{
    struct sl_req *r = ex->r;

    ex_drop_conn(ex);
    ex_server_done(ex, NULL);
    ex_free(ex);
    answer_replaced(r);
    req_settle(r);
}

static void
ex_log_failure(struct sl_exchange *ex, const struct sl_cause *cause, const char *next)
{
    struct sl_attempt *a = &ex->a;
    int64_t us = a->server != NULL ? ex->loop->wall_us - a->began_us : 0;

    if (ex->r == NULL || !sl_log_wants(SL_WARN))
        return;
    sl_req_log(ex->r, SL_WARN, cause->id, "pool %s server %s: %s after %lld.%03lld ms; %s",
               ex->pool->name, a->server != NULL ? a->server->pub.name : "-", cause->text,
               (long long)us / 1000, (long long)us % 1000, next);
}

/* No more attempts: the request fails with this cause. */
void
exchange_fail(struct sl_exchange *ex, const struct sl_cause *cause)
{
    struct sl_req *r = ex->r;
    char place[256] = "";

    if (ex->state == EX_OVER) {
        exchange_replace(ex);
        return;
    }
    if (ex->a.server != NULL)
        snprintf(place, sizeof place, "pool %s server %s", ex->pool->name,
                 ex->a.server->pub.name);
    else
        snprintf(place, sizeof place, "pool %s", ex->pool->name);
    ex_drop_conn(ex);
    ex_server_done(ex, cause);
    ex_free(ex);
    if (r == NULL)
        return;
    r->flags &= ~(unsigned)REQ_SOURCE_DONE;
    sl_req_fail(r, 0, cause, "%s", place);
    req_settle(r);
}

static int
method_is_idempotent(struct sl_span m)
{
    static const struct sl_span safe[] = {{"GET", 3}, {"HEAD", 4}, {"OPTIONS", 7}, {"TRACE", 5},
                                          {"PUT", 3}, {"DELETE", 6}};
    size_t i;

    for (i = 0; i < sizeof safe / sizeof safe[0]; i++)
        if (sl_span_eq(m, safe[i]))
            return 1;
    return 0;
}

/* RFC 9110, 9.2.2: again only when the server cannot have acted, or acting twice is the
 * same; and when all that was taken of the body can be sent again.  What has come of a head that
 * is not whole, or none, was given to nobody. */
static int
ex_is_repeatable(const struct sl_exchange *ex)
{
    if (ex->head_given || !ex->holds_body || ex->r == NULL)
        return 0;
    return !ex->a.has_sent || exchange_is_harmless(ex);
}

int
exchange_is_harmless(const struct sl_exchange *ex)
{
    return !ex->head_given && ex->holds_body && ex->r != NULL && ex->n_interim == 0 &&
           !ex->wants_upgrade && method_is_idempotent(ex->a.method);
}

/* For sl_attempt_tried(). */
static void
ex_mark_tried(struct sl_exchange *ex)
{
    unsigned i = ex->a.server->pub.index;

    if (i < 64) {
        ex->tried |= (uint64_t)1 << i;
        return;
    }
    if (ex->tried_more == NULL)
        ex->tried_more =
            apr_pcalloc(ex->r->pool, (ex->pool->n_servers / 64 + 1) * sizeof(uint64_t));
    ex->tried_more[i / 64] |= (uint64_t)1 << i % 64;
}

void
exchange_attempt_again(struct sl_exchange *ex, const struct sl_cause *cause)
{
    struct sl_attempt *a = &ex->a;

    ex_mark_tried(ex);
    ex_log_failure(ex, cause, "trying another server");
    ex_drop_conn(ex);
    ex_server_done(ex, cause);
    a->number++;
    a->is_replay = 0;
    ex->retry_cause = cause;
    exchange_attempt(ex);
}

void
exchange_attempt_failed(struct sl_exchange *ex, const struct sl_cause *cause)
{
    struct sl_attempt *a = &ex->a;
    int again;

    if (ex->state == EX_WAIT || !ex_is_repeatable(ex)) {
        exchange_fail(ex, cause);
        return;
    }
    if ((a->is_reused || a->is_refused) && !a->is_replay && !a->has_response && cause->status == 502) {
        ex_log_failure(ex, cause, a->is_refused ? "it did not act on it, replaying on a new connection"
                                                : "its kept connection was stale, replaying on a new one");
        ex_drop_conn(ex);
        a->is_replay = 1;
        hooks_run_attempt(ex->scope, SL_HOOK_UPSTREAM_DONE, a);
        exchange_attempt(ex);
        return;
    }
    if (exchange_has_address(ex, cause)) {
        ex_log_failure(ex, cause, "trying its next address");
        ex_drop_conn(ex);
        exchange_connect(ex);
        return;
    }
    again = ex->pool->owner != NULL && ex->pool->owner->retry != NULL &&
            ex->pool->owner->retry(a, ex->pool, cause);
    if (again)
        exchange_attempt_again(ex, cause);
    else
        exchange_fail(ex, cause);
}

/* ---- sending ---- */

#define HOPS_MAX 1000000000

/* RFC 9110, 7.6.2: hops a TRACE or OPTIONS may still make, -1: without limit. */
static long
max_forwards(const struct sl_req *r)
{
    struct sl_span text = sl_fields_get_id(&r->head, SL_F_MAX_FORWARDS);
    long n = 0;
    size_t i;

    if (text.n == 0 ||
        !(sl_span_eq(r->method, SL_SPAN("TRACE")) || sl_span_eq(r->method, SL_SPAN("OPTIONS"))))
        return -1;
    for (i = 0; i < text.n; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return -1;
        if (n < HOPS_MAX)
            n = n * 10 + (text.at[i] - '0');
    }
    return n < HOPS_MAX ? n : HOPS_MAX;
}

/* What Host says to the server: the name in ProxyPass, with a pool the server's own. */
static struct sl_span
ex_authority(const struct sl_exchange *ex)
{
    const char *address = ex->a.server->pub.address;

    if (ex->target->authority.n > 0)
        return ex->target->authority;
    return strncmp(address, "unix:", 5) == 0 ? SL_SPAN("localhost") : sl_span(address);
}

/* The head as it will be sent: the client's fields but for hop-by-hop ones, and what the
 * core adds.  A view: made anew for each attempt. */
static void
ex_make_view(struct sl_exchange *ex)
{
    struct sl_req *r = ex->r;
    struct sl_fields *v = &ex->a.head;
    unsigned i;

    v->pool = r->pool;
    v->n = r->head.n;
    v->ids = r->head.ids;
    v->at = ex->view;
    v->room = VIEW_FIELDS;
    if (v->n + 8 > VIEW_FIELDS) {
        v->room = v->n + 16;
        v->at = apr_palloc(r->pool, v->room * sizeof *v->at);
    }
    memcpy(v->at, r->head.at, v->n * sizeof *v->at);
    fields_drop_hop_by_hop(v->at, v->n, v->ids);
    if (ex->conf->host == SL_HOST_UPSTREAM || sl_fields_get_id(v, SL_F_HOST).n == 0) {
        for (i = 0; i < v->n; i++)
            if (v->at[i].id == SL_F_HOST)
                v->at[i].flags |= FIELD_DROPPED;
        fields_push(v, SL_F_HOST, SL_SPAN("Host"), ex_authority(ex));
    }
    if (fields_may_have(v, SL_F_MAX_FORWARDS) && max_forwards(r) > 0)
        sl_fields_set(v, "Max-Forwards",
                      sl_span(apr_psprintf(r->pool, "%ld", max_forwards(r) - 1)));
    forwarded_add(r, v);
    if (ex->wants_upgrade)
        fields_push(v, SL_F_UPGRADE, SL_SPAN("Upgrade"),
                    sl_fields_get_id(&r->head, SL_F_UPGRADE));
}

static int
ex_send_held(struct sl_exchange *ex)
{
    const struct sl_upstream_protocol *p = ex->a.conn->upstream_protocol;
    struct held *h;

    for (h = ex->held; h != NULL; h = h->next)
        if (p->body(&ex->a, (struct sl_data){h->at, h->n, h->buf},
                    ex->body_ended && h->next == NULL) == SL_FLOW_GONE)
            return 0;
    return ex->held != NULL || !ex->body_ended || ex->r->body_length == 0 ||
           p->body(&ex->a, (struct sl_data){NULL, 0, NULL}, 1) != SL_FLOW_GONE;
}

int
exchange_prepare(struct sl_exchange *ex)
{
    ex->a.response->n = 0;
    ex->a.response->ids = 0;
    ex_make_view(ex);
    return hooks_run_attempt(ex->scope, SL_HOOK_UPSTREAM_REQUEST, &ex->a) == SL_FAIL ? -1 : 0;
}

/* The request goes out on a connection that is open. */
void
exchange_send(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;
    struct sl_req *r = ex->r;
    enum sl_flow flow;

    ex->state = EX_SEND;
    if (exchange_prepare(ex) != 0) {
        exchange_fail(ex, &sl_cause_hook_failed);
        return;
    }
    flow = a->conn->upstream_protocol->start(a, a->conn);
    if (a->is_unsendable) {
        exchange_fail(ex, &sl_cause_head_too_large);
        return;
    }
    a->has_sent = flow != SL_FLOW_GONE; /* of a head that is not whole nothing comes */
    if (flow == SL_FLOW_GONE || !ex_send_held(ex)) {
        exchange_attempt_failed(ex, &sl_cause_send_failed);
        return;
    }
    if (flow == SL_FLOW_ROOM && (ex->body_ended || r->body_length == 0))
        exchange_goto(ex, EX_FIRST, ex->conf->first_ms);
    else
        exchange_goto(ex, EX_SEND, ex->conf->send_ms);
    if (flow == SL_FLOW_ROOM && !ex->body_ended)
        req_want(r);
}

/* Picks a server, unless this is the replay of a stale connection, which goes to the same.
 * 1; 0: there is none to be had now; -1: a hook does not want it. */
static int
ex_pick(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;
    struct sl_server *s;

    if (a->is_replay && a->server != NULL)
        return 1;
    ex->state = EX_PICK;
    if (hooks_run_attempt(ex->scope, SL_HOOK_SELECT_SERVER, a) == SL_FAIL)
        return -1;
    if (a->server == NULL) {
        s = ex->pool->owner != NULL ? ex->pool->owner->select(a, ex->pool)
            : ex->pool->n_servers > 0 && sl_server_take(ex->pool->servers[0])
                ? ex->pool->servers[0] : NULL;
        if (s == NULL)
            return 0;
        a->server = (struct upstream_server *)s;
    }
    ex->r->server = &a->server->pub;
    return 1;
}

/* There is none to be had now: the exchange waits for one, or fails. */
static void
ex_without_server(struct sl_exchange *ex, int may_wait)
{
    const struct sl_pool_owner *owner = ex->pool->owner;
    const struct sl_cause *cause = &sl_cause_no_server;

    if (may_wait && owner != NULL && owner->wait != NULL && !ex_is_dry(ex)) {
        ex->state = EX_WAIT;
        cause = owner->wait(&ex->a, ex->pool);
        if (cause == NULL)
            return;
        ex->state = EX_PICK;
    }
    exchange_fail(ex, ex->retry_cause != NULL ? ex->retry_cause : cause);
}

/* Where a connection that has just ended would cost the request, not only a replay, it is looked at
 * once more. */
static struct sl_conn *
ex_take_idle(struct sl_exchange *ex)
{
    struct sl_conn *c = idle_take(ex->a.server, ex->loop);

    if (ex->r->body_length == 0 && !ex->wants_upgrade && method_is_idempotent(ex->a.method))
        return c;
    while (c != NULL && !idle_is_quiet(c)) {
        sl_conn_close(&c);
        c = idle_take(ex->a.server, ex->loop);
    }
    return c;
}

void
exchange_attempt(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;
    int picked = ex_pick(ex);

    if (picked != 1) {
        ex_without_server(ex, picked == 0);
        return;
    }
    if (ex_is_dry(ex)) {
        exchange_explain(ex);
        return;
    }
    ex->n_unreachable = 0;
    a->began_us = ex->loop->wall_us;
    a->first_us = -1;
    a->has_sent = a->has_response = a->is_refused = 0;
    a->conn = a->is_replay ? NULL
              : ex->shares ? idle_with_room(a->server, ex->loop)
                           : ex_take_idle(ex);
    a->is_reused = a->conn != NULL;
    if (a->conn == NULL) {
        exchange_connect(ex);
        return;
    }
    if (ex->shares && a->conn->n_attempts++ == 0)
        conn_due(a->conn, -1);
    exchange_send(ex);
}

/* Whether the client asks for another protocol and may (RFC 9110, 7.8). */
static int
ex_wants_upgrade(const struct sl_req *r, const struct sl_proxy_conf *conf)
{
    if (!fields_may_have(&r->head, SL_F_UPGRADE) || r->version == 10 || r->body_length != 0 ||
        !sl_fields_lists(&r->head, SL_F_CONNECTION, "upgrade"))
        return 0;
    return conf->upgrade == SL_UPGRADE_ANY ||
           (conf->upgrade == SL_UPGRADE_WEBSOCKET &&
            sl_span_eqi(sl_fields_get_id(&r->head, SL_F_UPGRADE), SL_SPAN("websocket")));
}

/* As the last recipient, which of the two methods has but OPTIONS to offer. */
static enum sl_verdict
ex_answer_last(struct sl_req *r)
{
    int is_trace = sl_span_eq(r->method, SL_SPAN("TRACE"));

    sl_fields_add(&r->response, "Allow", SL_SPAN("OPTIONS"));
    return sl_respond(r, is_trace ? 405 : 204, NULL, SL_SPAN(""));
}

/* Whether one of its connections carries several attempts. */
static int
pool_shares(const struct sl_pool *pool)
{
    return pool->protocol != NULL && pool->protocol->room != NULL;
}

enum sl_verdict
sl_proxy(struct sl_req *r, const struct sl_target *target, const struct sl_proxy_conf *conf)
{
    struct sl_exchange *ex;

    if (fields_may_have(&r->head, SL_F_MAX_FORWARDS) && max_forwards(r) == 0)
        return ex_answer_last(r);
    if (r->watch != NULL && pool_shares(target->pool))
        return watch_refuse(r);
    ex = slab_take(&r->loop->exchanges);
    memset(ex, 0, offsetof(struct sl_exchange, view));
    ex->magic = EXCHANGE_MAGIC;
    ex->loop = r->loop;
    ex->r = r;
    ex->pool = target->pool;
    ex->target = target;
    ex->conf = conf;
    ex->shares = (uint8_t)pool_shares(ex->pool);
    ex->timer.due = INT64_MAX;
    ex->timer.fn = exchange_late;
    ex->scope = r->scope;
    ex->deadline_ms = conf->total_ms < 0 ? INT64_MAX : r->loop->now_ms + conf->total_ms;
    ex->held_end = &ex->held;
    ex->holds_body = 1;
    ex->body_ended = r->body_length == 0;
    ex->wants_upgrade = (uint8_t)ex_wants_upgrade(r, conf);
    ex->a.method = r->method;
    ex->a.path = sl_req_upstream_path(r);
    ex->a.response = &r->response;
    r->exchange = ex;
    r->flags |= REQ_ANSWERED;
    return SL_DONE;
}

/* Not in sl_proxy(): what the exchange does is not the time of the hook that asked for it,
 * nor its crash. */
void
exchange_start(struct sl_exchange *ex)
{
    SL_ASSERT(ex->state == EX_PICK && ex->a.number == 0);
    exchange_attempt(ex);
}

/* ---- for another request ---- */

static struct sl_span
copied(apr_pool_t *pool, struct sl_span s)
{
    return s.at != NULL ? (struct sl_span){sl_span_dup(pool, s), s.n} : s;
}

/* What has come of a response lies in the old one's memory. */
static void
ex_move_response(struct sl_exchange *ex, struct sl_req *from, struct sl_req *to)
{
    const struct sl_field *x;
    unsigned i = 0;

    while ((x = sl_fields_next(&from->response, &i)) != NULL)
        fields_push(&to->response, (enum sl_field_id)x->id, copied(to->pool, x->name),
                    copied(to->pool, x->value));
    ex->a.response = &to->response;
    ex->connection = copied(to->pool, ex->connection);
    to->reason = copied(to->pool, from->reason);
    to->status = from->status;
    to->length = from->length;
}

void
exchange_move(struct sl_exchange *ex, struct sl_req *to)
{
    struct sl_req *from = ex->r;

    ex_move_response(ex, from, to);
    if (ex->tried_more != NULL)
        ex->tried_more = apr_pmemdup(to->pool, ex->tried_more,
                                     (ex->pool->n_servers / 64 + 1) * sizeof(uint64_t));
    ex->a.method = to->method;
    ex->a.path = sl_req_upstream_path(to);
    ex->r = to;
    to->exchange = ex;
    to->server = from->server;
    to->flags |= REQ_ANSWERED;
    from->exchange = NULL;
}

/* ---- the request's side ---- */

/* As much of its bytes as one buffer takes, in a buffer of their own. */
static void
held_copy(struct sl_loop *loop, struct held *h)
{
    const char *from = h->at;

    h->buf = buf_take(loop, h->n > BUF_SMALL ? BUF_LARGE : BUF_SMALL);
    if (h->n > buf_room(h->buf))
        h->n = buf_room(h->buf);
    memcpy(h->buf->bytes, from, h->n);
    h->buf->end = (unsigned)h->n;
    h->at = h->buf->bytes;
}

/* Kept for another attempt; between attempts always, else as far as ProxyBodyHold goes. */
static void
ex_hold(struct sl_exchange *ex, struct sl_data data)
{
    struct held *h;

    if (!ex->holds_body || data.n == 0)
        return;
    if (ex->state >= EX_SEND &&
        (data.buf == NULL || ex->n_held + data.n > (size_t)ex->conf->body_hold)) {
        exchange_drop_held(ex);
        return;
    }
    if (data.buf != NULL)
        sl_buf_hold(data.buf);
    for (; data.n > 0; data.at += h->n, data.n -= h->n) {
        h = slab_take(&ex->loop->pieces);
        *h = (struct held){NULL, data.buf, data.at, data.n};
        if (data.buf == NULL)
            held_copy(ex->loop, h);
        *ex->held_end = h;
        ex->held_end = &h->next;
        ex->n_held += h->n;
    }
}

/* A write that fails is not the end: the server may have answered before it closed. */
static enum sl_flow
ex_sent(struct sl_exchange *ex, enum sl_flow flow)
{
    if (flow == SL_FLOW_GONE)
        return SL_FLOW_FULL;
    if (ex->state == EX_SEND && flow == SL_FLOW_ROOM)
        exchange_goto(ex, ex->body_ended ? EX_FIRST : EX_SEND,
                ex->body_ended ? ex->conf->first_ms : -1);
    else if (ex->state == EX_SEND)
        exchange_goto(ex, EX_SEND, ex->conf->send_ms);
    return flow;
}

enum sl_flow
exchange_body(struct sl_exchange *ex, struct sl_data data, int ends)
{
    SL_ASSERT(ex->magic == EXCHANGE_MAGIC);
    ex_hold(ex, data);
    ex->body_ended = ends != 0;
    if (ex->state < EX_SEND)
        return SL_FLOW_FULL;
    if (ends && ex->a.status == 101) /* half of a tunnel is closed: the rest has its time */
        exchange_goto(ex, EX_RELAY, exchange_idle_ms(ex));
    else if (ex->state == EX_RELAY && exchange_timer(ex)->due != INT64_MAX)
        exchange_goto(ex, EX_RELAY, exchange_idle_ms(ex)); /* an early answer: the upload is life, too */
    return ex_sent(ex, ex->a.conn->upstream_protocol->body(&ex->a, data, ends));
}

void
exchange_trailers(struct sl_exchange *ex, struct sl_fields *fields)
{
    if (fields->n == 0 || ex->state < EX_SEND) { /* in another attempt trailers are left out */
        exchange_body(ex, (struct sl_data){NULL, 0, NULL}, 1);
        return;
    }
    ex->body_ended = 1;
    exchange_drop_held(ex);
    fields_drop_named(fields->at, fields->n,
                      sl_fields_joined(&ex->r->head, "Connection"));
    ex_sent(ex, ex->a.conn->upstream_protocol->trailers(&ex->a, fields));
}

void
exchange_want(struct sl_exchange *ex)
{
    if (ex->a.conn == NULL)
        return;
    if (ex->state == EX_RELAY)
        exchange_goto(ex, EX_RELAY, exchange_idle_ms(ex));
    ex->a.conn->upstream_protocol->want(&ex->a);
}
