/* The life of a request: made, run through its phases, settled, freed. */
#include "http/request.h"

#include "runtime/counter.h"
#include "upstream/exchange.h"

#include <stdarg.h>
#include <stdio.h>

/* The phases a request passes before somebody answers. */
#define PHASE_FIRST SL_HOOK_CREATED
#define PHASE_LAST  SL_HOOK_HANDLER
_Static_assert(PHASE_LAST - PHASE_FIRST == 5, "created, head_read, route, access, fixup, handler");

struct sl_req *
sl_req_new(struct sl_conn *c, const struct sl_protocol *protocol)
{
    struct sl_loop *loop = c->loop;
    apr_pool_t *pool = loop_pool_take(loop);
    struct sl_req *r = apr_palloc(pool, sizeof *r);

    memset(r, 0, offsetof(struct sl_req, client));
    r->magic = REQ_MAGIC;
    r->flags = sl_log_wants(SL_DEBUG) ? REQ_NOTING : 0;
    r->pool = pool;
    r->loop = loop;
    r->conn = c;
    r->protocol = protocol;
    r->scope = c->listener->scope;
    r->phase = PHASE_FIRST;
    r->version = 11;
    r->length = -1;
    r->upstream_us = -1;
    r->started_us = loop->wall_us;
    r->head.pool = r->response.pool = pool;
    r->notes_end = &r->notes;
    return r;
}

static int
is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

/* The authority's host in lower case: what VirtualHost names are compared with. */
static void
req_set_host(struct sl_req *r, struct sl_span name)
{
    char *low;
    size_t i;

    for (i = 0; i < name.n && !is_upper(name.at[i]); i++)
        ;
    if (i == name.n) {
        r->host = name;
        return;
    }
    low = apr_palloc(r->pool, name.n);
    for (i = 0; i < name.n; i++)
        low[i] = (char)(is_upper(name.at[i]) ? name.at[i] | 0x20 : name.at[i]);
    r->host = (struct sl_span){low, name.n};
}

/* Path, '?' and query stand in one piece, and all readers rely on it.  "http://host?a" has
 * no slash that could stand there: a piece is made. */
static void
req_join_query(struct sl_req *r)
{
    if (r->query.at == NULL || r->query.at == r->path.at + r->path.n + 1)
        return;
    r->path.at = sl_spans_join(r->pool, (struct sl_span[]){r->path, SL_SPAN("?"), r->query}, 3).at;
    r->query.at = r->path.at + r->path.n + 1;
}

int
sl_req_set_line(struct sl_req *r, struct sl_span method, struct sl_span target, int version)
{
    struct target t;

    r->method = method;
    r->target = target;
    r->version = version;
    if (target_split(method, target, &t) != PARSE_OK) {
        r->path = target;
        r->cause = &sl_cause_bad_path;
        return -1;
    }
    r->path = t.path;
    r->query = t.query;
    r->authority = t.authority;
    req_join_query(r);
    if (t.scheme.n == 5 && !sl_req_is_tls(r) && !sl_req_peer_is_trusted(r)) {
        r->cause = &sl_cause_misdirected; /* RFC 9110, 7.4 */
        return -1;
    }
    return 0;
}

/* RFC 9112, 3.2.2 and 3.3: the target's authority wins over Host, which must be sane all
 * the same. */
static const struct sl_cause *
req_find_host(struct sl_req *r)
{
    struct sl_span host = sl_fields_get_id(&r->head, SL_F_HOST), name = {"", 0};
    int port;

    if (host.n > 0 && !host_split(host, &name, &port))
        return &sl_cause_bad_host;
    if (r->authority.at == NULL)
        r->authority = host;
    else {
        sl_fields_set(&r->head, "Host", r->authority);
        if (!host_split(r->authority, &name, &port))
            return &sl_cause_bad_host;
    }
    req_set_host(r, name);
    return NULL;
}

