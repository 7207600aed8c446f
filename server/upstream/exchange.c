/* Exchanges: see exchange.h.  This file decides; the connection's protocol moves bytes. */
#include "upstream/exchange.h"

#include "http/http1.h"

#include <apr_strings.h>

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define INTERIM_MAX 32 /* 1xx responses to one request: nobody has use for more */

static void ex_attempt(struct sl_exchange *ex);
static void ex_attempt_failed(struct sl_exchange *ex, const struct sl_cause *cause);
static void ex_connect(struct sl_exchange *ex);

_Static_assert(sizeof(struct held) <= sizeof(struct piece), "both are cut from loop->pieces");

/* What a time-out means, by state. */
static const struct sl_cause *const late_causes[] = {
    [EX_PICK] = &sl_cause_no_server,
    [EX_CONNECT] = &sl_cause_connect_timeout,
    [EX_SEND] = &sl_cause_upstream_send_timeout,
    [EX_FIRST] = &sl_cause_first_timeout,
    [EX_RELAY] = &sl_cause_idle_timeout,
    [EX_OVER] = &sl_cause_internal,
};

/* Enters a state and sets the time it may take. */
static void
ex_goto(struct sl_exchange *ex, enum ex_state state, int64_t may_take_ms)
{
    int64_t due = may_take_ms < 0 ? INT64_MAX : ex->loop->now_ms + may_take_ms;

    ex->state = (uint8_t)state;
    if (due > ex->deadline_ms)
        due = ex->deadline_ms;
    if (ex->a.conn != NULL)
        sl_timer_set(ex->loop, &ex->a.conn->timer, due);
}

static void
held_drop(struct sl_exchange *ex)
{
    while (ex->held != NULL) {
        struct held *h = ex->held;

        ex->held = h->next;
        sl_buf_drop(&h->buf);
        slab_give(&ex->loop->pieces, h);
    }
    ex->held_end = &ex->held;
    ex->holds_body = 0;
}

/* ---- the end of an attempt, and of the exchange ---- */

static void
ex_server_done(struct sl_exchange *ex, const struct sl_cause *cause)
{
    struct sl_attempt *a = &ex->a;

    if (a->server == NULL)
        return;
    hooks_run_attempt(ex->scope, SL_HOOK_UPSTREAM_DONE, a);
    atomic_fetch_sub_explicit(&a->server->pub.n_active, 1, memory_order_relaxed);
    if (ex->pool->owner != NULL && ex->pool->owner->done != NULL)
        ex->pool->owner->done(a, &a->server->pub, cause);
    if (ex->r != NULL)
        ex->r->upstream_us = ex->loop->wall_us - a->began_us;
    a->server = NULL;
}

static void
ex_drop_conn(struct sl_exchange *ex)
{
    struct sl_conn *c = ex->a.conn;

    ex->a.conn = NULL;
    if (c != NULL && c->upstream_protocol != NULL)
        c->upstream_protocol->cancel(&ex->a, c);
    else if (c != NULL) /* still connecting */
        sl_conn_close(&c);
}

/* The exchange is no more; its request, if it has one, hears of it by settling. */
static void
ex_free(struct sl_exchange *ex)
{
    if (ex->r != NULL) {
        ex->r->exchange = NULL;
        ex->r->flags |= REQ_SOURCE_DONE;
    }
    held_drop(ex);
    ex->magic = ~EXCHANGE_MAGIC;
    slab_give(&ex->loop->exchanges, ex);
}

