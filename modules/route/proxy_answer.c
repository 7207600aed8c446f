/* ProxyIntercept, which the core carries out, and ProxyCookie: Domain and Path of Set-Cookie,
 * mapped back.
 *
 * A cookie is taken apart as a browser does (RFC 6265, 5.2): at semicolons, the first part its
 * name and value, blanks around names and values without meaning.  What is mapped is replaced in
 * place; every other byte stays. */
#include "route.h"

#include <apr_strings.h>

/* ---- the lines ---- */

const char *
route_parse_intercept(struct sl_cmd *cmd, void **item)
{
    struct sl_statuses *set = apr_pcalloc(sl_cmd_pool(cmd), sizeof *set);
    const char *err;
    int i = 0;

    *item = set;
    do {
        if ((err = sl_cmd_status(cmd, i, set)) != NULL)
            return err;
    } while (++i < sl_cmd_argc(cmd));
    return NULL;
}

struct cookie_line {
    int is_path; /* else a domain */
    struct sl_span from, to;
};

static struct sl_span
without_dot(struct sl_span domain)
{
    return route_begins(domain, SL_SPAN(".")) ? route_span_from(domain, 1) : domain;
}

const char *
route_parse_cookie(struct sl_cmd *cmd, void **item)
{
    apr_pool_t *pool = sl_cmd_pool(cmd);
    struct cookie_line *line = apr_pcalloc(pool, sizeof *line);
    const char *kind = sl_cmd_arg(cmd, 0), *p;

    *item = line;
    if (sl_cmd_argc(cmd) != 3 || (strcmp(kind, "domain") != 0 && strcmp(kind, "path") != 0))
        return "expected \"domain\" or \"path\", what stands there, and what to put in its place";
    line->is_path = strcmp(kind, "path") == 0;
    line->from = sl_span(apr_pstrdup(pool, sl_cmd_arg(cmd, 1)));
    line->to = sl_span(apr_pstrdup(pool, sl_cmd_arg(cmd, 2)));
    for (p = line->to.at; *p != '\0'; p++)
        if ((unsigned char)*p <= 0x20 || *p == 0x7f || *p == ';' || *p == ',')
            return "expected a text that may stand in a cookie: no blanks, semicolons or commas";
    if (line->is_path && (line->to.n == 0 || *line->to.at != '/'))
        return sl_cmd_error(cmd, "expected a path that begins with '/', found \"%s\"", line->to.at);
    if (line->is_path && *sl_cmd_arg(cmd, 1) != '/')
        return sl_cmd_error(cmd, "expected a path that begins with '/', found \"%s\"", line->from.at);
    if (!line->is_path)
        line->from = without_dot(line->from);
    return line->from.n > 0 ? NULL : "expected a domain, found nothing";
}

/* ---- one attribute ---- */

/* Where it stands in the text: from its semicolon on, and its value alone. */
struct attribute {
    struct sl_span all, name, value;
};

static struct sl_span
trim(struct sl_span s)
{
    while (s.n > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
        s = route_span_from(s, 1);
    while (s.n > 0 && (s.at[s.n - 1] == ' ' || s.at[s.n - 1] == '\t'))
        s.n--;
    return s;
}

static struct sl_span
unquoted(struct sl_span s)
{
    if (s.n >= 2 && s.at[0] == '"' && s.at[s.n - 1] == '"')
        return (struct sl_span){s.at + 1, s.n - 2};
    return s;
}

/* The first attribute at or behind `from`; 0: there is none. */
static int
attribute_next(struct sl_span text, size_t from, struct attribute *a)
{
    const char *end = text.at + text.n, *at = text.at + from, *stop, *eq;

    at = at < end ? memchr(at, ';', (size_t)(end - at)) : NULL;
    if (at == NULL)
        return 0;
    stop = memchr(at + 1, ';', (size_t)(end - at - 1));
    a->all = (struct sl_span){at, (size_t)((stop != NULL ? stop : end) - at)};
    eq = memchr(at, '=', a->all.n);
    if (eq == NULL)
        eq = at + a->all.n;
    a->name = trim((struct sl_span){at + 1, (size_t)(eq - at - 1)});
    a->value = eq < at + a->all.n
                   ? unquoted(trim(route_span_from(a->all, (size_t)(eq + 1 - at))))
                   : (struct sl_span){eq, 0};
    return 1;
}

/* 1: *mapped is what the path becomes. */
static int
path_mapped(const struct cookie_line *line, apr_pool_t *pool, struct sl_span path,
            struct sl_span *mapped)
{
    struct sl_span from = route_path_trim(line->from), to = route_path_trim(line->to);

    *mapped = line->to;
    if (sl_span_eq(path, line->from))
        return 1;
    if (!route_path_is_below(path, from))
        return 0;
    if (path.n > from.n)
        *mapped = sl_spans_join(pool, (struct sl_span[]){to, route_span_from(path, from.n)}, 2);
    else if (to.n > 0)
        *mapped = to;
    return 1;
}

static int
attribute_mapped(const apr_array_header_t *lines, apr_pool_t *pool, const struct attribute *a,
                 struct sl_span *mapped)
{
    int is_path = sl_span_eqi(a->name, SL_SPAN("path")), i;

    if (a->value.n == 0) /* "Path" and "Path=": where the browser asked */
        return 0;
    if (!is_path && !sl_span_eqi(a->name, SL_SPAN("domain")))
        return 0;
    for (i = 0; i < lines->nelts; i++) {
        const struct cookie_line *line = APR_ARRAY_IDX(lines, i, const struct cookie_line *);

        if (line->is_path != is_path)
            continue;
        if (is_path ? path_mapped(line, pool, a->value, mapped)
                    : sl_span_eqi(without_dot(a->value), line->from)) {
            if (!is_path)
                *mapped = line->to;
            return 1;
        }
    }
    return 0;
}

/* ---- a cookie ---- */

/* The text with the attribute's value replaced, or without the attribute; *from is where what
 * follows it begins. */
static struct sl_span
text_with(apr_pool_t *pool, struct sl_span text, const struct attribute *a, struct sl_span value,
          size_t *from)
{
    struct sl_span hole = value.n > 0 ? a->value : a->all;
    size_t before = (size_t)(hole.at - text.at);
    struct sl_span parts[] = {{text.at, before}, value, route_span_from(text, before + hole.n)};

    *from = before + value.n;
    return sl_spans_join(pool, parts, 3);
}

static struct sl_span
cookie_mapped(const apr_array_header_t *lines, apr_pool_t *pool, struct sl_span text)
{
    struct attribute a;
    struct sl_span value;
    size_t from = 0;

    while (attribute_next(text, from, &a)) {
        if (attribute_mapped(lines, pool, &a, &value))
            text = text_with(pool, text, &a, value, &from);
        else
            from = (size_t)(a.all.at - text.at) + a.all.n;
    }
    return text;
}

void
route_map_cookies(struct sl_attempt *a, const apr_array_header_t *lines)
{
    struct sl_fields *response = sl_attempt_response(a);
    struct sl_req *r = sl_attempt_req(a);
    const struct sl_field *x;
    unsigned i;

    for (i = 0; (x = sl_fields_at(response, i)) != NULL; i++) {
        struct sl_span mapped;

        if (x->id != SL_F_SET_COOKIE)
            continue;
        mapped = cookie_mapped(lines, sl_req_pool(r), x->value);
        if (mapped.at == x->value.at)
            continue;
        sl_fields_put(response, i, mapped);
        sl_note(r, "ProxyCookie: a Set-Cookie field is mapped"); /* its value is nobody's business */
    }
}