static int
req_normalise(struct sl_req *r)
{
    char *to;
    int is_same, n;

    if (path_is_normal(r->path)) {
        r->match = r->path;
        return 0;
    }
    to = apr_palloc(r->pool, r->path.n + 1);
    n = path_normalise(r->path, to, &is_same);
    if (n < 0)
        return -1;
    r->match = is_same ? r->path : (struct sl_span){to, (size_t)n};
    return 0;
}

void
sl_req_start(struct sl_req *r, int64_t body)
{
    const struct sl_cause *why = r->cause;

    r->body_length = body;
    if (body == 0)
        r->flags |= REQ_BODY_DONE;
    if (why == NULL && sl_span_eq(r->method, SL_SPAN("CONNECT")))
        why = &sl_cause_connect; /* a 2xx would make the connection a tunnel */
    if (why == NULL)
        why = req_find_host(r);
    if (why == NULL && req_normalise(r) != 0)
        why = &sl_cause_bad_path;
    if (why != NULL) {
        r->cause = NULL;
        req_refuse(r, why);
        return;
    }
    req_run(r);
}

void
sl_req_ask_upgrade(struct sl_req *r, struct sl_span to)
{
    fields_push(&r->head, SL_F_CONNECTION, SL_SPAN("Connection"), SL_SPAN("upgrade"));
    fields_push(&r->head, SL_F_UPGRADE, SL_SPAN("Upgrade"), to);
}

void
sl_req_set_head_size(struct sl_req *r, unsigned n)
{
    r->head_size = n;
}

void
sl_req_abort(struct sl_req *r, const struct sl_cause *cause)
{
    req_abort(r, cause);
}

void
sl_req_start_refused(struct sl_req *r, const struct sl_cause *cause)
{
    req_refuse(r, cause);
}

void
req_refuse(struct sl_req *r, const struct sl_cause *cause)
{
    r->phase = PHASE_LAST + 1;
    if (r->method.at == NULL)
        r->method = SL_SPAN("-");
    if (r->path.at == NULL)
        r->path = r->target.at != NULL ? r->target : SL_SPAN("-");
    if (r->match.at == NULL)
        r->match = r->path;
    r->flags |= REQ_NO_REUSE;
    sl_req_fail(r, 0, cause, NULL);
    req_settle(r);
}

/* Given up for a reason of the client's side while it was answered. */
void
req_abort(struct sl_req *r, const struct sl_cause *cause)
{
    if (r->exchange != NULL)
        exchange_cancel(r->exchange);
    source_drop(r);
    r->flags |= REQ_NO_REUSE;
    sl_req_fail(r, 0, cause, NULL);
    req_settle(r);
}

/* One phase: its hooks in order.  Returns 0 when the request waits or has an answer. */
static int
req_run_phase(struct sl_req *r, uint64_t *began)
{
    while (r->hook < r->list->n) {
        const struct hook_call *call = &r->list->at[r->hook++];

        switch (hook_call_req(call, r, began)) {
        case SL_NEXT:
        case SL_RETRY:
            break;
        case SL_DONE:
            r->hook = (uint16_t)r->list->n;
            break;
        case SL_WAIT:
            if (r->flags & REQ_WAITING)
                return 0;
            sl_req_fail(r, 0, &sl_cause_hook_failed, "mod_%s: %s waits without a token",
                        call->module->name, call->hook->name);
            return 0;
        case SL_FAIL:
            if ((r->flags & REQ_ANSWERED) == 0)
                sl_req_fail(r, 0, &sl_cause_hook_failed, "mod_%s: %s", call->module->name,
                            call->hook->name);
            return 0;
        }
        if (r->flags & REQ_ANSWERED)
            return 0;
    }
    return 1;
}

#define LINE_MARKS 10 /* of "METHOD TARGET HTTP/1.1", beside the two words */

/* Parsing was bounded by the loosest limits of any scope: behind the route phase those of the
 * request's own hold. */
static const struct sl_cause *
req_over_limit(const struct sl_req *r)
{
    const struct core_conf *core = r->scope->core;

    if (r->method.n + r->target.n + LINE_MARKS > (size_t)core->limit_line)
        return &sl_cause_line_too_long;
    if (r->head_size > core->limit_head)
        return &sl_cause_head_too_large;
    if (r->head.n > core->limit_fields)
        return &sl_cause_too_many_fields;
    if (core->limit_body >= 0 && r->body_length > core->limit_body)
        return &sl_cause_body_too_large;
    return NULL;
}

