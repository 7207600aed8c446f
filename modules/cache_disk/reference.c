/* See reference.h. */
#include "reference.h"

/* Until one of these, or the end. */
static struct sl_span
until(struct sl_span s, const char *ends)
{
    size_t n = 0;

    while (n < s.n && strchr(ends, s.at[n]) == NULL)
        n++;
    return (struct sl_span){s.at, n};
}

static struct sl_span
behind(struct sl_span s, size_t n)
{
    return (struct sl_span){s.at + n, s.n - n};
}

static int
begins_with(struct sl_span s, struct sl_span with)
{
    return s.n >= with.n && sl_span_eq((struct sl_span){s.at, with.n}, with);
}

/* ---- origins (RFC 9110, 4.3.1) ---- */

/* A port that is the scheme's own may be left out (4.2.3). */
static struct sl_span
port_unless_own(struct sl_span port, struct sl_span scheme)
{
    struct sl_span own = sl_span_eqi(scheme, SL_SPAN("https")) ? SL_SPAN(":443") : SL_SPAN(":80");

    return port.n <= 1 || sl_span_eq(port, own) ? SL_SPAN("") : port;
}

static int
is_of_base(const struct reference_base *base, struct sl_span authority)
{
    size_t n = authority.n > 0 && authority.at[0] == '[' ? until(authority, "]").n : 0;
    struct sl_span port = behind(authority, n + until(behind(authority, n), ":").n);
    struct sl_span host = {authority.at, authority.n - port.n};

    return sl_span_eqi(host, base->host) && sl_span_eq(port_unless_own(port, base->scheme),
                                                       port_unless_own(base->port, base->scheme));
}

/* ---- paths (RFC 3986, 5.2) ---- */

/* Segments move down over those that are taken away; how many bytes are left. */
static size_t
dots_remove(char *path, size_t n)
{
    struct sl_span segment, rest = {path, n};
    size_t to = 0;

    for (; rest.n > 0; rest = behind(rest, segment.n)) {
        segment = (struct sl_span){rest.at, 1 + until(behind(rest, 1), "/").n};
        if (sl_span_eq(segment, SL_SPAN("/..")))
            while (to > 0 && path[--to] != '/')
                ;
        else if (!sl_span_eq(segment, SL_SPAN("/."))) {
            memmove(path + to, segment.at, segment.n);
            to += segment.n;
            continue;
        }
        if (segment.n == rest.n) /* the last: it names a folder */
            path[to++] = '/';
    }
    return to;
}

static struct sl_span
without_dots(apr_pool_t *pool, struct sl_span path)
{
    char *copy = sl_span_dup(pool, path);

    return (struct sl_span){copy, dots_remove(copy, path.n)};
}

/* What stands before the last segment, with its slash. */
static struct sl_span
folder_of(struct sl_span path)
{
    while (path.n > 0 && path.at[path.n - 1] != '/')
        path.n--;
    return path;
}

/* ---- the reference ---- */

enum origin { NONE, SAME, OTHER };

/* Takes scheme and authority off, if there are any. */
static enum origin
origin_take(const struct reference_base *base, struct sl_span *rest)
{
    struct sl_span scheme = until(*rest, ":/?"), authority;

    if (scheme.n < rest->n && rest->at[scheme.n] == ':') {
        *rest = behind(*rest, scheme.n + 1);
        if (!sl_span_eqi(scheme, base->scheme) || !begins_with(*rest, SL_SPAN("//")))
            return OTHER;
    }
    if (!begins_with(*rest, SL_SPAN("//")))
        return NONE;
    authority = until(behind(*rest, 2), "/?");
    *rest = behind(*rest, 2 + authority.n);
    return is_of_base(base, authority) ? SAME : OTHER;
}

static struct sl_span
path_of(apr_pool_t *pool, const struct reference_base *base, struct sl_span path, enum origin origin)
{
    if (path.n == 0)
        return origin == NONE ? base->path : SL_SPAN("/");
    if (path.at[0] != '/')
        path = sl_spans_join(pool, (struct sl_span[]){folder_of(base->path), path}, 2);
    return without_dots(pool, path);
}

struct sl_span
reference_resolve(apr_pool_t *pool, const struct reference_base *base, struct sl_span reference)
{
    struct sl_span rest = until(reference, "#"), path;
    enum origin origin;

    if (rest.n == 0 || (origin = origin_take(base, &rest)) == OTHER)
        return (struct sl_span){NULL, 0};
    path = until(rest, "?");
    return sl_spans_join(pool, (struct sl_span[]){base->scheme, SL_SPAN("://"), base->host, base->port,
                                                  path_of(pool, base, path, origin),
                                                  behind(rest, path.n)}, 6);
}
