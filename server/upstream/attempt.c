/* What is asked of an attempt and told to it: by the protocol of its connection, hooks and the
 * owners of pools.  What it means for the request is decided in exchange.c. */
#include "upstream/exchange.h"

#define INTERIM_MAX 32 /* 1xx responses to one request: nobody has use for more */

/* What a time-out means, by state. */
static const struct sl_cause *const late_causes[] = {
    [EX_PICK] = &sl_cause_no_server,
    [EX_WAIT] = &sl_cause_no_server,
    [EX_CONNECT] = &sl_cause_connect_timeout,
    [EX_SEND] = &sl_cause_upstream_send_timeout,
    [EX_FIRST] = &sl_cause_first_timeout,
    [EX_RELAY] = &sl_cause_idle_timeout,
    [EX_OVER] = &sl_cause_internal,
};

void
sl_attempt_late(struct sl_attempt *a)
{
    struct sl_exchange *ex = exchange_of(a);
    const struct sl_cause *cause = late_causes[ex->state];

    if (ex->loop->now_ms >= ex->deadline_ms)
        cause = &sl_cause_total_timeout;
    a->is_reused = 0; /* late, not stale */
    exchange_attempt_failed(ex, cause);
}

void
sl_attempt_writable(struct sl_attempt *a)
{
    struct sl_exchange *ex = exchange_of(a);

    if (ex->state == EX_SEND && (ex->body_ended || ex->r == NULL))
        exchange_goto(ex, EX_FIRST, ex->conf->first_ms);
    if (ex->r != NULL && !ex->body_ended)
        req_want(ex->r);
}

void
sl_attempt_interim(struct sl_attempt *a, int status, struct sl_fields *fields)
{
    struct sl_exchange *ex = exchange_of(a);

    a->has_response = 1;
    if (ex->n_interim++ == INTERIM_MAX) {
        exchange_attempt_failed(ex, &sl_cause_bad_response);
        return;
    }
    fields_drop_hop_by_hop(fields->at, fields->n, fields->ids);
    fields_unset_id(fields, SL_F_CONTENT_LENGTH); /* RFC 9110, 8.6 */
    if (ex->r != NULL)
        answer_interim(ex->r, status, fields);
}

void
sl_attempt_switched(struct sl_attempt *a, struct sl_span to)
{
    fields_push(a->response, SL_F_UPGRADE, SL_SPAN("Upgrade"), to);
}

static void __attribute__((noinline))
fields_compact(struct sl_fields *f)
{
    unsigned i, n = 0;

    f->ids = 0;
    for (i = 0; i < f->n; i++)
        if ((f->at[i].flags & FIELD_DROPPED) == 0) {
            f->ids |= sl_field_bit(f->at[i].id);
            f->at[n++] = f->at[i];
        }
    f->n = n;
}

/* RFC 9110, 7.8: a server may switch to what the client named, and says to what. */
static int
ex_is_switch_asked(const struct sl_exchange *ex)
{
    struct sl_span to = sl_fields_get_id(ex->a.response, SL_F_UPGRADE), one;
    struct sl_span asked = sl_fields_get_id(&ex->r->head, SL_F_UPGRADE);

    if (!ex->wants_upgrade || to.n == 0)
        return 0;
    while (sl_list_next(&to, &one))
        if (!list_has(asked, one))
            return 0;
    return 1;
}

/* The response's own framing and hop-by-hop fields end here; the next hop has its own. */
static void
ex_take_head(struct sl_exchange *ex, int status, int64_t body)
{
    struct sl_fields *f = ex->a.response;
    struct sl_span upgrade = sl_fields_get_id(f, SL_F_UPGRADE);

    ex->a.status = status;
    ex->a.has_response = 1;
    if (fields_may_have(f, SL_F_CONNECTION))
        ex->connection = sl_fields_joined(f, "Connection");
    if (fields_drop_hop_by_hop(f->at, f->n, f->ids))
        fields_compact(f);
    if (status == 204 || status == 101) /* RFC 9110, 8.6 */
        fields_unset_id(f, SL_F_CONTENT_LENGTH);
    if (upgrade.n > 0 && (status == 101 || status == 426)) /* RFC 9110, 7.8 */
        fields_push(f, SL_F_UPGRADE, SL_SPAN("Upgrade"), upgrade);
    exchange_drop_held(ex);
    if (ex->r != NULL) {
        ex->r->status = status;
        ex->r->length = body;
        if (status == 101) {
            ex->r->flags |= REQ_UPGRADED;
            ex->body_ended = 0;
        }
    }
}

