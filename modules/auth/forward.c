/* AuthForward: another server is asked with the client's own fields.  2xx lets the request through,
 * with fields of that answer; what tells the client to do something else (401, 403, a redirect) is
 * its answer; anything else is a failure, and nobody passes. */
#include "auth.h"

#include <apr_strings.h>

#define BODY_MAX 65536 /* of an answer that is handed to the client; a longer one is left out */

struct forward {
    int is_off;
    const char *place, *send_text, *copy_text, *answer_text, *user; /* user NULL: %{user} stays */
    struct sl_target *target;
    struct sl_span path;
    apr_array_header_t *send, *copy, *answer; /* of const char *; send NULL: all */
    int64_t timeout_ms;
    struct sl_proxy_conf proxy;
};

static const struct sl_option options[] = {
    {"send", SL_SLOT_STRING, offsetof(struct forward, send_text), NULL, NULL,
     "the client's fields that go with the question; all where it is left out"},
    {"copy", SL_SLOT_STRING, offsetof(struct forward, copy_text), NULL, NULL,
     "fields of a good answer that the request gets, in place of the client's"},
    {"answer", SL_SLOT_STRING, offsetof(struct forward, answer_text),
     "WWW-Authenticate,Location,Set-Cookie,Cache-Control,Retry-After", NULL,
     "fields of a refusal that the client gets, beside what its body needs"},
    {"user", SL_SLOT_TOKEN, offsetof(struct forward, user), NULL, NULL,
     "the field of a good answer that becomes %{user}"},
    {"timeout", SL_SLOT_DURATION, offsetof(struct forward, timeout_ms), "10s", NULL,
     "how long the answer may take"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

int
forward_is_on(const struct forward *f)
{
    return f != NULL && !f->is_off;
}

static const char *
names_take(struct sl_cmd *cmd, struct forward *f)
{
    const char *err = NULL;

    if (f->send_text != NULL)
        f->send = auth_field_names(cmd, f->send_text, &err);
    if (err == NULL)
        f->copy = auth_field_names(cmd, f->copy_text != NULL ? f->copy_text : "", &err);
    if (err == NULL)
        f->answer = auth_field_names(cmd, f->answer_text, &err);
    return err;
}

/* The target, and what it is asked for: its path, with the query that only a question has. */
static const char *
target_take(struct sl_cmd *cmd, struct forward *f)
{
    const char *text = sl_cmd_arg(cmd, 0), *query = strchr(text, '?'), *err;
    apr_pool_t *pool = sl_cmd_pool(cmd);
    struct sl_span parts[2];

    if (query == NULL)
        query = text + strlen(text);
    err = sl_target_parse(cmd, apr_pstrmemdup(pool, text, (size_t)(query - text)), &f->target);
    if (err != NULL)
        return err;
    if (query[strcspn(query, "# \t")] != '\0')
        return "expected a target without fragment and blanks";
    parts[0] = f->target->path.n > 0 ? f->target->path : SL_SPAN("/");
    parts[1] = sl_span(query);
    f->path = sl_spans_join(pool, parts, 2);
    return NULL;
}

const char *
forward_line(struct sl_cmd *cmd, void **item)
{
    struct forward *f = apr_pcalloc(sl_cmd_pool(cmd), sizeof *f);
    const char *err;

    *item = f;
    if (sl_cmd_argc(cmd) == 0)
        return "expected a target, or off";
    f->is_off = sl_cmd_argc(cmd) == 1 && strcmp(sl_cmd_arg(cmd, 0), "off") == 0;
    if (f->is_off)
        return NULL;
    f->place = sl_cmd_place(cmd);
    f->timeout_ms = 10000;
    f->answer_text = options[2].init;
    if ((err = target_take(cmd, f)) != NULL ||
        (err = sl_cmd_options(cmd, 1, options, f)) != NULL || (err = names_take(cmd, f)) != NULL)
        return err;
    if (f->timeout_ms < 1)
        return "expected timeout= of a time";
    f->proxy = (struct sl_proxy_conf){
        .connect_ms = f->timeout_ms, .send_ms = f->timeout_ms, .first_ms = f->timeout_ms,
        .idle_ms = f->timeout_ms, .total_ms = f->timeout_ms, .host = SL_HOST_UPSTREAM,
        .upgrade = SL_UPGRADE_OFF};
    return NULL;
}

/* ---- the question ---- */

struct question {
    const struct forward *forward;
    struct sl_req *client;
    struct sl_req *sub; /* NULL: answered */
    struct sl_token token;
    int status;
    const char *failed; /* why there is no answer; NULL: there is one */
    apr_array_header_t *fields; /* of struct sl_field, of its answer */
    char *body;
    size_t n;
    int is_long; /* the body is left out */
};

static int
is_refusal(int status)
{
    return status == 401 || status == 403 || (status >= 300 && status < 400 && status != 304);
}

/* They outlive the subrequest. */
static void
fields_keep(struct question *q, struct sl_req *sub)
{
    apr_pool_t *pool = sl_req_pool(q->client);
    const struct sl_field *x;
    unsigned i;

    q->fields = apr_array_make(pool, 16, sizeof(struct sl_field));
    for (i = 0; (x = sl_fields_at(sl_req_response(sub), i)) != NULL; i++)
        APR_ARRAY_PUSH(q->fields, struct sl_field) = (struct sl_field){
            {sl_span_dup(pool, x->name), x->name.n}, {sl_span_dup(pool, x->value), x->value.n},
            x->id, 0};
}

static enum sl_flow
question_head(struct sl_req *sub, void *ctx, int ends)
{
    struct question *q = ctx;

    q->status = sl_req_status(sub);
    fields_keep(q, sub);
    if (!ends && is_refusal(q->status))
        q->body = apr_palloc(sl_req_pool(q->client), BODY_MAX);
    return SL_FLOW_ROOM;
}

static enum sl_flow
question_body(struct sl_req *sub, void *ctx, struct sl_data data, int ends)
{
    struct question *q = ctx;

    (void)sub;
    (void)ends;
    if (q->body == NULL || q->is_long || data.n == 0)
        return SL_FLOW_ROOM;
    q->is_long = data.n > BODY_MAX - q->n;
    if (!q->is_long) {
        memcpy(q->body + q->n, data.at, data.n);
        q->n += data.n;
    }
    return SL_FLOW_ROOM;
}

static void
question_ended(struct sl_req *sub, void *ctx, const struct sl_cause *cause)
{
    struct question *q = ctx;

    (void)sub;
    q->sub = NULL;
    q->failed = cause != NULL ? cause->text : NULL;
    sl_req_resume(q->token, SL_NEXT);
}

static const struct sl_subrequest_owner owner = {question_head, question_body, question_ended,
                                                 NULL};

static apr_status_t
client_left(void *ctx)
{
    struct question *q = ctx;

    if (q->sub != NULL)
        sl_subrequest_cancel(&q->sub);
    return APR_SUCCESS;
}

static int
has_name(const apr_array_header_t *names, struct sl_span name)
{
    int i;

    for (i = 0; i < names->nelts; i++)
        if (sl_span_eqi(sl_span(APR_ARRAY_IDX(names, i, const char *)), name))
            return 1;
    return 0;
}

static void
unset_all_but(struct sl_req *sub, const apr_array_header_t *names)
{
    struct sl_fields *f = sl_req_head(sub);
    const struct sl_field *x;
    unsigned i = 0;

    while ((x = sl_fields_at(f, i)) != NULL) {
        if (x->id == SL_F_HOST || has_name(names, x->name))
            i++;
        else
            sl_fields_unset(f, sl_span_dup(sl_req_pool(sub), x->name));
    }
}

/* A question has no body, and wants a whole answer of its own, whatever the client knows. */
static void
question_fields(struct question *q)
{
    static const char *const never[] = {"Content-Type", "Content-Encoding", "Range", "If-Range",
                                        "If-Match", "If-None-Match", "If-Modified-Since",
                                        "If-Unmodified-Since", "Accept-Encoding"};
    struct sl_req *sub = q->sub, *r = q->client;
    struct sl_fields *f = sl_req_head(sub);
    struct sl_span query = sl_req_query(r), path = sl_req_target_path(r);
    struct sl_span uri[] = {path, SL_SPAN("?"), query};
    unsigned i;

    if (q->forward->send != NULL)
        unset_all_but(sub, q->forward->send);
    for (i = 0; i < sizeof never / sizeof never[0]; i++)
        sl_fields_unset(f, never[i]);
    sl_fields_set(f, "X-Forwarded-Method", sl_req_method(r));
    sl_fields_set(f, "X-Forwarded-Uri",
                  query.at != NULL ? sl_spans_join(sl_req_pool(sub), uri, 3) : path);
}

static enum sl_verdict
ask(struct sl_req *r, const struct forward *f)
{
    struct question *q = apr_pcalloc(sl_req_pool(r), sizeof *q);

    q->forward = f;
    q->client = r;
    q->token = sl_req_suspend(r);
    q->sub = sl_subrequest(r, &owner, q);
    question_fields(q);
    sl_subrequest_set_line(q->sub, SL_SPAN("GET"), f->path);
    apr_pool_cleanup_register(sl_req_pool(r), q, client_left, apr_pool_cleanup_null);
    auth_of(r)->question = q;
    sl_subrequest_proxy(q->sub, f->target, &f->proxy);
    return SL_WAIT;
}

/* What the client says of itself in a field that only the asked server may set goes, whether it
 * is asked or not. */
static void
copied_unset(struct sl_req *r, const struct forward *f)
{
    int i;

    for (i = 0; i < f->copy->nelts; i++)
        sl_fields_unset(sl_req_head(r), APR_ARRAY_IDX(f->copy, i, const char *));
}

enum sl_verdict
forward_ask(struct sl_req *r, const void *confp)
{
    const struct forward *f = ((const struct auth_conf *)confp)->forward;

    if (!forward_is_on(f))
        return SL_NEXT;
    copied_unset(r, f);
    if (auth_is_over(r))
        return SL_NEXT;
    if (!sl_req_is_dry(r))
        return ask(r, f);
    sl_note(r, "AuthForward %.*s (%s) would be asked, and decide", (int)f->target->text.n,
            f->target->text.at, f->place);
    auth_passed(r, AUTH_FORWARD, (struct sl_span){NULL, 0});
    return SL_NEXT;
}

/* ---- the answer ---- */

/* Adds those of the answer's fields that are named. */
static void
fields_add(struct sl_fields *to, const struct question *q, const apr_array_header_t *names)
{
    int i;

    for (i = 0; i < q->fields->nelts; i++) {
        const struct sl_field *x = &APR_ARRAY_IDX(q->fields, i, struct sl_field);

        if (has_name(names, x->name))
            sl_fields_add(to, x->name.at, x->value);
    }
}

/* What the body is, and how it is coded, goes wherever the body goes. */
static void
body_fields_add(struct sl_fields *to, const struct question *q)
{
    int i;

    for (i = 0; i < q->fields->nelts; i++) {
        const struct sl_field *x = &APR_ARRAY_IDX(q->fields, i, struct sl_field);

        if (x->id == SL_F_CONTENT_TYPE || x->id == SL_F_CONTENT_ENCODING)
            sl_fields_set(to, x->name.at, x->value);
    }
}

static enum sl_verdict
answer_refusal(struct sl_req *r, void *ctx)
{
    const struct question *q = ctx;
    struct sl_span body = {q->body, q->is_long ? 0 : q->n};

    fields_add(sl_req_response(r), q, q->forward->answer);
    if (body.n == 0)
        body = SL_SPAN("");
    else
        body_fields_add(sl_req_response(r), q);
    sl_req_log(r, SL_INFO, auth_cause_refused.id, "%s: AuthForward (%s): %d",
               auth_cause_refused.text, q->forward->place, q->status);
    return sl_respond(r, q->status, NULL, body);
}

static enum sl_verdict
pass(struct sl_req *r, const struct question *q)
{
    struct sl_span user = {NULL, 0};
    int i;

    fields_add(sl_req_head(r), q, q->forward->copy);
    for (i = q->fields->nelts; i-- > 0 && q->forward->user != NULL;) {
        const struct sl_field *x = &APR_ARRAY_IDX(q->fields, i, struct sl_field);

        if (sl_span_eqi(x->name, sl_span(q->forward->user)))
            user = x->value;
    }
    auth_passed(r, AUTH_FORWARD, user);
    return SL_NEXT;
}

enum sl_verdict
forward_answered(struct sl_req *r, const void *confp)
{
    struct auth_req *a = auth_of(r);
    struct question *q = a->question;
    const char *place;

    (void)confp;
    if (q == NULL)
        return SL_NEXT;
    a->question = NULL;
    place = q->forward->place;
    if (q->failed != NULL)
        return auth_denied(r, &auth_cause_unasked, NULL,
                           apr_psprintf(sl_req_pool(r), "AuthForward (%s): %s", place, q->failed));
    if (q->status >= 200 && q->status < 300)
        return pass(r, q);
    if (is_refusal(q->status))
        return sl_access_denied(r, answer_refusal, q);
    return auth_denied(r, &auth_cause_unclear, NULL,
                       apr_psprintf(sl_req_pool(r), "AuthForward (%s): it answered %d", place,
                                    q->status));
}
