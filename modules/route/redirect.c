/* Redirect, RedirectMatch, Return: answers that need no backend.
 *
 * What a client sends must never choose the host it is sent to by accident: a replacement
 * that does not itself begin with "//" gives no Location that does. */
#include "route.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <strings.h>

static int
is_redirect_status(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* -1: no number of three digits. */
static int
status_parse(const char *text)
{
    if (text == NULL || strlen(text) != 3 || strspn(text, "0123456789") != 3)
        return -1;
    return atoi(text);
}

/* httpd's words for a status; 0: it is none of them. */
static int
status_of_word(const char *word)
{
    static const struct {
        const char *word;
        int status;
    } words[] = {{"permanent", 301}, {"temp", 302}, {"seeother", 303}};
    size_t i;

    for (i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(words[i].word, word) == 0)
            return words[i].status;
    return 0;
}

static const char *
redirect_parse_status(struct sl_cmd *cmd, struct redirect *d)
{
    int argc = sl_cmd_argc(cmd), status = argc > 0 ? status_of_word(sl_cmd_arg(cmd, 0)) : 0;

    d->place = sl_cmd_place(cmd);
    d->scope = sl_cmd_scope(cmd);
    if (status > 0)
        sl_cmd_cure(cmd, "the status is a number: %d", status);
    else if (argc == 2 && status_parse(sl_cmd_arg(cmd, 0)) < 0)
        sl_cmd_cure(cmd, "the status stands first: 302 %s %s", sl_cmd_arg(cmd, 0),
                    sl_cmd_arg(cmd, 1));
    if (argc != 3)
        return sl_cmd_error(cmd, "expected three words, the status, what is moved, and where to, "
                            "found %d", argc);
    d->status = status_parse(sl_cmd_arg(cmd, 0));
    if (!is_redirect_status(d->status))
        return sl_cmd_error(cmd, "expected 301, 302, 303, 307 or 308, found \"%s\"",
                            sl_cmd_arg(cmd, 0));
    d->may_name_host = strncmp(sl_cmd_arg(cmd, 2), "//", 2) == 0;
    return NULL;
}

const char *
route_parse_redirect(struct sl_cmd *cmd, void **item)
{
    apr_pool_t *pool = sl_cmd_pool(cmd);
    struct redirect *d = apr_pcalloc(pool, sizeof *d);
    const char *err = redirect_parse_status(cmd, d);

    if (err == NULL)
        err = route_path_check(cmd, sl_cmd_arg(cmd, 1));
    if (err != NULL)
        return err;
    if (*sl_cmd_arg(cmd, 2) == '\0')
        return "expected a path or URL to go to, found nothing";
    d->path = sl_span(apr_pstrdup(pool, sl_cmd_arg(cmd, 1)));
    d->to_text = sl_cmd_arg(cmd, 2);
    d->to = sl_cmd_expr(cmd, sl_cmd_arg(cmd, 2), SL_PHASE_ROUTED, NULL, &err);
    *item = d;
    return err;
}

const char *
route_parse_redirect_match(struct sl_cmd *cmd, void **item)
{
    struct redirect *d = apr_pcalloc(sl_cmd_pool(cmd), sizeof *d);
    const char *err = redirect_parse_status(cmd, d);

    if (err == NULL)
        err = sl_cmd_pattern(cmd, sl_cmd_arg(cmd, 1), &d->pattern);
    if (err == NULL)
        err = sl_cmd_template(cmd, sl_cmd_arg(cmd, 2), d->pattern, SL_PHASE_ROUTED, route_escape_url,
                              &d->template);
    d->to_text = sl_cmd_arg(cmd, 2);
    *item = d;
    return err;
}

const char *
route_parse_return(struct sl_cmd *cmd, void **item)
{
    struct route_return *a = apr_pcalloc(sl_cmd_pool(cmd), sizeof *a);
    const char *err, *text = sl_cmd_arg(cmd, 1);
    int argc = sl_cmd_argc(cmd);

    if (argc < 1 || argc > 2)
        return sl_cmd_error(cmd, "expected a status and, in double quotes where it has spaces, a "
                            "text, found %d words", argc);
    a->status = status_parse(sl_cmd_arg(cmd, 0));
    if (a->status < 200 || a->status > 599)
        return sl_cmd_error(cmd, "expected a status from 200 to 599, found \"%s\"",
                            sl_cmd_arg(cmd, 0));
    a->is_location = is_redirect_status(a->status);
    if (a->is_location && text == NULL)
        return sl_cmd_error(cmd, "%d needs a second word: where to go", a->status);
    if ((a->status == 204 || a->status == 304) && text != NULL)
        return sl_cmd_error(cmd, "%d has no text (RFC 9110, 6.4.1)", a->status);
    if (text != NULL) {
        a->text = sl_cmd_expr(cmd, sl_cmd_arg(cmd, 1), SL_PHASE_ROUTED, NULL, &err);
        if (a->text == NULL)
            return err;
    }
    a->place = sl_cmd_place(cmd);
    a->scope = sl_cmd_scope(cmd);
    a->rank = route_rank(sl_cmd_scope(cmd));
    *item = a;
    return NULL;
}

/* ---- per request ---- */

/* The client's query goes along where TO has none: before a fragment (RFC 3986, 3). */
static struct sl_span
with_query(struct sl_req *r, struct sl_span to)
{
    struct sl_span query = sl_req_query(r);
    const char *fragment = memchr(to.at, '#', to.n);
    size_t n = fragment != NULL ? (size_t)(fragment - to.at) : to.n;
    struct sl_span parts[] = {{to.at, n}, SL_SPAN("?"), query, route_span_from(to, n)};

    if (query.at == NULL || memchr(to.at, '?', n) != NULL)
        return to;
    return sl_spans_join(sl_req_pool(r), parts, 4);
}

/* "//evil.test/" sends to another host, which a client's own path must not do: only where the
 * configuration begins so. */
static enum sl_verdict
send_to(struct sl_req *r, int status, struct sl_span to, int may_name_host)
{
    while (!may_name_host && route_begins(to, SL_SPAN("//")))
        to = route_span_from(to, 1);
    to = route_escape(sl_req_pool(r), to, ROUTE_IN_PATH | ROUTE_IN_URL);
    sl_fields_set(sl_req_response(r), "Location", to);
    return sl_respond(r, status, NULL, SL_SPAN(""));
}

static enum sl_verdict
redirect_exact(struct sl_req *r, const apr_array_header_t *lines)
{
    struct sl_span path = sl_req_path(r);
    int i;

    for (i = 0; i < route_n(lines); i++) {
        const struct redirect *d = APR_ARRAY_IDX(lines, i, struct redirect *);

        if (!sl_span_eq(d->path, path))
            continue;
        sl_note(r, "%s Redirect %d %.*s", d->place, d->status, (int)path.n, path.at);
        return send_to(r, d->status, with_query(r, sl_expr_text(d->to, r)), d->may_name_host);
    }
    return SL_NEXT;
}

static enum sl_verdict
redirect_pattern(struct sl_req *r, const apr_array_header_t *lines)
{
    struct sl_captures captures;
    struct sl_span path = {NULL, 0};
    int i;

    if (route_n(lines) > 0) /* normalised as all matching is, escaped as its groups must be */
        path = route_escape_decoded(sl_req_pool(r), sl_req_path(r));
    for (i = 0; i < route_n(lines); i++) {
        const struct redirect *d = APR_ARRAY_IDX(lines, i, struct redirect *);
        int found = sl_pattern_match(d->pattern, path, 0, &captures);

        if (found < 0)
            return sl_req_fail(r, 0, &sl_cause_pattern_limit, "RedirectMatch");
        if (!found)
            continue;
        sl_note(r, "%s RedirectMatch %d \"%s\"", d->place, d->status, sl_pattern_text(d->pattern));
        return send_to(r, d->status, with_query(r, sl_template_fill(d->template, &captures, r)),
                       d->may_name_host);
    }
    return SL_NEXT;
}

enum sl_verdict
route_redirect(struct sl_req *r, const struct route_conf *conf)
{
    enum sl_verdict v = redirect_exact(r, conf->redirects);

    return v != SL_NEXT ? v : redirect_pattern(r, conf->redirect_matches);
}

enum sl_verdict
route_return(struct sl_req *r, const struct route_return *answer)
{
    struct sl_span text = {"", 0};

    sl_note(r, "%s Return %d", answer->place, answer->status);
    if (answer->text != NULL)
        text = sl_expr_text(answer->text, r);
    if (answer->is_location)
        return send_to(r, answer->status, text,
                       strncmp(sl_expr_source(answer->text), "//", 2) == 0);
    return sl_respond(r, answer->status, answer->text != NULL ? "text/plain" : NULL, text);
}
