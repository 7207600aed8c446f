/* An explained request as text, for people, and as JSON, for machines. */
#include "explain.h"

#include "config/load.h"
#include "upstream/pool.h"

#include "sluice/upstream.h"

/* ---- what both show ---- */

/* Until a module chooses, a request has its listener's default host: that says nothing. */
static const struct sl_scope *
scope_of_kind(const struct explained *x, enum sl_scope_kind kind)
{
    const struct sl_scope *s = x->r->flags & REQ_ENTERED ? x->r->scope : NULL;

    while (s != NULL && s->kind != kind)
        s = s->parent;
    return s;
}

/* One line of the head that would be sent; 0 behind the last. */
static int
sent_next(struct sl_span *left, struct sl_span *line)
{
    const char *end = left->n > 0 ? memchr(left->at, '\r', left->n) : NULL;

    if (end == NULL || end == left->at)
        return 0;
    *line = (struct sl_span){left->at, (size_t)(end - left->at)};
    left->n -= line->n + 2;
    left->at = end + 2;
    return 1;
}

static const char *
note_phase(const struct req_note *n)
{
    return n->by != NULL ? hook_point_name(n->by->hook->point) : "core";
}

static const char *
note_module(const struct req_note *n)
{
    return n->by != NULL ? n->by->module->name : "";
}

/* ---- text ---- */

static void
text_scope(FILE *to, const char *word, const struct sl_scope *s)
{
    if (s != NULL)
        fprintf(to, "%-9s %s  (%s)\n", word, s->title, s->place);
    else
        fprintf(to, "%-9s none\n", word);
}

static void
text_notes(const struct explained *x, FILE *to)
{
    const struct req_note *n;

    fprintf(to, "\nsteps\n");
    for (n = x->r->notes; n != NULL; n = n->next)
        if (n->kind != NOTE_LEFT_OUT)
            fprintf(to, "  %-17s %-9s %s%s\n", note_phase(n), note_module(n),
                    n->kind == NOTE_LOGGED ? "logs " : "", n->text);
}

static unsigned
n_members(const struct sl_pool *pool)
{
    unsigned i, n = 0;

    for (i = 0; i < pool->n_servers; i++)
        n += !sl_server_is_gone(pool->servers[i]);
    return n;
}

/* Before anybody has asked for its name. */
static int
stands_for_a_name(const struct sl_server *s)
{
    return (s->flags & SL_SERVER_SEAT) != 0 &&
           server_n_addresses((const struct upstream_server *)(const void *)s) == 0;
}

static void
text_request(const struct explained *x, FILE *to)
{
    struct sl_span left = x->sent, line;
    unsigned n;

    if (x->server == NULL)
        return;
    fprintf(to, "\nrequest to %s", x->server->address);
    if (strcmp(x->server->name, x->server->address) != 0)
        fprintf(to, ", %s", x->server->name);
    n = n_members(x->target->pool);
    if (n > 1)
        fprintf(to, ", one of %u of pool %s", n, x->target->pool->name);
    if (stands_for_a_name(x->server))
        fprintf(to, ", which stands for all that the name leads to");
    fprintf(to, "\n");
    while (sent_next(&left, &line))
        fprintf(to, "  %.*s\n", (int)line.n, line.at);
}

static void
text_response(const struct explained *x, FILE *to)
{
    const struct sl_field *f;
    unsigned i;

    if (!x->has_ended) {
        fprintf(to, "\nno answer: a hook waits for what only a running server can tell\n");
        return;
    }
    fprintf(to, "\nanswer %d%s\n", x->r->status,
            x->is_assumed ? ", if the server says 200 and no more" : "");
    for (i = 0; (f = sl_fields_at(&x->r->response, i)) != NULL; i++)
        fprintf(to, "  %.*s: %.*s\n", (int)f->name.n, f->name.at, (int)f->value.n, f->value.at);
}

static void
text_left_out(const struct explained *x, FILE *to)
{
    const struct req_note *n;
    int is_first = 1;

    for (n = x->r->notes; n != NULL; n = n->next) {
        if (n->kind != NOTE_LEFT_OUT)
            continue;
        fprintf(to, "%s  %-17s %-9s %s: %s\n", is_first ? "\nnot evaluated\n" : "", note_phase(n),
                note_module(n), n->by->hook->name, n->text);
        is_first = 0;
    }
}

void
explain_print_text(const struct explained *x, FILE *to)
{
    struct sl_req *r = x->r;
    struct sl_span peer = conn_peer_text(r->conn), client = sl_req_client_text(r);

    fprintf(to, "%.*s %.*s from %.*s", (int)r->method.n, r->method.at, (int)x->url.n, x->url.at,
            (int)peer.n, peer.at);
    if (!sl_span_eq(peer, client))
        fprintf(to, ", a trusted proxy of %.*s", (int)client.n, client.at);
    fprintf(to, "\n\n");
    fprintf(to, "%-9s %s%s%s%s: %s\n", "listener", x->listener->conf->text,
            x->listener->conf->place != NULL ? "  (" : "",
            x->listener->conf->place != NULL ? x->listener->conf->place : "",
            x->listener->conf->place != NULL ? ")" : "", x->listener_why);
    text_scope(to, "host", scope_of_kind(x, SL_SCOPE_HOST));
    text_scope(to, "location", scope_of_kind(x, SL_SCOPE_LOCATION));
    if (x->target != NULL)
        fprintf(to, "%-9s %.*s\n", "target", (int)x->target->text.n, x->target->text.at);
    text_notes(x, to);
    text_request(x, to);
    text_response(x, to);
    text_left_out(x, to);
}