void
exchange_cancel(struct sl_exchange *ex)
{
    ex_drop_conn(ex);
    ex_server_done(ex, &sl_cause_client_gone);
    ex_free(ex);
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
static void
ex_fail(struct sl_exchange *ex, const struct sl_cause *cause)
{
    struct sl_req *r = ex->r;
    char place[256] = "";

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
 * same; and when all that was taken of the body can be sent again. */
static int
ex_is_repeatable(const struct sl_exchange *ex)
{
    const struct sl_attempt *a = &ex->a;

    if (ex->head_given || a->has_response || !ex->holds_body || ex->r == NULL)
        return 0;
    return !a->has_sent || (!ex->wants_upgrade && method_is_idempotent(a->method));
}

/* A server is down when none of its addresses can be reached. */
static int
ex_has_address(struct sl_exchange *ex, const struct sl_cause *cause)
{
    if (ex->a.server == NULL ||
        (cause != &sl_cause_connect_failed && cause != &sl_cause_connect_timeout))
        return 0;
    return ++ex->n_unreachable < server_n_addresses(ex->a.server);
}

static void
ex_attempt_failed(struct sl_exchange *ex, const struct sl_cause *cause)
{
    struct sl_attempt *a = &ex->a;
    int again;

    if (ex->head_given || !ex_is_repeatable(ex)) {
        ex_fail(ex, cause);
        return;
    }
    if (a->is_reused && !a->is_replay && cause->status == 502) {
        ex_log_failure(ex, cause, "its kept connection was stale, replaying on a new one");
        ex_drop_conn(ex);
        a->is_replay = 1;
        hooks_run_attempt(ex->scope, SL_HOOK_UPSTREAM_DONE, a);
        ex_attempt(ex);
        return;
    }
    if (ex_has_address(ex, cause)) {
        ex_log_failure(ex, cause, "trying its next address");
        ex_drop_conn(ex);
        ex_connect(ex);
        return;
    }
    if (a->server != NULL && a->server->pub.index < 64)
        ex->tried |= (uint64_t)1 << a->server->pub.index;
    again = ex->pool->owner != NULL && ex->pool->owner->retry != NULL &&
            ex->pool->owner->retry(a, ex->pool, cause);
    if (!again) {
        ex_fail(ex, cause);
        return;
    }
    ex_log_failure(ex, cause, "trying another server");
    ex_drop_conn(ex);
    ex_server_done(ex, cause);
    a->number++;
    a->is_replay = 0;
    ex->retry_cause = cause;
    ex_attempt(ex);
}

void
sl_attempt_late(struct sl_attempt *a)
{
    struct sl_exchange *ex = exchange_of(a);
    const struct sl_cause *cause = late_causes[ex->state];

    if (ex->loop->now_ms >= ex->deadline_ms)
        cause = &sl_cause_total_timeout;
    a->is_reused = 0; /* late, not stale */
    ex_attempt_failed(ex, cause);
}

/* ---- sending ---- */

/* RFC 9110, 7.6.2: hops a TRACE or OPTIONS may still make, -1: without limit. */
static long
max_forwards(const struct sl_req *r)
{
    struct sl_span text = sl_fields_get_id(&r->head, SL_F_MAX_FORWARDS);
    long n = 0;
    size_t i;

    if (text.n == 0 || text.n > 9 ||
        !(sl_span_eq(r->method, SL_SPAN("TRACE")) || sl_span_eq(r->method, SL_SPAN("OPTIONS"))))
        return -1;
    for (i = 0; i < text.n; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return -1;
        n = n * 10 + (text.at[i] - '0');
    }
    return n;
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

/* The request goes out on a connection that is open. */
static void
ex_send(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;
    struct sl_req *r = ex->r;
    enum sl_flow flow;

    ex_goto(ex, EX_SEND, ex->conf->send_ms);
    a->response->n = 0;
    a->response->ids = 0;
    ex_make_view(ex);
    if (hooks_run_attempt(ex->scope, SL_HOOK_UPSTREAM_REQUEST, a) == SL_FAIL) {
        ex_fail(ex, &sl_cause_hook_failed);
        return;
    }
    flow = a->conn->upstream_protocol->start(a, a->conn);
    if (a->is_unsendable) {
        ex_fail(ex, &sl_cause_head_too_large);
        return;
    }
    if (flow == SL_FLOW_GONE || !ex_send_held(ex)) {
        ex_attempt_failed(ex, &sl_cause_send_failed);
        return;
    }
    if (flow == SL_FLOW_ROOM && (ex->body_ended || r->body_length == 0))
        ex_goto(ex, EX_FIRST, ex->conf->first_ms);
    if (flow == SL_FLOW_ROOM && !ex->body_ended)
        r->protocol->want(r);
}

/* ---- connecting ---- */

static void
ex_connected(struct sl_conn *c, unsigned what)
{
    struct sl_exchange *ex = c->protocol_data;
    int error = 0;
    socklen_t n = sizeof error;

    if (what & SL_TIMEOUT) {
        server_address_failed(c->server, ex->a.address);
        sl_attempt_late(&ex->a);
        return;
    }
    if ((c->io.ready & (SL_WRITABLE | SL_HANGUP)) == 0)
        return;
    getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &error, &n);
    if (error != 0 || (c->io.ready & SL_WRITABLE) == 0) {
        server_address_failed(c->server, ex->a.address);
        ex_attempt_failed(ex, &sl_cause_connect_failed);
        return;
    }
    c->protocol_data = NULL;
    c->upstream_protocol = ex->pool->protocol != NULL ? ex->pool->protocol : &http1_upstream;
    c->on_ready = c->upstream_protocol->ready;
    c->upstream_protocol->open(c);
    ex_send(ex);
}

static int
ex_open_socket(const struct upstream_address *to, int *is_done)
{
    int one = 1, rc, fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (to->family == AF_UNIX)
        rc = connect(fd, (const struct sockaddr *)&to->un, sizeof to->un);
    else {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        rc = connect(fd, &to->addr.u.sa, to->addr.len);
    }
    *is_done = rc == 0;
    if (rc == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static void
ex_connect(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;
    const struct upstream_address *to = server_address(a->server);
    struct sl_conn *c;
    int fd, is_done = 0;

    if (to == NULL) {
        ex_attempt_failed(ex, &sl_cause_unresolved);
        return;
    }
    fd = ex_open_socket(to, &is_done);
    c = fd >= 0 ? conn_make(ex->loop, fd, 0) : NULL;
    if (c == NULL) {
        server_address_failed(a->server, to);
        ex_attempt_failed(ex, &sl_cause_connect_failed);
        return;
    }
    a->conn = c;
    a->address = to;
    c->server = a->server;
    c->transport = ex->pool->transport;
    c->protocol_data = ex;
    c->on_ready = ex_connected;
    if (c->transport != NULL && c->transport->open(c, 0) != 0) {
        ex_attempt_failed(ex, &sl_cause_connect_failed);
        return;
    }
    ex_goto(ex, EX_CONNECT, ex->conf->connect_ms);
    if (is_done) {
        c->io.ready |= SL_WRITABLE;
        ex_connected(c, SL_WRITABLE);
    }
}

/* Picks a server, unless this is the replay of a stale connection, which goes to the same. */
static int
ex_pick(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;
    struct sl_server *s;

    if (a->is_replay && a->server != NULL)
        return 1;
    ex->state = EX_PICK;
    if (hooks_run_attempt(ex->scope, SL_HOOK_SELECT_SERVER, a) == SL_FAIL)
        return 0;
    if (a->server == NULL) {
        s = ex->pool->owner != NULL ? ex->pool->owner->select(a, ex->pool)
            : ex->pool->n_servers > 0 ? ex->pool->servers[0] : NULL;
        if (s == NULL)
            return 0;
        a->server = (struct upstream_server *)s;
    }
    atomic_fetch_add_explicit(&a->server->pub.n_active, 1, memory_order_relaxed);
    ex->r->server = &a->server->pub;
    return 1;
}

static void
ex_attempt(struct sl_exchange *ex)
{
    struct sl_attempt *a = &ex->a;

    if (!ex_pick(ex)) {
        ex_fail(ex, ex->retry_cause != NULL ? ex->retry_cause : &sl_cause_no_server);
        return;
    }
    ex->n_unreachable = 0;
    a->began_us = ex->loop->wall_us;
    a->has_sent = a->has_response = 0;
    a->conn = a->is_replay ? NULL : idle_take(a->server, ex->loop);
    a->is_reused = a->conn != NULL;
    if (a->conn == NULL)
        ex_connect(ex);
    else
        ex_send(ex);
}

/* Whether the client asks for another protocol and may (RFC 9110, 7.8). */
static int
ex_wants_upgrade(const struct sl_req *r, const struct sl_proxy_conf *conf)
{
    if (!fields_may_have(&r->head, SL_F_UPGRADE) || r->version != 11 || r->body_length != 0 ||
        !sl_fields_lists(&r->head, SL_F_CONNECTION, "upgrade"))
        return 0;
    return conf->upgrade == SL_UPGRADE_ANY ||
           (conf->upgrade == SL_UPGRADE_WEBSOCKET &&
            sl_span_eqi(sl_fields_get_id(&r->head, SL_F_UPGRADE), SL_SPAN("websocket")));
}

enum sl_verdict
sl_proxy(struct sl_req *r, const struct sl_target *target, const struct sl_proxy_conf *conf)
{
    struct sl_exchange *ex;

    if (fields_may_have(&r->head, SL_F_MAX_FORWARDS) && max_forwards(r) == 0)
        return sl_respond(r, sl_span_eq(r->method, SL_SPAN("TRACE")) ? 405 : 204, NULL, SL_SPAN(""));
    ex = slab_take(&r->loop->exchanges);
    memset(ex, 0, offsetof(struct sl_exchange, view));
    ex->magic = EXCHANGE_MAGIC;
    ex->loop = r->loop;
    ex->r = r;
    ex->pool = target->pool;
    ex->target = target;
    ex->conf = conf;
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
    ex_attempt(ex);
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
        held_drop(ex);
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
        ex_goto(ex, ex->body_ended ? EX_FIRST : EX_SEND,
                ex->body_ended ? ex->conf->first_ms : -1);
    else if (ex->state == EX_SEND)
        ex_goto(ex, EX_SEND, ex->conf->send_ms);
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
        ex_goto(ex, EX_RELAY, exchange_idle_ms(ex));
    else if (ex->state == EX_RELAY && ex->a.conn->timer.due != INT64_MAX)
        ex_goto(ex, EX_RELAY, exchange_idle_ms(ex)); /* an early answer: the upload is life, too */
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
    held_drop(ex);
    ex_sent(ex, ex->a.conn->upstream_protocol->trailers(&ex->a, fields));
}

void
exchange_want(struct sl_exchange *ex)
{
    if (ex->a.conn == NULL)
        return;
    if (ex->state == EX_RELAY)
        ex_goto(ex, EX_RELAY, exchange_idle_ms(ex));
    ex->a.conn->upstream_protocol->want(&ex->a);
}

/* ---- the server's side ---- */

void
sl_attempt_writable(struct sl_attempt *a)
{
    struct sl_exchange *ex = exchange_of(a);

    if (ex->state == EX_SEND && (ex->body_ended || ex->r == NULL))
        ex_goto(ex, EX_FIRST, ex->conf->first_ms);
    if (ex->r != NULL && !ex->body_ended)
        ex->r->protocol->want(ex->r);
}

void
sl_attempt_interim(struct sl_attempt *a, int status, struct sl_fields *fields)
{
    struct sl_exchange *ex = exchange_of(a);

    a->has_response = 1;
    if (ex->n_interim++ == INTERIM_MAX) {
        ex_attempt_failed(ex, &sl_cause_bad_response);
        return;
    }
    fields_drop_hop_by_hop(fields->at, fields->n, fields->ids);
    if (ex->r != NULL)
        answer_interim(ex->r, status, fields);
}

static void
fields_compact(struct sl_fields *f)
{
    unsigned i, n = 0;

    f->ids = 0;
    for (i = 0; i < f->n; i++)
        if ((f->at[i].flags & FIELD_DROPPED) == 0) {
            f->ids |= field_bit(f->at[i].id);
            f->at[n++] = f->at[i];
        }
    f->n = n;
}

/* The response's own framing and hop-by-hop fields end here; the next hop has its own. */
static void
ex_take_head(struct sl_exchange *ex, int status, int64_t body)
{
    struct sl_fields *f = ex->a.response;
    struct sl_span upgrade = sl_fields_get_id(f, SL_F_UPGRADE);

    ex->a.status = status;
    ex->a.has_response = 1;
    fields_drop_hop_by_hop(f->at, f->n, f->ids);
    fields_compact(f);
    if (status == 204 || status == 101) /* RFC 9110, 8.6 */
        fields_unset_id(f, SL_F_CONTENT_LENGTH);
    if (status == 101)
        fields_push(f, SL_F_UPGRADE, SL_SPAN("Upgrade"), upgrade);
    held_drop(ex);
    if (ex->r != NULL) {
        ex->r->status = status;
        ex->r->length = body;
        if (status == 101) {
            ex->r->flags |= REQ_UPGRADED;
            ex->body_ended = 0;
        }
    }
}

enum sl_flow
attempt_head(struct sl_attempt *a, int status, int64_t body)
{
    struct sl_exchange *ex = exchange_of(a);
    enum sl_flow flow;

    SL_ASSERT(ex->magic == EXCHANGE_MAGIC);
    if (status == 101 && !ex->wants_upgrade) {
        ex_fail(ex, &sl_cause_unexpected_upgrade);
        return SL_FLOW_GONE;
    }
    ex_take_head(ex, status, body);
    switch (hooks_run_attempt(ex->scope, SL_HOOK_UPSTREAM_RESPONSE, a)) {
    case SL_RETRY:
    case SL_FAIL:
        ex_fail(ex, &sl_cause_hook_failed);
        return SL_FLOW_GONE;
    case SL_NEXT:
    case SL_DONE:
    case SL_WAIT:
        break;
    }
    ex_goto(ex, EX_RELAY, exchange_idle_ms(ex));
    ex->head_given = 1;
    flow = answer_head(ex->r);
    if (flow == SL_FLOW_GONE) {
        attempt_client_gone(a);
        return flow;
    }
    if (flow == SL_FLOW_FULL)
        attempt_waits(a);
    if (status == 101)
        ex->r->protocol->want(ex->r);
    return flow;
}

enum sl_flow
sl_attempt_head_done(struct sl_attempt *a, int status, int64_t body)
{
    enum sl_flow flow = attempt_head(a, status, body);

    return flow == SL_FLOW_ROOM ? attempt_data(a, (struct sl_data){NULL, 0, NULL}, 0) : flow;
}

void
attempt_sends(struct sl_attempt *a)
{
    struct sl_exchange *ex = exchange_of(a);

    if (ex->state == EX_SEND)
        ex_goto(ex, EX_SEND, ex->conf->send_ms);
}

void
attempt_waits(struct sl_attempt *a)
{
    ex_goto(exchange_of(a), EX_RELAY, -1);
}

void
attempt_client_gone(struct sl_attempt *a)
{
    struct sl_req *r = exchange_of(a)->r;

    exchange_cancel(exchange_of(a));
    answer_instead(r);
    req_settle(r);
}

enum sl_flow
attempt_data(struct sl_attempt *a, struct sl_data data, int ends)
{
    enum sl_flow flow = answer_body(exchange_of(a)->r, data, ends);

    if (flow == SL_FLOW_GONE)
        attempt_client_gone(a);
    else if (flow == SL_FLOW_FULL && !ends)
        attempt_waits(a);
    return flow;
}

enum sl_flow
sl_attempt_body(struct sl_attempt *a, struct sl_data data)
{
    return attempt_data(a, data, 0);
}

void
sl_attempt_trailers(struct sl_attempt *a, struct sl_fields *fields)
{
    fields_drop_hop_by_hop(fields->at, fields->n, fields->ids);
    answer_trailers(exchange_of(a)->r, fields);
}

void
sl_attempt_end(struct sl_attempt *a, int reusable)
{
    struct sl_exchange *ex = exchange_of(a);
    struct sl_req *r = ex->r;
    struct sl_conn *c = a->conn;

    if ((r->flags & (REQ_ENDS_GIVEN | REQ_SOURCE_ENDED)) == 0 &&
        attempt_data(a, (struct sl_data){NULL, 0, NULL}, 1) == SL_FLOW_GONE)
        return;
    if (reusable && ex->body_ended && !conn_is_writing(c) && idle_put(c))
        a->conn = NULL;
    else
        ex_drop_conn(ex);
    ex_server_done(ex, NULL);
    ex_free(ex);
    req_settle(r);
}

void
sl_attempt_fail(struct sl_attempt *a, const struct sl_cause *cause)
{
    ex_attempt_failed(exchange_of(a), cause);
}

/* ---- what hooks and owners ask ---- */

struct sl_req *
sl_attempt_req(struct sl_attempt *a)
{
    return exchange_of(a)->r;
}

struct sl_loop *
sl_attempt_loop(struct sl_attempt *a)
{
    return exchange_of(a)->loop;
}

struct sl_server *
sl_attempt_server(struct sl_attempt *a)
{
    return &a->server->pub;
}

unsigned
sl_attempt_number(const struct sl_attempt *a)
{
    return a->number;
}

int
sl_attempt_tried(const struct sl_attempt *a, const struct sl_server *server)
{
    const struct sl_exchange *ex = (const struct sl_exchange *)(const void *)a;

    return server->index < 64 && (ex->tried >> server->index & 1);
}

struct sl_fields *
sl_attempt_head(struct sl_attempt *a)
{
    return &a->head;
}

struct sl_fields *
sl_attempt_response(struct sl_attempt *a)
{
    return a->response;
}

int
sl_attempt_status(const struct sl_attempt *a)
{
    return a->status;
}

void **
sl_attempt_protocol_data(struct sl_attempt *a)
{
    return &a->protocol_data;
}

struct sl_span
sl_attempt_method(struct sl_attempt *a)
{
    return a->method;
}

struct sl_span
sl_attempt_path(struct sl_attempt *a)
{
    return a->path;
}

int64_t
sl_attempt_body_length(const struct sl_attempt *a)
{
    const struct sl_exchange *ex = (const struct sl_exchange *)(const void *)a;

    return ex->r != NULL ? ex->r->body_length : 0;
}