/* RFC 8470, 5.2: 425 to what came as early data is the client's to know. */
static int
ex_came_early(const struct sl_exchange *ex)
{
    return sl_fields_get(&ex->r->head, "Early-Data").at != NULL;
}

/* Whether the pool's owner does not want this answer, and another server may have a better one. */
static int
ex_asks_another(struct sl_exchange *ex, int status)
{
    const struct sl_pool_owner *owner = ex->pool->owner;

    return owner != NULL && owner->answered != NULL && ex->r != NULL &&
           (ex->r->flags & REQ_DRY) == 0 &&
           owner->answered(&ex->a, ex->pool, status,
                           exchange_is_harmless(ex) && !(status == 425 && ex_came_early(ex)));
}

enum sl_flow
attempt_head(struct sl_attempt *a, int status, int64_t body)
{
    struct sl_exchange *ex = exchange_of(a);
    enum sl_flow flow;

    SL_ASSERT(ex->magic == EXCHANGE_MAGIC);
    if (status == 101 && !ex_is_switch_asked(ex)) {
        exchange_fail(ex, &sl_cause_unexpected_upgrade);
        return SL_FLOW_GONE;
    }
    a->status = status;
    a->first_us = ex->loop->wall_us - a->began_us;
    if (ex_asks_another(ex, status)) {
        exchange_attempt_again(ex, &sl_cause_unwanted_status);
        return SL_FLOW_GONE;
    }
    ex_take_head(ex, status, body);
    switch (hooks_run_attempt(ex->scope, SL_HOOK_UPSTREAM_RESPONSE, a)) {
    case SL_RETRY:
    case SL_FAIL:
        exchange_fail(ex, &sl_cause_hook_failed);
        return SL_FLOW_GONE;
    case SL_NEXT:
    case SL_DONE:
    case SL_WAIT:
        break;
    }
    if (ex->conf->intercept != NULL && intercept_wants(ex->conf, status))
        return intercept(ex, body);
    exchange_goto(ex, EX_RELAY, exchange_idle_ms(ex));
    ex->head_given = 1;
    flow = answer_head(ex->r);
    if (flow == SL_FLOW_GONE) {
        attempt_client_gone(a);
        return flow;
    }
    if (flow == SL_FLOW_FULL)
        attempt_waits(a);
    if (status == 101)
        req_want(ex->r);
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
        exchange_goto(ex, EX_SEND, ex->conf->send_ms);
}

void
attempt_waits(struct sl_attempt *a)
{
    exchange_goto(exchange_of(a), EX_RELAY, -1);
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
    attempt_lives(a);
    return attempt_data(a, data, 0);
}

void
sl_attempt_trailers(struct sl_attempt *a, struct sl_fields *fields)
{
    fields_drop_hop_by_hop(fields->at, fields->n, fields->ids);
    fields_drop_named(fields->at, fields->n, exchange_of(a)->connection);
    answer_trailers(exchange_of(a)->r, fields);
}

void
sl_attempt_unsent(struct sl_attempt *a)
{
    a->has_sent = 0;
    a->is_refused = 1;
}

void
sl_attempt_fail(struct sl_attempt *a, const struct sl_cause *cause)
{
    exchange_attempt_failed(exchange_of(a), cause);
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

    if (server->index < 64)
        return ex->tried >> server->index & 1;
    return ex->tried_more != NULL && (ex->tried_more[server->index / 64] >> server->index % 64 & 1);
}

int64_t
sl_attempt_first_us(const struct sl_attempt *a)
{
    return a->first_us;
}

int64_t
sl_attempt_deadline(const struct sl_attempt *a)
{
    return ((const struct sl_exchange *)(const void *)a)->deadline_ms;
}

void **
sl_attempt_owner_data(struct sl_attempt *a)
{
    return &a->owner_data;
}

void
sl_attempt_pick(struct sl_attempt *a)
{
    struct sl_exchange *ex = exchange_of(a);

    SL_ASSERT(ex->state == EX_WAIT);
    exchange_attempt(ex);
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
