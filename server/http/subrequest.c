/* Subrequests: see sluice/subrequest.h.  Theirs is a connection that leads nowhere, so that
 * whoever asks who the client is gets the answer he gets of the client's own request. */
#include "http/request.h"

#include "sluice/subrequest.h"

#include <apr_strings.h>

struct subrequest {
    struct sl_conn conn;
    const struct sl_subrequest_owner *owner; /* NULL: it was cancelled */
    void *ctx;
    int is_full; /* until the owner says that there is room */
    int is_told; /* one of the owner's functions is on the stack */
    struct sl_req *r;
    struct subrequest *next, **prev; /* of the loop */
    struct subrequest *next_due;
    int is_due;
    const struct sl_target *target; /* NULL: its handler hooks decide */
    const struct sl_proxy_conf *conf;
};

static struct subrequest *
sub_of(const struct sl_req *r)
{
    return r->protocol_data;
}

/* ---- its protocol: the answer goes to the owner ---- */

/* Who cancels from within his functions has said GONE. */
static enum sl_flow
sub_flow(struct subrequest *s, enum sl_flow flow)
{
    s->is_told = 0;
    s->is_full = flow == SL_FLOW_FULL;
    return s->owner != NULL ? flow : SL_FLOW_GONE;
}

static enum sl_flow
sub_head(struct sl_req *r, int ends)
{
    struct subrequest *s = sub_of(r);

    if (s->owner == NULL)
        return SL_FLOW_GONE;
    s->is_told = 1;
    return sub_flow(s, s->owner->head(r, s->ctx, ends));
}

static enum sl_flow
sub_interim(struct sl_req *r, int status, struct sl_fields *fields)
{
    (void)r;
    (void)status;
    (void)fields;
    return SL_FLOW_ROOM;
}

static enum sl_flow
sub_body(struct sl_req *r, struct sl_data data, int ends)
{
    struct subrequest *s = sub_of(r);

    if (s->owner == NULL)
        return SL_FLOW_GONE;
    if (data.n == 0 && !ends)
        return s->is_full ? SL_FLOW_FULL : SL_FLOW_ROOM;
    s->is_told = 1;
    return sub_flow(s, s->owner->body(r, s->ctx, data, ends));
}

static enum sl_flow
sub_trailers(struct sl_req *r, struct sl_fields *fields)
{
    (void)fields;
    return sub_body(r, (struct sl_data){NULL, 0, NULL}, 1);
}

static void
sub_nothing(struct sl_req *r)
{
    (void)r;
}

static void
sub_ended(struct sl_req *r)
{
    struct subrequest *s = sub_of(r);
    const struct sl_cause *cause = r->flags & (REQ_CUT | REQ_FAILED) ? r->cause : NULL;

    s->is_told = 1;
    if (s->owner != NULL)
        s->owner->ended(r, s->ctx, cause);
    sl_req_finish(&r);
}

/* Stands for the transport of the client's connection. */
static const struct sl_transport client_was_secure = {.name = "tls", .is_secure = 1};

static const struct sl_protocol sub_protocol = {
    .name = "subrequest",
    .head = sub_head,
    .interim = sub_interim,
    .body = sub_body,
    .trailers = sub_trailers,
    .reset = sub_nothing,
    .want = sub_nothing,
    .ended = sub_ended,
};

char *
subrequest_room(const struct sl_req *r, size_t *n)
{
    const struct subrequest *s;

    if (r == NULL || r->protocol != &sub_protocol)
        return NULL;
    s = sub_of(r);
    return s->owner != NULL && s->owner->room != NULL ? s->owner->room(s->ctx, n) : NULL;
}

/* ---- the copy ---- */

static struct sl_span
copied(struct sl_req *r, struct sl_span s)
{
    return s.at != NULL ? (struct sl_span){sl_span_dup(r->pool, s), s.n} : s;
}

/* Path, '?' and query in one piece, as all readers rely on. */
static void
sub_set_path(struct sl_req *r, struct sl_span uri)
{
    const char *mark;

    uri = copied(r, uri);
    mark = memchr(uri.at, '?', uri.n);
    r->target = r->path = uri;
    r->query = (struct sl_span){NULL, 0};
    if (mark != NULL) {
        r->path.n = (size_t)(mark - uri.at);
        r->query = (struct sl_span){mark + 1, uri.n - r->path.n - 1};
    }
}

/* What belongs to the client's hop or its body stays behind (RFC 9110, 7.6.1). */
static void
sub_copy_fields(struct sl_req *to, struct sl_req *from)
{
    struct sl_field *at = apr_pmemdup(to->pool, from->head.at, from->head.n * sizeof *at);
    unsigned i;

    fields_drop_hop_by_hop(at, from->head.n, from->head.ids);
    for (i = 0; i < from->head.n; i++)
        if ((at[i].flags & FIELD_DROPPED) == 0 && !sl_field_is_framing(at[i].id) &&
            at[i].id != SL_F_EXPECT && at[i].id != SL_F_HTTP2_SETTINGS)
            fields_push(&to->head, at[i].id, copied(to, at[i].name), copied(to, at[i].value));
}

