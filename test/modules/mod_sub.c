/* Subrequests and sources: SubAsk PATH asks a location of the server in the access phase and tells
 * its backend what came; SubRelay on gives a subrequest's answer as its own; SourceBytes N
 * answers with N bytes. */
#include "sluice/module.h"

#include <apr_strings.h>

struct sub_conf {
    const char *ask;
    int relays;
    int64_t bytes;
};

/* ---- SubAsk ---- */

struct question {
    struct sl_req *client; /* NULL: it has left */
    struct sl_req *sub;    /* NULL: answered */
    struct sl_token token;
    char said[64];
    int64_t n;
};

static enum sl_flow
ask_head(struct sl_req *sub, void *ctx, int ends)
{
    struct question *q = ctx;

    (void)ends;
    apr_snprintf(q->said, sizeof q->said, "%d", sl_req_status(sub));
    return SL_FLOW_ROOM;
}

static enum sl_flow
ask_body(struct sl_req *sub, void *ctx, struct sl_data data, int ends)
{
    struct question *q = ctx;

    (void)sub;
    (void)ends;
    q->n += (int64_t)data.n;
    return SL_FLOW_ROOM;
}

static void
ask_ended(struct sl_req *sub, void *ctx, const struct sl_cause *cause)
{
    struct question *q = ctx;
    const char *text = apr_psprintf(sl_req_pool(q->client), "%s %ld %s", q->said, (long)q->n,
                                    cause != NULL ? cause->name : "whole");

    (void)sub;
    q->sub = NULL;
    sl_fields_set(sl_req_head(q->client), "X-Asked", sl_span(text));
    sl_req_resume(q->token, SL_NEXT);
}

static const struct sl_subrequest_owner asker = {ask_head, ask_body, ask_ended, NULL};

static apr_status_t
client_left(void *ctx)
{
    struct question *q = ctx;

    if (q->sub != NULL)
        sl_subrequest_cancel(&q->sub);
    return APR_SUCCESS;
}

static enum sl_verdict
sub_access(struct sl_req *r, const void *confp)
{
    const struct sub_conf *conf = confp;
    struct question *q;

    if (conf->ask == NULL || sl_req_is_dry(r))
        return SL_NEXT;
    q = apr_pcalloc(sl_req_pool(r), sizeof *q);
    q->client = r;
    q->token = sl_req_suspend(r);
    q->sub = sl_subrequest(r, &asker, q);
    sl_subrequest_set_line(q->sub, SL_SPAN("GET"), sl_span(conf->ask));
    apr_pool_cleanup_register(sl_req_pool(r), q, client_left, apr_pool_cleanup_null);
    sl_subrequest_start(q->sub);
    return SL_WAIT;
}

/* ---- SubRelay: one is the source of the other ---- */

struct relay {
    struct sl_req *client, *sub; /* NULL: done */
};

static apr_status_t
relay_left(void *ctx)
{
    struct relay *relay = ctx;

    if (relay->sub != NULL)
        sl_subrequest_cancel(&relay->sub);
    return APR_SUCCESS;
}

static void
relay_want(struct sl_req *r, void *ctx)
{
    struct relay *relay = ctx;

    (void)r;
    if (relay->sub != NULL)
        sl_req_writable(relay->sub);
}

static void
relay_closed(struct sl_req *r, void *ctx)
{
    struct relay *relay = ctx;

    (void)r;
    relay->client = NULL;
}

static const struct sl_source relay_source = {relay_want, relay_closed};

struct relayed {
    struct relay *relay;
    struct sl_token token;
    int64_t length;
    int status;
    int is_begun, waits;
};

static enum sl_flow
relay_head(struct sl_req *sub, void *ctx, int ends)
{
    struct relayed *d = ctx;

    d->status = sl_req_status(sub);
    d->length = ends ? 0 : -1;
    d->waits = 1;
    sl_req_resume(d->token, SL_NEXT);
    return SL_FLOW_FULL;
}

static enum sl_flow
relay_body(struct sl_req *sub, void *ctx, struct sl_data data, int ends)
{
    struct relayed *d = ctx;

    (void)sub;
    return d->relay->client != NULL ? sl_source_body(d->relay->client, data, ends) : SL_FLOW_GONE;
}

