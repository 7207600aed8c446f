/* ProxyRedirect: Location and Content-Location of a response, mapped back.
 *
 * A backend knows itself under its own address, and under the path ProxyPass gives it:
 *
 *     ProxyPass http://app:8080/v2 in <Location /api>
 *     Location: http://app:8080/v2/login    ->  https://example.com/api/login
 *
 * A URL with the backend's authority is surely its own view.  A path alone, or a URL with
 * the client's authority, is mapped only where it has the target's path and not already the
 * location's: many backends know under which path they are published. */
#include "route.h"

#include <apr_strings.h>

#include <strings.h>

/* One line: on and off stand for the mapping above; else a text is replaced by another. */
struct map_line {
    enum { MAP_ON, MAP_OFF, MAP_TEXT } kind;
    struct sl_span from, to;
};

const char *
route_parse_proxy_redirect(struct sl_cmd *cmd, void **item)
{
    apr_pool_t *pool = sl_cmd_pool(cmd);
    struct map_line *line = apr_pcalloc(pool, sizeof *line);
    const char *word = sl_cmd_arg(cmd, 0);

    *item = line;
    if (sl_cmd_argc(cmd) == 1 && (strcmp(word, "on") == 0 || strcmp(word, "off") == 0)) {
        line->kind = word[1] == 'n' ? MAP_ON : MAP_OFF;
        return NULL;
    }
    if (sl_cmd_argc(cmd) != 2)
        return "expected \"on\", \"off\", or a text that Location may begin with and another "
               "to put in its place";
    if (*word == '\0')
        return "expected a text that Location may begin with, found nothing";
    line->kind = MAP_TEXT;
    line->from = sl_span(apr_pstrdup(pool, word));
    line->to = route_escape(pool, sl_span(apr_pstrdup(pool, sl_cmd_arg(cmd, 1))),
                            ROUTE_IN_PATH | ROUTE_IN_URL);
    return NULL;
}

/* ---- URLs ---- */

struct url {
    int default_port;
    struct sl_span authority;
    struct sl_span rest; /* path, query, fragment */
};

static int
url_split(struct sl_span text, struct url *url)
{
    size_t n = 0;

    if (text.n > 7 && strncasecmp(text.at, "http://", 7) == 0)
        n = 7, url->default_port = 80;
    else if (text.n > 8 && strncasecmp(text.at, "https://", 8) == 0)
        n = 8, url->default_port = 443;
    else
        return 0;
    text = route_span_from(text, n);
    for (n = 0; n < text.n && strchr("/?#", text.at[n]) == NULL; n++)
        ;
    url->authority = (struct sl_span){text.at, n};
    url->rest = route_span_from(text, n);
    return 1;
}

static struct sl_span
authority_split(struct sl_span authority, int default_port, int *port)
{
    size_t i = authority.n, end = authority.n;

    *port = 0;
    while (i > 0 && authority.at[i - 1] >= '0' && authority.at[i - 1] <= '9')
        i--;
    if (i == 0 || authority.at[i - 1] != ':') {
        *port = default_port;
        return authority;
    }
    authority.n = i - 1;
    for (; i < end && *port <= 65535; i++)
        *port = *port * 10 + (authority.at[i] - '0');
    return authority;
}

static int
authority_is(const struct url *url, struct sl_span other)
{
    int port, other_port;
    struct sl_span host = authority_split(url->authority, url->default_port, &port);
    struct sl_span other_host = authority_split(other, url->default_port, &other_port);

    return other.n > 0 && port == other_port && sl_span_eqi(host, other_host);
}

/* ---- the two views of a path ---- */

struct view {
    struct sl_span outer, inner; /* without a trailing slash */
    int is_exact;
    int is_mapped; /* the two differ */
};

static struct view
view_of(const struct route_conf *conf)
{
    struct view v = {SL_SPAN(""), SL_SPAN(""), 0, 0};
    int has_path = conf->pass != NULL && conf->pass->target->path.n > 0 && conf->pass->whole == NULL;

    if (has_path) {
        v.outer = conf->pass->prefix;
        v.inner = route_path_trim(conf->pass->target->path);
        v.is_exact = conf->pass->is_exact && conf->strip == NULL;
    }
    if (conf->strip != NULL)
        v.outer = route_path_trim(sl_span(conf->strip));
    v.is_mapped = (has_path || conf->strip != NULL) && !sl_span_eq(v.outer, v.inner);
    return v;
}

/* The length of the path in what follows an authority. */
static struct sl_span
path_of(struct sl_span rest)
{
    size_t n = 0;

    while (n < rest.n && rest.at[n] != '?' && rest.at[n] != '#')
        n++;
    return (struct sl_span){rest.at, n};
}

