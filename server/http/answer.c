/* The answer on its way out: response hooks once, then head, body and end to the protocol.
 * Sources call these in that order; nobody else does. */
#include "http/request.h"

#include "upstream/exchange.h"

#include <apr_strings.h>

#include <stdio.h>

#define STATUSES(X)                                                                          \
    X(100, "Continue") X(101, "Switching Protocols") X(102, "Processing")                    \
    X(103, "Early Hints") X(200, "OK") X(201, "Created") X(202, "Accepted")                  \
    X(203, "Non-Authoritative Information") X(204, "No Content") X(205, "Reset Content")     \
    X(206, "Partial Content") X(300, "Multiple Choices") X(301, "Moved Permanently")         \
    X(302, "Found") X(303, "See Other") X(304, "Not Modified") X(307, "Temporary Redirect")  \
    X(308, "Permanent Redirect") X(400, "Bad Request") X(401, "Unauthorized")                \
    X(402, "Payment Required") X(403, "Forbidden") X(404, "Not Found")                       \
    X(405, "Method Not Allowed") X(406, "Not Acceptable")                                    \
    X(407, "Proxy Authentication Required") X(408, "Request Timeout") X(409, "Conflict")     \
    X(410, "Gone") X(411, "Length Required") X(412, "Precondition Failed")                   \
    X(413, "Content Too Large") X(414, "URI Too Long") X(415, "Unsupported Media Type")      \
    X(416, "Range Not Satisfiable") X(417, "Expectation Failed")                             \
    X(421, "Misdirected Request") X(422, "Unprocessable Content") X(423, "Locked")           \
    X(425, "Too Early") X(426, "Upgrade Required") X(428, "Precondition Required")           \
    X(429, "Too Many Requests") X(431, "Request Header Fields Too Large")                    \
    X(451, "Unavailable For Legal Reasons") X(499, "Client Closed Request")                  \
    X(500, "Internal Server Error") X(501, "Not Implemented") X(502, "Bad Gateway")          \
    X(503, "Service Unavailable") X(504, "Gateway Timeout")                                  \
    X(505, "HTTP Version Not Supported") X(507, "Insufficient Storage")

const char *
status_reason(int status)
{
    switch (status) {
#define STATUS_CASE(code, reason)                                                            \
    case code:                                                                               \
        return reason;
        STATUSES(STATUS_CASE)
#undef STATUS_CASE
    default: /* open set: any three digits are a status */
        return "";
    }
}

int
answer_has_body(const struct sl_req *r)
{
    return r->status >= 200 ? r->status != 204 && r->status != 304 &&
                                  !sl_span_eq(r->method, SL_SPAN("HEAD"))
                            : r->status == 101;
}

/* Hooks have spoken: the protocol gets the head. */
static enum sl_flow
answer_begin(struct sl_req *r)
{
    int ends = !answer_has_body(r) || (r->length == 0 && r->filters == NULL);

    r->flags |= REQ_HEAD_GIVEN;
    if (ends)
        r->flags |= REQ_ENDS_GIVEN;
    return r->protocol->head(r, ends);
}

/* Runs what is left of the response hooks: 1 when they are through, 0 when one waits, -1 when
 * one failed the request. */
static int
answer_run_hooks(struct sl_req *r)
{
    uint64_t began = r->list->n > 0 ? hook_clock() : 0;

    while (r->hook < r->list->n) {
        const struct hook_call *call = &r->list->at[r->hook++];
        enum sl_verdict v;

        r->flags |= REQ_IN_RESPONSE_HOOK;
        v = hook_call_req(call, r, &began);
        r->flags &= ~(unsigned)REQ_IN_RESPONSE_HOOK;
        if (r->failed_status != 0)
            return -1;
        if (v == SL_DONE)
            break;
        if (v == SL_WAIT && (r->flags & REQ_WAITING)) {
            r->flags |= REQ_IN_RESPONSE;
            return 0;
        }
        if (v == SL_FAIL || v == SL_WAIT)
            sl_req_log(r, SL_ERROR, "SL0461", "mod_%s: %s failed; its change is left out",
                       call->module->name, call->hook->name);
    }
    return 1;
}

static enum sl_flow
answer_after_hooks(struct sl_req *r)
{
    switch (answer_run_hooks(r)) {
    case 1:
        return answer_begin(r);
    case 0:
        return SL_FLOW_FULL;
    default:
        return SL_FLOW_GONE;
    }
}