static void
relay_ended(struct sl_req *sub, void *ctx, const struct sl_cause *cause)
{
    struct relayed *d = ctx;

    (void)sub;
    d->relay->sub = NULL;
    if (cause != NULL && d->relay->client != NULL && d->is_begun)
        sl_source_fail(d->relay->client, cause);
}

static const struct sl_subrequest_owner relayer = {relay_head, relay_body, relay_ended, NULL};

static enum sl_verdict
relay_begin(struct sl_req *r, const void *confp)
{
    const struct sub_conf *conf = confp;
    struct relayed *d;

    if (!conf->relays || sl_req_is_sub(r) || sl_req_is_dry(r))
        return SL_NEXT;
    d = sl_req_data(r, &sl_module_record, sizeof *d);
    d->relay = apr_pcalloc(sl_req_pool(r), sizeof *d->relay);
    d->relay->client = r;
    apr_pool_cleanup_register(sl_req_pool(r), d->relay, relay_left, apr_pool_cleanup_null);
    d->token = sl_req_suspend(r);
    d->relay->sub = sl_subrequest(r, &relayer, d);
    sl_subrequest_start(d->relay->sub);
    return SL_WAIT;
}

static enum sl_verdict
relay_answer(struct sl_req *r, const void *confp)
{
    const struct sub_conf *conf = confp;
    struct relayed *d;

    if (!conf->relays || sl_req_is_sub(r) || sl_req_is_dry(r))
        return SL_NEXT;
    d = sl_req_data(r, &sl_module_record, sizeof *d);
    d->is_begun = 1;
    return sl_respond_from(r, d->status, d->length, &relay_source, d->relay);
}

/* ---- SourceBytes ---- */

struct bytes {
    int64_t left;
    int is_giving;
};

static void
bytes_want(struct sl_req *r, void *ctx)
{
    static const char block[7000];
    struct bytes *b = ctx;
    enum sl_flow flow = SL_FLOW_ROOM;

    while (flow == SL_FLOW_ROOM && b->left > 0) {
        size_t n = b->left < (int64_t)sizeof block ? (size_t)b->left : sizeof block;

        b->left -= (int64_t)n;
        flow = sl_source_body(r, (struct sl_data){block, n, NULL}, b->left == 0);
    }
}

static void
bytes_closed(struct sl_req *r, void *ctx)
{
    struct bytes *b = ctx;

    (void)r;
    b->left = 0;
}

static const struct sl_source bytes_source = {bytes_want, bytes_closed};

static enum sl_verdict
bytes_answer(struct sl_req *r, const void *confp)
{
    const struct sub_conf *conf = confp;
    struct bytes *b;

    if (conf->bytes <= 0)
        return SL_NEXT;
    b = apr_pcalloc(sl_req_pool(r), sizeof *b);
    b->left = conf->bytes;
    sl_fields_set(sl_req_response(r), "Content-Type", SL_SPAN("text/plain"));
    return sl_respond_from(r, 200, conf->bytes, &bytes_source, b);
}

static const struct sl_directive directives[] = {
    SL_STRING("SubAsk", struct sub_conf, ask, NULL, SL_IN_ANY, "Asks this path first"),
    SL_FLAG("SubRelay", struct sub_conf, relays, "off", SL_IN_ANY, "Answers by a subrequest"),
    SL_SIZE("SourceBytes", struct sub_conf, bytes, "0", SL_IN_ANY, "Answers with so many bytes"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_ACCESS(sub_access, SL_MIDDLE, SL_DRY_OK),
    SL_ON_HANDLER(relay_begin, SL_EARLY, SL_DRY_OK),
    SL_ON_HANDLER(relay_answer, SL_MIDDLE, SL_DRY_OK),
    SL_ON_HANDLER(bytes_answer, SL_MIDDLE, SL_DRY_OK),
    SL_HOOKS_END,
};
SL_MODULE(sub) = {
    .name = "sub",
    .conf_size = sizeof(struct sub_conf),
    .directives = directives,
    .hooks = hooks,
};