/* ---- JSON ---- */

/* Bytes above ASCII are shown as the characters they are in Latin-1: whatever came, this is
 * JSON. */
static void
json_text(FILE *to, struct sl_span s)
{
    size_t i;

    putc('"', to);
    for (i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.at[i];

        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c < ' ' || c >= 0x7f)
            fprintf(to, "\\u%04x", c);
        else
            putc(c, to);
    }
    putc('"', to);
}

static void
json_member(FILE *to, const char *name, const char *text)
{
    fprintf(to, "\"%s\":", name);
    if (text != NULL)
        json_text(to, sl_span(text));
    else
        fprintf(to, "null");
}

static void
json_scope(FILE *to, const char *name, const struct sl_scope *s)
{
    fprintf(to, "\"%s\":", name);
    if (s == NULL) {
        fprintf(to, "null,\n ");
        return;
    }
    fprintf(to, "{");
    json_member(to, "title", s->title);
    fprintf(to, ",");
    json_member(to, "place", s->place);
    fprintf(to, "},\n ");
}

static void
json_pair(FILE *to, struct sl_span name, struct sl_span value, int is_first)
{
    fprintf(to, is_first ? "[" : ",[");
    json_text(to, name);
    fprintf(to, ",");
    json_text(to, value);
    fprintf(to, "]");
}

static void
json_notes(const struct explained *x, FILE *to, const char *name, int left_out)
{
    const struct req_note *n;
    const char *before = "";

    fprintf(to, "\"%s\":[", name);
    for (n = x->r->notes; n != NULL; n = n->next) {
        if ((n->kind == NOTE_LEFT_OUT) != left_out)
            continue;
        fprintf(to, "%s\n  {", before);
        json_member(to, "phase", note_phase(n));
        fprintf(to, ",");
        json_member(to, "module", note_module(n));
        fprintf(to, ",");
        json_member(to, "hook", n->by != NULL ? n->by->hook->name : NULL);
        fprintf(to, ",\"is_log\":%s,", n->kind == NOTE_LOGGED ? "true" : "false");
        json_member(to, "text", n->text);
        fprintf(to, "}");
        before = ",";
    }
    fprintf(to, "],\n ");
}

static void
json_server(const struct explained *x, FILE *to)
{
    if (x->server == NULL) {
        fprintf(to, "\"target\":null,\"pool\":null,\"server\":null,\n ");
        return;
    }
    fprintf(to, "\"target\":");
    json_text(to, x->target->text);
    fprintf(to, ",");
    json_member(to, "pool", x->target->pool->name);
    fprintf(to, ",\"server\":{");
    json_member(to, "name", x->server->name);
    fprintf(to, ",");
    json_member(to, "address", x->server->address);
    fprintf(to, "},\n ");
}

static void
json_request(const struct explained *x, FILE *to)
{
    struct sl_span left = x->sent, line;
    int is_first = 1;

    fprintf(to, "\"request\":");
    if (!sent_next(&left, &line)) {
        fprintf(to, "null,\n ");
        return;
    }
    fprintf(to, "{\"line\":");
    json_text(to, line);
    fprintf(to, ",\"path\":");
    json_text(to, x->path);
    fprintf(to, ",\"fields\":[");
    while (sent_next(&left, &line)) {
        const char *colon = memchr(line.at + 1, ':', line.n - 1); /* :path has two */
        size_t n = colon != NULL ? (size_t)(colon - line.at) : line.n;
        size_t skip = n + 2 <= line.n ? n + 2 : line.n;

        json_pair(to, (struct sl_span){line.at, n},
                  (struct sl_span){line.at + skip, line.n - skip}, is_first);
        is_first = 0;
    }
    fprintf(to, "]},\n ");
}

static void
json_response(const struct explained *x, FILE *to)
{
    const struct sl_field *f;
    unsigned i;

    if (!x->has_ended) {
        fprintf(to, "\"response\":null}\n");
        return;
    }
    fprintf(to, "\"response\":{\"status\":%d,\"is_assumed\":%s,\"fields\":[", x->r->status,
            x->is_assumed ? "true" : "false");
    for (i = 0; (f = sl_fields_at(&x->r->response, i)) != NULL; i++)
        json_pair(to, f->name, f->value, i == 0);
    fprintf(to, "]}}\n");
}

void
explain_print_json(const struct explained *x, FILE *to)
{
    struct sl_req *r = x->r;

    fprintf(to, "{\"method\":");
    json_text(to, r->method);
    fprintf(to, ",\"url\":");
    json_text(to, x->url);
    fprintf(to, ",\"from\":");
    json_text(to, conn_peer_text(r->conn));
    fprintf(to, ",\"client\":");
    json_text(to, sl_req_client_text(r));
    fprintf(to, ",\n \"listener\":{");
    json_member(to, "text", x->listener->conf->text);
    fprintf(to, ",");
    json_member(to, "place", x->listener->conf->place);
    fprintf(to, ",");
    json_member(to, "why", x->listener_why);
    fprintf(to, "},\n ");
    json_scope(to, "host", scope_of_kind(x, SL_SCOPE_HOST));
    json_scope(to, "location", scope_of_kind(x, SL_SCOPE_LOCATION));
    json_notes(x, to, "steps", 0);
    json_server(x, to);
    json_request(x, to);
    json_notes(x, to, "not_evaluated", 1);
    json_response(x, to);
}