enum sl_flow
answer_head(struct sl_req *r)
{
    r->flags |= REQ_ANSWERED;
    if (r->watch != NULL)
        r = watch_tell(r);
    if (r->flags & REQ_SUB) /* its answer is an answer's raw material */
        return answer_begin(r);
    r->list = &r->scope->lists[SL_HOOK_RESPONSE];
    r->hook = 0;
    return answer_after_hooks(r);
}

static enum sl_flow
answer_out(struct sl_req *r, struct sl_data data, int ends)
{
    if (ends)
        r->flags |= REQ_ENDS_GIVEN;
    r->bytes_sent += (int64_t)data.n;
    return r->protocol->body(r, data, ends);
}

enum sl_flow
answer_body(struct sl_req *r, struct sl_data data, int ends)
{
    if (r->flags & (REQ_ENDS_GIVEN | REQ_SOURCE_ENDED | REQ_CUT))
        return SL_FLOW_ROOM;
    if (ends)
        r->flags |= REQ_SOURCE_ENDED;
    if (r->filters != NULL)
        return filters_body(r, data, ends);
    return answer_out(r, data, ends);
}

enum sl_flow
answer_last(struct sl_req *r, struct sl_data data, int ends)
{
    return answer_out(r, data, ends);
}

int
answer_may_bypass(const struct sl_req *r)
{
    return r->filters == NULL && conn_can_splice(r->conn) &&
           (r->flags & (REQ_ENDS_GIVEN | REQ_SOURCE_ENDED | REQ_CUT)) == 0;
}

enum sl_flow
answer_trailers(struct sl_req *r, struct sl_fields *fields)
{
    if (r->flags & (REQ_ENDS_GIVEN | REQ_SOURCE_ENDED | REQ_CUT))
        return SL_FLOW_ROOM;
    r->flags |= REQ_SOURCE_ENDED;
    if (r->filters != NULL)
        return filters_body(r, (struct sl_data){NULL, 0, NULL}, 1);
    r->flags |= REQ_ENDS_GIVEN;
    return r->protocol->trailers(r, fields);
}

enum sl_flow
answer_interim(struct sl_req *r, int status, struct sl_fields *fields)
{
    return r->flags & REQ_HEAD_GIVEN ? SL_FLOW_ROOM : r->protocol->interim(r, status, fields);
}

void
answer_cut(struct sl_req *r, const struct sl_cause *cause)
{
    if (r->cause == NULL)
        r->cause = cause;
    source_drop(r);
    r->flags |= REQ_CUT | REQ_SOURCE_DONE | REQ_NO_REUSE;
    r->protocol->reset(r);
}

static void
respond_finish(struct sl_req *r)
{
    if ((r->flags & REQ_ENDS_GIVEN) == 0 &&
        answer_body(r, (struct sl_data){r->respond_body.at, r->respond_body.n, NULL}, 1) ==
            SL_FLOW_GONE)
        answer_cut(r, &sl_cause_client_gone);
    r->flags |= REQ_SOURCE_DONE;
}

/* RFC 9110, 9.3.2: HEAD says of a body what GET would. */
void
answer_set_length(struct sl_req *r, int64_t length)
{
    r->length = length;
    if (r->status == 204 || r->status == 304 || length < 0 || !sl_span_eq(r->method, SL_SPAN("HEAD")))
        return;
    fields_unset_id(&r->response, SL_F_CONTENT_LENGTH);
    fields_push(&r->response, SL_F_CONTENT_LENGTH, SL_SPAN("Content-Length"),
                sl_span(apr_psprintf(r->pool, "%ld", (long)length)));
}

static void
respond_set(struct sl_req *r, int status, const char *type, struct sl_span body)
{
    r->status = status;
    answer_set_length(r, (int64_t)body.n);
    r->respond_body = body;
    if (type != NULL)
        fields_push(&r->response, SL_F_CONTENT_TYPE, SL_SPAN("Content-Type"), sl_span(type));
}

static void
respond_set_page(struct sl_req *r, int status, const struct error_page *page)
{
    if (page->location.n == 0) {
        respond_set(r, status, page->type, page->body);
        return;
    }
    respond_set(r, 302, NULL, SL_SPAN(""));
    r->page_of = status;
    fields_push(&r->response, SL_F_LOCATION, SL_SPAN("Location"), page->location);
}

