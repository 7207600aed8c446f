/* The dry run of explain.h: a question becomes the bytes of a request head, and these go the way
 * all do: parsed, routed, answered. */
#include "explain.h"

#include "config/load.h"
#include "http/http1_server.h"
#include "runtime/address.h"
#include "runtime/counter.h"
#include "runtime/dry.h"
#include "worker_listeners.h"

#include <apr_strings.h>

/* ---- the protocol of a client that is none ---- */

static enum sl_flow
dry_head(struct sl_req *r, int ends)
{
    (void)ends;
    filters_drop(r);
    r->flags |= REQ_ENDS_GIVEN; /* a body that does not exist is not shown to anybody */
    return SL_FLOW_ROOM;
}

static enum sl_flow
dry_fields(struct sl_req *r, struct sl_fields *fields)
{
    (void)r;
    (void)fields;
    return SL_FLOW_ROOM;
}

static enum sl_flow
dry_interim(struct sl_req *r, int status, struct sl_fields *fields)
{
    (void)status;
    return dry_fields(r, fields);
}

static enum sl_flow
dry_body(struct sl_req *r, struct sl_data data, int ends)
{
    (void)data;
    (void)ends;
    return dry_fields(r, NULL);
}

static void
dry_nothing(struct sl_req *r)
{
    (void)r;
}

static void
dry_ended(struct sl_req *r)
{
    struct explained *x = r->protocol_data;

    x->has_ended = 1;
}

static const struct sl_protocol dry_protocol = {
    .name = "explain",
    .head = dry_head,
    .interim = dry_interim,
    .body = dry_body,
    .trailers = dry_fields,
    .reset = dry_nothing,
    .want = dry_nothing,
    .ended = dry_ended,
};

/* ---- the question ---- */

struct url {
    const char *method;
    int is_tls;
    struct sl_span authority, path;
    int port;
};

/* NULL or a phrase. */
static const char *
question_split(apr_pool_t *pool, const char *what, struct url *u)
{
    static const char expected[] = "expected METHOD and a URL that begins with http:// or https://";
    const char *space = strchr(what, ' '), *at;
    struct sl_span name;

    if (space == NULL || !is_token((struct sl_span){what, (size_t)(space - what)}))
        return expected;
    u->method = apr_pstrmemdup(pool, what, (size_t)(space - what));
    at = space + strspn(space, " ");
    u->is_tls = strncasecmp(at, "https://", 8) == 0;
    if (!u->is_tls && strncasecmp(at, "http://", 7) != 0)
        return expected;
    at += u->is_tls ? 8 : 7;
    u->authority = (struct sl_span){at, strcspn(at, "/?#")};
    u->path = sl_span(at + u->authority.n);
    if (u->path.n == 0 || *u->path.at != '/')
        u->path = sl_span(apr_pstrcat(pool, "/", u->path.at, NULL));
    if (u->path.at[strcspn(u->path.at, " #\r\n\t")] != '\0')
        return "expected a URL without spaces and without a fragment";
    if (!host_split(u->authority, &name, &u->port))
        return "expected a host and perhaps a port in the URL";
    if (u->port == 0)
        u->port = u->is_tls ? 443 : 80;
    return NULL;
}

/* The head as a client would send it; at NULL: a field does not look like one. */
static struct sl_span
question_head(apr_pool_t *pool, const struct url *u, const struct explain_ask *ask)
{
    const char *fields = "";
    int has_host = 0;
    unsigned i;

    for (i = 0; i < ask->n_fields; i++) {
        const char *f = ask->fields[i], *colon = strchr(f, ':');

        if (colon == NULL || f[strcspn(f, "\r\n")] != '\0')
            return (struct sl_span){NULL, 0};
        has_host |= sl_span_eqi((struct sl_span){f, (size_t)(colon - f)}, SL_SPAN("Host"));
        fields = apr_pstrcat(pool, fields, f, "\r\n", NULL);
    }
    if (!has_host)
        fields = apr_psprintf(pool, "Host: %.*s\r\n%s", (int)u->authority.n, u->authority.at,
                              fields);
    return sl_span(apr_psprintf(pool, "%s %s HTTP/1.1\r\n%s\r\n", u->method, u->path.at, fields));
}

/* ---- where it arrives ---- */

/* Stands for the transport of a listener that does not exist. */
static const struct sl_transport assumed_tls = {.name = "tls", .is_secure = 1};

static int
listener_speaks(const struct listener *l, const struct url *u)
{
    int is_tls = l->conf->transport != NULL && l->conf->transport->is_secure;

    return is_tls == u->is_tls;
}

static void
listener_assume(struct sl_worker *w, apr_pool_t *pool, const struct url *u, struct explained *x)
{
    struct listen_conf *conf = apr_pcalloc(pool, sizeof *conf);

    conf->text = apr_psprintf(pool, "%d%s", u->port, u->is_tls ? " tls" : "");
    conf->family = AF_INET6;
    conf->port = u->port;
    conf->transport = u->is_tls ? &assumed_tls : NULL;
    x->listener = worker_listener_assumed(w, pool, conf);
    x->listener_why = u->is_tls ? "assumed: no Listen line speaks https"
                                : "assumed: no Listen line speaks http";
}