/* 1: go on to the next phase. */
static int
req_phase_over(struct sl_req *r)
{
    const struct sl_cause *why;

    if (r->phase == SL_HOOK_ACCESS && r->access != NULL)
        return access_settle(r);
    if (r->phase != SL_HOOK_ROUTE || (why = req_over_limit(r)) == NULL)
        return 1;
    r->flags |= REQ_NO_REUSE;
    sl_req_fail(r, 0, why, NULL);
    return 0;
}

void
req_run_from(struct sl_req *r, enum sl_hook_point point)
{
    r->phase = point <= PHASE_LAST ? (uint16_t)point : PHASE_LAST + 1;
    req_run(r);
}

void
req_run(struct sl_req *r)
{
    struct sl_loop *loop = r->loop;
    uint64_t began = hook_clock();

    r->flags |= REQ_RUNNING;
    loop->n_running++;
    for (; r->phase <= PHASE_LAST; r->phase++, r->list = NULL) {
        if (r->list == NULL) {
            r->list = &r->scope->lists[r->phase];
            r->hook = 0;
        }
        if (!req_run_phase(r, &began) || !req_phase_over(r))
            break;
    }
    if (r->exchange != NULL && (r->flags & REQ_WAITING) == 0)
        exchange_start(r->exchange);
    else if (r->source != NULL && (r->flags & REQ_HEAD_GIVEN) == 0)
        answer_from_source(r); /* what it does is not the time of the hook that named it */
    r->flags &= ~(unsigned)REQ_RUNNING;
    if (r->flags & REQ_GONE)
        sl_req_finish(&r);
    else {
        if (r->phase > PHASE_LAST && (r->flags & REQ_ANSWERED) == 0)
            sl_req_fail(r, 0, &sl_cause_no_handler, NULL);
        req_settle(r);
    }
    if (--loop->n_running == 0 && loop->due_subrequests != NULL)
        subrequests_begin(loop);
}

void
req_settle(struct sl_req *r)
{
    if ((r->flags & (REQ_RUNNING | REQ_SETTLED | REQ_SOURCE_DONE | REQ_IN_RESPONSE)) !=
        REQ_SOURCE_DONE)
        return;
    if (r->filters != NULL && filters_wait(r))
        return;
    r->flags |= REQ_SETTLED;
    r->protocol->ended(r);
}

static void
req_run_log(struct sl_req *r)
{
    const struct hook_list *list = &r->scope->lists[SL_HOOK_LOG];
    uint64_t began = list->n > 0 ? hook_clock() : 0;
    unsigned i;

    for (i = 0; i < list->n; i++)
        hook_call_req(&list->at[i], r, &began);
}

void
sl_req_finish(struct sl_req **rp)
{
    struct sl_req *r = *rp;
    apr_pool_t *pool = r->pool;
    struct sl_loop *loop = r->loop;

    *rp = NULL;
    SL_ASSERT(r->magic == REQ_MAGIC && r->exchange == NULL && r->source == NULL);
    req_token_drop(r);
    if (r->flags & REQ_SUB)
        subrequest_unlink(r);
    else {
        counter_step(loop->n_requests);
        req_run_log(r);
    }
    pace_drop(r);
    filters_drop(r);
    if (r->head_buf != NULL)
        sl_buf_drop(&r->head_buf);
    if (r->response_buf != NULL)
        sl_buf_drop(&r->response_buf);
    r->magic = ~REQ_MAGIC;
    loop_pool_give(loop, &pool);
}

