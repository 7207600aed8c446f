/* What modules ask of a request and keep with it: its parts, its id, its lines in the log,
 * notes and data.  Its life is in request.c. */
#include "http/request.h"

#include "runtime/crash.h"
#include "runtime/log.h"

#include <apr_strings.h>

#include <stdarg.h>
#include <stdio.h>

void **
sl_req_protocol_data(struct sl_req *r)
{
    return &r->protocol_data;
}

void
sl_req_enter(struct sl_req *r, struct sl_scope *scope)
{
    if (r->scope->core->trusted != scope->core->trusted)
        r->client_text = (struct sl_span){NULL, 0}; /* whom to believe is another question now */
    r->scope = scope;
    r->flags |= REQ_ENTERED;
}

struct sl_scope *
sl_req_scope(const struct sl_req *r)
{
    return r->scope;
}

struct sl_fields *
sl_req_head(struct sl_req *r)
{
    return &r->head;
}

struct sl_fields *
sl_req_response(struct sl_req *r)
{
    return &r->response;
}

struct sl_span
sl_req_method(const struct sl_req *r)
{
    return r->method;
}

struct sl_span
sl_req_target_path(const struct sl_req *r)
{
    return r->path;
}

struct sl_span
sl_req_query(const struct sl_req *r)
{
    return r->query;
}

struct sl_span
sl_req_path(struct sl_req *r)
{
    return r->match;
}

struct sl_span
sl_req_host(const struct sl_req *r)
{
    return r->host;
}

struct sl_span
sl_req_authority(const struct sl_req *r)
{
    return r->authority;
}

int
sl_req_version(const struct sl_req *r)
{
    return r->version;
}

int
sl_req_is_tls(const struct sl_req *r)
{
    return r->conn != NULL && r->conn->transport != NULL && r->conn->transport->is_secure;
}

int
sl_req_has_body(const struct sl_req *r)
{
    return r->body_length != 0;
}

void
sl_req_set_upstream_path(struct sl_req *r, struct sl_span path_and_query)
{
    r->upstream_path = path_and_query;
}

struct sl_span
sl_req_upstream_path(const struct sl_req *r)
{
    return r->upstream_path.at != NULL ? r->upstream_path : req_uri(r);
}

struct sl_span
req_uri(const struct sl_req *r)
{
    if (r->query.at == NULL)
        return r->path;
    return (struct sl_span){r->path.at, (size_t)(r->query.at + r->query.n - r->path.at)};
}

int64_t
sl_req_length(const struct sl_req *r)
{
    return r->length;
}

struct sl_span
sl_req_server_name(const struct sl_req *r)
{
    return sl_span(r->scope->core->server_header);
}

int
sl_req_status(const struct sl_req *r)
{
    return r->status;
}

void
sl_req_set_status(struct sl_req *r, int status)
{
    r->status = status;
    r->reason.at = NULL;
}

int64_t
sl_req_bytes_sent(const struct sl_req *r)
{
    return r->bytes_sent;
}

int64_t
sl_req_started_us(const struct sl_req *r)
{
    return r->started_us;
}

int64_t
sl_req_elapsed_us(const struct sl_req *r)
{
    return r->loop->wall_us - r->started_us;
}

const struct sl_cause *
sl_req_cause(const struct sl_req *r)
{
    return r->cause;
}

int
sl_req_page_of(const struct sl_req *r)
{
    return r->page_of;
}

struct sl_server *
sl_req_server(const struct sl_req *r)
{
    return (struct sl_server *)(uintptr_t)r->server;
}

int64_t
sl_req_upstream_us(const struct sl_req *r)
{
    return r->upstream_us;
}

struct sl_span
sl_req_scheme(struct sl_req *r)
{
    return sl_req_is_tls(r) ? SL_SPAN("https") : SL_SPAN("http");
}

#define ID_CHARS 16

/* A random start for each thread, then a count: unique, and nothing to wait for. */
struct sl_span
sl_req_id(struct sl_req *r)
{
    static _Thread_local uint64_t next;
    uint64_t id;
    char *text;
    int i;

    if (r->id == NULL) {
        r->id = text = apr_palloc(r->pool, ID_CHARS + 1);
        if (next == 0)
            sl_random_bytes(&next, sizeof next);
        id = next++;
        for (i = ID_CHARS - 1; i >= 0; i--, id >>= 4)
            text[i] = "0123456789abcdef"[id & 15];
        text[ID_CHARS] = '\0';
    }
    return (struct sl_span){r->id, ID_CHARS};
}

void
req_note_add(struct sl_req *r, enum req_note_kind kind, const struct hook_call *by,
             const char *text)
{
    struct req_note *note = apr_palloc(r->pool, sizeof *note);

    *note = (struct req_note){NULL, kind, by, text};
    *r->notes_end = note;
    r->notes_end = &note->next;
}

static void
req_log(struct sl_req *r, enum sl_level level, const char *id, const char *text)
{
    struct log_about about = {.request = sl_req_id(r), .host = r->host, .method = r->method,
                              .path = r->path};
    const struct log_sink *sink = r->scope->core->error_log->sink;

    about.client = r->conn != NULL ? sl_req_client_text(r) : SL_SPAN("-");
    if (sink != NULL)
        log_write_to(sink, level, id, &about, sl_span(text));
    else
        log_write(level, id, &about, sl_span(text));
}

/* A note is the module's whose hook runs. */
void
sl_req_note(struct sl_req *r, const char *fmt, ...)
{
    const char *module = crash_place.call != NULL ? crash_place.call->module->name : "core";
    const char *text;
    va_list args;

    va_start(args, fmt);
    text = apr_pvsprintf(r->pool, fmt, args);
    va_end(args);
    req_note_add(r, NOTE_WHY, crash_place.call, text);
    if (!sl_req_is_dry(r) && log_levels_want(r->scope->core->log_levels, SL_DEBUG, module))
        req_log(r, SL_DEBUG, "SL0460", text);
}

void
sl_req_log(struct sl_req *r, enum sl_level level, const char *id, const char *fmt, ...)
{
    char text[1024];
    int is_dry = sl_req_is_dry(r);
    va_list args;

    if (is_dry ? level >= SL_DEBUG
               : !sl_log_wants(level) ||
                     !log_levels_want_id(r->scope->core->log_levels, level, id))
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (is_dry)
        req_note_add(r, NOTE_LOGGED, crash_place.call, apr_psprintf(r->pool, "%s %s", id, text));
    else
        req_log(r, level, id, text);
}

struct req_data {
    struct req_data *next;
    const struct sl_module *module;
    uint64_t data[]; /* as pools align */
};

void *
sl_req_data(struct sl_req *r, const struct sl_module *module, size_t size)
{
    struct req_data *d;

    for (d = r->data; d != NULL; d = d->next)
        if (d->module == module)
            return d->data;
    d = apr_palloc(r->pool, sizeof *d + size);
    memset(d->data, 0, size);
    d->next = r->data;
    d->module = module;
    r->data = d;
    return d->data;
}

void **
request_vars(struct sl_req *r)
{
    return &r->vars;
}