static void
listener_choose(struct sl_worker *w, apr_pool_t *pool, const struct url *u, struct explained *x)
{
    unsigned i;

    for (i = 0; i < w->n_listeners; i++) {
        struct listener *l = &w->listeners[i];

        if (!listener_speaks(l, u))
            continue;
        if (l->conf->port == u->port) {
            x->listener = l;
            x->listener_why = "it has the URL's port";
            return;
        }
        if (x->listener == NULL)
            x->listener = l;
    }
    x->listener_why = u->is_tls ? "the first that speaks https; none has the URL's port"
                                : "the first that speaks http; none has the URL's port";
    if (x->listener == NULL)
        listener_assume(w, pool, u, x);
}

static struct sl_conn *
dry_conn(struct sl_loop *loop, const struct listener *l, const struct sl_sockaddr *peer,
         apr_pool_t *pool)
{
    struct sl_conn *c = apr_palloc(pool, sizeof *c);

    conn_pretend(c, loop, l, peer, &dry_protocol);
    c->transport = l->conf->transport;
    return c;
}

/* NULL: a server that runs may have no descriptors to spare. */
static struct sl_loop *
dry_loop(struct sl_worker *w)
{
    struct sl_loop *loop;

    if (loop_open(&loop, 0) != 0)
        return NULL;
    loop->worker = w;
    counters_detach(loop);
    conn_thread_init(loop);
    return loop;
}

/* ---- the run ---- */

/* What would run before the request and behind it.  Connection hooks have no way to say that
 * they leave no trace. */
static void
note_left_out(struct sl_req *r, const struct hook_list *list, const char *why)
{
    unsigned i;

    for (i = 0; i < list->n; i++)
        if ((list->at[i].hook->flags & SL_DRY_OK) == 0)
            req_note_add(r, NOTE_LEFT_OUT, &list->at[i], why);
}

static void
dry_start(struct sl_req *r, const struct request_head *head)
{
    enum framing framing = FRAMING_NONE;
    uint64_t left = 0;
    const struct sl_cause *why = http1_take_request(r, head, r->loop->parsed, &framing, &left);

    if (why != NULL)
        req_refuse(r, why);
    else
        sl_req_start(r, framing == FRAMING_CHUNKED ? -1 : (int64_t)left);
}

static void
dry_run(struct explained *x, struct sl_span text)
{
    struct sl_req *r = x->r;
    struct request_head head = {.size = 0};

    switch (head_parse_request(text.at, text.n, &x->listener->limits, &head, r->loop->parsed)) {
    case PARSE_OK:
        dry_start(r, &head);
        break;
    case PARSE_MORE:
        head.why = &sl_cause_bad_request;
        /* fall through */
    case PARSE_BAD:
        r->method = head.method;
        r->target = head.target;
        req_refuse(r, head.why);
        break;
    }
}

struct explained *
explain(struct sl_worker *w, apr_pool_t *pool, const struct explain_ask *ask, const char **err)
{
    struct explained *x, found = {.r = NULL};
    struct sl_sockaddr peer = {.len = 0};
    struct url u = {.method = NULL};
    struct sl_span from = sl_span(ask->from != NULL ? ask->from : "127.0.0.1"), head;
    struct sl_conn *c;

    if ((*err = question_split(pool, ask->what, &u)) != NULL)
        return NULL;
    head = question_head(pool, &u, ask);
    if (head.at == NULL)
        *err = "expected -H 'Field: value'";
    else if (!address_parse_host(from, &peer))
        *err = "expected from= and an address";
    if (*err != NULL)
        return NULL;
    listener_choose(w, pool, &u, &found);
    if ((found.loop = dry_loop(w)) == NULL) {
        *err = "there are no descriptors left to run it with";
        return NULL;
    }
    c = dry_conn(found.loop, found.listener, &peer, pool);
    found.r = sl_req_new(c, &dry_protocol);
    found.url = sl_span(strchr(ask->what, ' ') + strspn(strchr(ask->what, ' '), " "));
    x = apr_pmemdup(found.r->pool, &found, sizeof found);
    x->r->flags |= REQ_DRY | REQ_NOTING;
    x->r->protocol_data = x;
    note_left_out(x->r, &found.listener->scope->lists[SL_HOOK_PRE_CONNECTION],
                  "there is no connection");
    is_dry_run = 1;
    dry_run(x, head);
    is_dry_run = 0;
    note_left_out(x->r, &x->r->scope->lists[SL_HOOK_LOG], "its row does not say SL_DRY_OK");
    return x;
}

void
explain_end(struct explained **xp)
{
    struct sl_req *r = (*xp)->r;
    struct sl_loop *loop = (*xp)->loop;
    struct sl_conn *c = r->conn;

    *xp = NULL;
    is_dry_run = 1;
    sl_req_gone(r);
    is_dry_run = 0;
    if (c->pool != NULL)
        apr_pool_destroy(c->pool);
    conn_thread_exit(loop);
    loop_close(&loop);
}