/* The client left.  The source is stopped, the log is told, the memory goes. */
void
sl_req_gone(struct sl_req *r)
{
    r->flags |= REQ_GONE | REQ_SETTLED | REQ_SOURCE_DONE | REQ_NO_REUSE;
    if (r->cause == NULL && (r->flags & REQ_ENDS_GIVEN) == 0) {
        r->cause = &sl_cause_client_gone;
        if ((r->flags & REQ_SUB) == 0)
            sl_req_log(r, SL_INFO, r->cause->id, "%s", r->cause->text);
    }
    if (r->status == 0)
        r->status = sl_cause_client_gone.status;
    if (r->exchange != NULL)
        exchange_cancel(r->exchange);
    source_drop(r);
    if (r->flags & REQ_RUNNING)
        return; /* req_run() does the rest */
    sl_req_finish(&r);
}

enum sl_flow
sl_req_body(struct sl_req *r, struct sl_data data, int ends)
{
    int64_t limit = r->scope->core->limit_body;

    r->body_seen += (int64_t)data.n;
    if (ends)
        r->flags |= REQ_BODY_DONE;
    if (limit >= 0 && r->body_seen > limit && (r->flags & REQ_UPGRADED) == 0) {
        req_abort(r, &sl_cause_body_too_large);
        return SL_FLOW_GONE;
    }
    return r->exchange != NULL ? pace_body(r, data.n, ends, exchange_body(r->exchange, data, ends))
                               : SL_FLOW_GONE;
}

void
sl_req_trailers(struct sl_req *r, struct sl_fields *fields)
{
    r->flags |= REQ_BODY_DONE;
    if (r->exchange != NULL)
        exchange_trailers(r->exchange, fields);
}

void
sl_req_writable(struct sl_req *r)
{
    if (r->flags & REQ_SUB)
        subrequest_has_room(r);
    if (r->filters != NULL && filters_room(r))
        return;
    if (r->exchange != NULL)
        exchange_want(r->exchange);
    else if (r->source != NULL)
        source_want(r);
}

/* What a client did wrong is no error of the server's, whatever the status. */
static int
cause_is_clients(const struct sl_cause *cause)
{
    return cause->status < 500 ||
           (strncmp(cause->id, "SL04", 4) == 0 && strcmp(cause->id, sl_cause_internal.id) < 0);
}

/* While response hooks run, their driver sends the page; while they wait, nobody else will. */
static void
req_fail_response(struct sl_req *r, int status)
{
    r->failed_status = status;
    if (r->flags & REQ_IN_RESPONSE_HOOK)
        return;
    req_token_drop(r);
    r->flags &= ~(unsigned)(REQ_IN_RESPONSE | REQ_WAITING);
    answer_instead(r);
}

/* A head that has not left yet makes place for the page of the failure. */
static int
req_take_back(struct sl_req *r)
{
    if (r->protocol->take_back == NULL || !r->protocol->take_back(r))
        return 0;
    r->flags &= ~(unsigned)(REQ_HEAD_GIVEN | REQ_ENDS_GIVEN | REQ_SOURCE_ENDED);
    filters_drop(r);
    return 1;
}

enum sl_verdict
sl_req_refuse(struct sl_req *r, int status, const struct sl_cause *cause)
{
    if (r->cause == NULL)
        r->cause = cause;
    if ((r->flags & REQ_HEAD_GIVEN) && !req_take_back(r)) {
        answer_cut(r, cause);
        return SL_FAIL;
    }
    r->flags |= REQ_FAILED;
    if (status == 0)
        status = cause->status;
    if (r->flags & (REQ_IN_RESPONSE_HOOK | REQ_IN_RESPONSE))
        req_fail_response(r, status);
    else
        answer_error(r, status, cause);
    return SL_FAIL;
}

enum sl_verdict
sl_req_fail(struct sl_req *r, int status, const struct sl_cause *cause, const char *fmt, ...)
{
    char text[512] = "";
    va_list args;

    if (fmt != NULL) {
        va_start(args, fmt);
        vsnprintf(text, sizeof text, fmt, args);
        va_end(args);
    }
    if (r->cause == NULL)
        r->cause = cause;
    sl_req_log(r, cause_is_clients(cause) ? SL_INFO : SL_ERROR, cause->id, "%s%s%s",
               cause->text, text[0] != '\0' ? ": " : "", text);
    return sl_req_refuse(r, status, cause);
}