/* The status in words, and the id to ask about. */
static void
respond_set_plain(struct sl_req *r, int status, const struct sl_cause *cause)
{
    struct sl_span id = sl_req_id(r);
    const char *text = apr_psprintf(r->pool, "%d %s\nrequest %.*s%s%s\n", status,
                                    status_reason(status), (int)id.n, id.at,
                                    cause != NULL ? ", " : "", cause != NULL ? cause->name : "");

    respond_set(r, status, "text/plain", sl_span(text));
}

/* What a client sees of a failure. */
static void
respond_set_error(struct sl_req *r, int status, const struct sl_cause *cause)
{
    const struct error_page *page = error_page_find(r, status);

    r->flags &= ~(unsigned)REQ_SOURCE_ENDED;
    r->response.n = 0;
    r->response.ids = 0;
    r->reason.at = NULL;
    r->encoded = NULL;
    if (page != NULL)
        respond_set_page(r, status, page);
    else
        respond_set_plain(r, status, cause);
}

/* The head, by way of the response hooks, and its body unless one of them waits. */
static void
respond_with(struct sl_req *r, void (*body)(struct sl_req *r))
{
    switch (answer_head(r)) {
    case SL_FLOW_GONE:
        answer_instead(r);
        break;
    case SL_FLOW_ROOM:
    case SL_FLOW_FULL:
        if ((r->flags & REQ_IN_RESPONSE) == 0)
            body(r);
        break;
    }
}

/* The answer that was set. */
static void
respond(struct sl_req *r)
{
    respond_with(r, respond_finish);
}

void
answer_from_source(struct sl_req *r)
{
    answer_set_length(r, r->length);
    respond_with(r, source_want);
}

enum sl_verdict
sl_respond(struct sl_req *r, int status, const char *type, struct sl_span body)
{
    const struct error_page *page = type == NULL && body.n == 0 ? error_page_find(r, status) : NULL;

    SL_ASSERT((r->flags & (REQ_HEAD_GIVEN | REQ_IN_RESPONSE_HOOK)) == 0);
    if (page != NULL)
        respond_set_page(r, status, page);
    else
        respond_set(r, status, type, body);
    respond(r);
    return SL_DONE;
}

/* The hooks of a response that failed have had their say: they do not see the page for it. */
void
answer_instead(struct sl_req *r)
{
    if (r->failed_status == 0 || (r->flags & REQ_HEAD_GIVEN)) {
        answer_cut(r, &sl_cause_client_gone);
        return;
    }
    filters_drop(r);
    source_drop(r);
    respond_set_error(r, r->failed_status, r->cause);
    answer_begin(r);
    respond_finish(r);
}

void
answer_resume(struct sl_req *r)
{
    enum sl_flow flow;

    r->flags &= ~(unsigned)REQ_IN_RESPONSE;
    flow = answer_after_hooks(r);
    if (r->flags & REQ_IN_RESPONSE)
        return;
    if (r->exchange != NULL && flow == SL_FLOW_GONE)
        attempt_client_gone((struct sl_attempt *)r->exchange);
    else if (r->exchange != NULL)
        exchange_want(r->exchange);
    else if (r->source != NULL && flow != SL_FLOW_GONE)
        source_want(r);
    else {
        if (flow == SL_FLOW_GONE)
            answer_instead(r);
        else
            respond_finish(r);
        req_settle(r);
    }
}

void
answer_error(struct sl_req *r, int status, const struct sl_cause *cause)
{
    respond_set_error(r, status, cause);
    respond(r);
}

#define KEPT_MAX 8

/* RFC 9110, 10.2.1, 10.2.3, 11.6.1, 11.7.1 and 14.4: a status is no use without its field. */
static int
is_of_status(const struct sl_field *x)
{
    return x->id == SL_F_WWW_AUTHENTICATE || x->id == SL_F_PROXY_AUTHENTICATE ||
           x->id == SL_F_ALLOW || x->id == SL_F_RETRY_AFTER || x->id == SL_F_CONTENT_RANGE;
}

void
answer_replaced(struct sl_req *r)
{
    struct sl_field kept[KEPT_MAX];
    const struct sl_field *x;
    unsigned i, n = 0;

    for (i = 0; (x = sl_fields_at(&r->response, i)) != NULL && n < KEPT_MAX; i++)
        if (is_of_status(x))
            kept[n++] = *x;
    r->flags &= ~(unsigned)REQ_SOURCE_DONE;
    respond_set_error(r, r->status, NULL);
    for (i = 0; i < n && r->status != 302; i++)
        fields_push(&r->response, (enum sl_field_id)kept[i].id, kept[i].name, kept[i].value);
    respond(r);
}