static void
sub_copy(struct sl_req *to, struct sl_req *from)
{
    to->scope = from->scope;
    to->flags |= from->flags & REQ_ENTERED;
    to->method = copied(to, from->method);
    to->authority = copied(to, from->authority);
    to->host = copied(to, from->host);
    to->match = copied(to, from->match);
    to->upstream_path = copied(to, from->upstream_path);
    to->client_text = copied(to, sl_req_client_text(from));
    to->client = *sl_req_client(from);
    to->id = copied(to, sl_req_id(from)).at;
    sub_set_path(to, req_uri(from));
    sub_copy_fields(to, from);
    captures_copy(to, from);
    vars_copy(to, from);
}

struct sl_req *
sl_subrequest(struct sl_req *client, const struct sl_subrequest_owner *owner, void *ctx)
{
    struct sl_loop *loop = client->loop;
    struct sl_req *r = sl_req_new(client->conn, &sub_protocol);
    struct subrequest *s = apr_pcalloc(r->pool, sizeof *s);

    conn_pretend(&s->conn, loop, client->conn->listener, &client->conn->peer, &sub_protocol);
    conn_same_peer(&s->conn, client->conn);
    if (sl_req_is_tls(client))
        s->conn.transport = &client_was_secure;
    s->conn.pool = r->pool;
    s->owner = owner;
    s->ctx = ctx;
    s->r = r;
    r->conn = &s->conn;
    r->protocol_data = s;
    r->flags |= REQ_SUB | REQ_BODY_DONE;
    r->body_length = 0;
    sub_copy(r, client);
    s->next = loop->subrequests;
    s->prev = &loop->subrequests;
    if (s->next != NULL)
        s->next->prev = &s->next;
    loop->subrequests = s;
    return r;
}

int
sl_req_is_sub(const struct sl_req *r)
{
    return (r->flags & REQ_SUB) != 0;
}

void
sl_subrequest_set_line(struct sl_req *r, struct sl_span method, struct sl_span path_and_query)
{
    r->method = copied(r, method);
    if (path_and_query.n == 0)
        return;
    sub_set_path(r, path_and_query);
    r->upstream_path = (struct sl_span){NULL, 0};
}

/* ---- its life ---- */

static void
sub_begin(struct subrequest *s)
{
    struct sl_req *r = s->r;

    s->is_due = 0;
    if (s->owner == NULL) { /* cancelled before it began */
        sl_req_gone(r);
        return;
    }
    if (s->target == NULL) {
        req_run_from(r, SL_HOOK_HANDLER);
        return;
    }
    r->flags |= REQ_RUNNING;
    sl_proxy(r, s->target, s->conf);
    req_run_from(r, SL_HOOK_SELECT_SERVER);
}

/* What it does is not the time of the hook that asks for it, nor its crash. */
void
sl_subrequest_start(struct sl_req *r)
{
    struct subrequest *s = sub_of(r);

    if (r->loop->n_running == 0) {
        sub_begin(s);
        return;
    }
    s->is_due = 1;
    s->next_due = r->loop->due_subrequests;
    r->loop->due_subrequests = s;
}

void
sl_subrequest_proxy(struct sl_req *r, const struct sl_target *target,
                    const struct sl_proxy_conf *conf)
{
    sub_of(r)->target = target;
    sub_of(r)->conf = conf;
    sl_subrequest_start(r);
}

void
subrequests_begin(struct sl_loop *loop)
{
    struct subrequest *s;

    while ((s = loop->due_subrequests) != NULL) {
        loop->due_subrequests = s->next_due;
        sub_begin(s);
    }
}

void
sl_subrequest_cancel(struct sl_req **rp)
{
    struct sl_req *r = *rp;
    struct subrequest *s = sub_of(r);

    *rp = NULL;
    s->owner = NULL;
    if (!s->is_told && !s->is_due) /* else it ends when they are over, or when it begins */
        sl_req_gone(r);
}

void
subrequest_has_room(struct sl_req *r)
{
    sub_of(r)->is_full = 0;
}

void
subrequest_unlink(struct sl_req *r)
{
    struct subrequest *s = sub_of(r);

    *s->prev = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
}

void
subrequests_close(struct sl_loop *loop)
{
    while (loop->subrequests != NULL) {
        struct subrequest *s = loop->subrequests;
        struct sl_req *r = s->r;

        s->is_due = 0; /* it will not begin any more */
        if (s->owner != NULL)
            s->owner->ended(r, s->ctx, &sl_cause_internal);
        sl_subrequest_cancel(&r);
    }
}