/* The rest of a URL as the client is to see it. */
static struct sl_span
view_outer(const struct view *v, apr_pool_t *pool, struct sl_span rest)
{
    struct sl_span path = path_of(rest), parts[2] = {v->outer, rest};

    if (!v->is_mapped || !route_path_is_below(path, v->inner))
        return rest;
    if (v->is_exact && path.n > v->inner.n + 1)
        return rest;
    parts[1] = route_span_from(rest, v->inner.n);
    if (v->outer.n == 0 && path.n == v->inner.n)
        parts[0] = SL_SPAN("/");
    return sl_spans_join(pool, parts, 2);
}

/* Whether a path that is not surely the backend's own view needs mapping. */
static int
view_needs(const struct view *v, struct sl_span rest)
{
    return v->is_mapped && (v->outer.n == 0 || !route_path_is_below(path_of(rest), v->outer));
}

/* ---- the mapping ---- */

static int
is_backend(struct sl_attempt *a, const struct route_conf *conf, const struct url *url)
{
    const struct sl_server *s = sl_attempt_server(a);

    return (conf->pass != NULL && authority_is(url, conf->pass->target->authority)) ||
           (s != NULL && authority_is(url, sl_span(s->address)));
}

static struct sl_span
map_known(struct sl_attempt *a, const struct route_conf *conf, struct sl_span value)
{
    struct sl_req *r = sl_attempt_req(a);
    apr_pool_t *pool = sl_req_pool(r);
    struct view v = view_of(conf);
    struct url url;

    if (!url_split(value, &url)) {
        int is_path = route_begins(value, SL_SPAN("/")) && !route_begins(value, SL_SPAN("//"));

        return is_path && view_needs(&v, value) ? view_outer(&v, pool, value) : value;
    }
    if (is_backend(a, conf, &url)) {
        struct sl_span rest = view_outer(&v, pool, url.rest);
        struct sl_span parts[] = {sl_req_scheme(r), SL_SPAN("://"), sl_req_authority(r), rest};

        if (parts[2].n > 0)
            return sl_spans_join(pool, parts, 4);
        return rest.n > 0 ? rest : SL_SPAN("/"); /* a client without Host: a path is enough */
    }
    if (authority_is(&url, sl_req_authority(r)) && view_needs(&v, url.rest)) {
        struct sl_span parts[] = {{value.at, value.n - url.rest.n},
                                  view_outer(&v, pool, url.rest)};

        return sl_spans_join(pool, parts, 2);
    }
    return value;
}

/* Texts first, in order; then what on and off say last.  off forgets the texts before it. */
static struct sl_span
map_value(struct sl_attempt *a, const struct route_conf *conf, struct sl_span value)
{
    const apr_array_header_t *lines = conf->proxy_redirects;
    int i, is_on = 1, first = 0;

    for (i = 0; i < route_n(lines); i++) {
        const struct map_line *line = APR_ARRAY_IDX(lines, i, struct map_line *);

        if (line->kind == MAP_TEXT)
            continue;
        is_on = line->kind == MAP_ON;
        first = is_on ? first : i + 1;
    }
    for (i = first; i < route_n(lines); i++) {
        const struct map_line *line = APR_ARRAY_IDX(lines, i, struct map_line *);

        if (line->kind == MAP_TEXT && route_begins(value, line->from)) {
            struct sl_span parts[] = {line->to, route_span_from(value, line->from.n)};

            return sl_spans_join(sl_req_pool(sl_attempt_req(a)), parts, 2);
        }
    }
    return is_on ? map_known(a, conf, value) : value;
}

static void
map_field(struct sl_attempt *a, const struct route_conf *conf, enum sl_field_id id,
          const char *name)
{
    struct sl_fields *response = sl_attempt_response(a);
    struct sl_span value, mapped;

    if (!sl_fields_has_id(response, id))
        return;
    value = sl_fields_get_id(response, id);
    mapped = map_value(a, conf, value);
    if (mapped.at == value.at && mapped.n == value.n)
        return;
    sl_fields_set(response, name, mapped);
    sl_note(sl_attempt_req(a), "ProxyRedirect: %s %.*s becomes %.*s", name, (int)value.n,
            value.at, (int)mapped.n, mapped.at);
}

void
route_map_back(struct sl_attempt *a, const struct route_conf *conf)
{
    map_field(a, conf, SL_F_LOCATION, "Location");
    map_field(a, conf, SL_F_CONTENT_LOCATION, "Content-Location");
}
