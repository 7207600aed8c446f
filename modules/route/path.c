/* Raw paths and their normalised form.  Locations match the normalised path, but a backend
 * is to see the client's own bytes: so where a prefix is taken off, it is taken off the raw
 * path, segment by segment. */
#include "route.h"

/* RFC 3986, 3.3 to 3.5.  '%' passes: escapes stay escapes. */
static const uint8_t url_bytes[256] = {
    ['!'] = ROUTE_IN_PATH,         ['$' ... ';'] = ROUTE_IN_PATH, ['='] = ROUTE_IN_PATH,
    ['@' ... 'Z'] = ROUTE_IN_PATH, ['['] = ROUTE_IN_PATH,         [']'] = ROUTE_IN_PATH,
    ['_'] = ROUTE_IN_PATH,         ['a' ... 'z'] = ROUTE_IN_PATH, ['~'] = ROUTE_IN_PATH,
    ['?'] = ROUTE_IN_URL,          ['#'] = ROUTE_IN_URL,
};

static int
byte_may_stand(char c, unsigned allowed)
{
    return (url_bytes[(unsigned char)c] & allowed) != 0;
}

struct sl_span
route_escape(apr_pool_t *pool, struct sl_span s, unsigned allowed)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t i, n_bad = 0;
    char *to, *at;

    for (i = 0; i < s.n; i++)
        n_bad += !byte_may_stand(s.at[i], allowed);
    if (n_bad == 0)
        return s;
    to = at = apr_palloc(pool, s.n + 2 * n_bad);
    for (i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.at[i];

        if (byte_may_stand(s.at[i], allowed)) {
            *at++ = s.at[i];
            continue;
        }
        *at++ = '%';
        *at++ = hex[c >> 4];
        *at++ = hex[c & 15];
    }
    return (struct sl_span){to, (size_t)(at - to)};
}

struct sl_span
route_escape_path(apr_pool_t *pool, struct sl_span s)
{
    return route_escape(pool, s, ROUTE_IN_PATH);
}

struct sl_span
route_escape_url(apr_pool_t *pool, struct sl_span s)
{
    return route_escape(pool, s, ROUTE_IN_PATH | ROUTE_IN_URL);
}

static int
is_escaped_slash(struct sl_span s, size_t i)
{
    return i + 2 < s.n && s.at[i + 1] == '2' && (s.at[i + 2] | 0x20) == 'f';
}

struct sl_span
route_escape_decoded(apr_pool_t *pool, struct sl_span s)
{
    char *to = NULL, *at = NULL;
    size_t i;

    for (i = 0; i < s.n; i++) {
        int is_sign = s.at[i] == '%' && !is_escaped_slash(s, i);

        if (is_sign && to == NULL) {
            to = apr_palloc(pool, 3 * s.n);
            memcpy(to, s.at, i);
            at = to + i;
        }
        if (to == NULL)
            continue;
        *at++ = s.at[i];
        if (is_sign)
            *at++ = '2', *at++ = '5';
    }
    return route_escape_path(pool, to != NULL ? (struct sl_span){to, (size_t)(at - to)} : s);
}

/* "%2F" stays as it is when paths are normalised; every other escape is decoded. */
static const char *
escape_check(struct sl_cmd *cmd, const char *at)
{
    if (at[1] == '2' && (at[2] == 'F' || at[2] == 'f'))
        return NULL;
    sl_cmd_cure(cmd, "write the byte itself, in double quotes where it is a space");
    return sl_cmd_error(cmd, "matching sees paths decoded, so \"%.3s\" never stands in one", at);
}

const char *
route_path_check(struct sl_cmd *cmd, const char *path)
{
    const char *at;

    if (*path != '/')
        return sl_cmd_error(cmd, "expected a path that begins with '/', found \"%s\"", path);
    for (at = path; *at != '\0'; at++) {
        const char *err = *at == '%' ? escape_check(cmd, at) : NULL;

        if (err != NULL)
            return err;
        if (at[0] == '?')
            return "a path is matched without its query, so '?' never stands in one";
        if (at[0] == '/' && at[1] == '/')
            return "slashes are merged before matching, so \"//\" never stands in a path";
        if (at[0] == '/' && at[1] == '.' && (at[2 + (at[2] == '.')] == '/' ||
                                             at[2 + (at[2] == '.')] == '\0'))
            return "dot segments are removed before matching and never stand in a path";
    }
    return NULL;
}

int
route_path_is_below(struct sl_span path, struct sl_span prefix)
{
    if (!route_begins(path, prefix))
        return 0;
    return path.n == prefix.n || prefix.n == 0 || prefix.at[prefix.n - 1] == '/' ||
           path.at[prefix.n] == '/';
}

/* How many dots a segment is made of, escaped or not, and nothing else; 0: no dot segment. */
static int
segment_dots(struct sl_span s)
{
    int n = 0;
    size_t i = 0;

    while (i < s.n && n < 3) {
        if (s.at[i] == '.')
            i++;
        else if (s.n - i >= 3 && memcmp(s.at + i, "%2", 2) == 0 && (s.at[i + 2] | 32) == 'e')
            i += 3;
        else
            return 0;
        n++;
    }
    return n < 3 ? n : 0;
}

/* The raw path without dot segments and doubled slashes, escapes kept: its segments are
 * those of the normalised path, one by one (RFC 3986, 5.2.4). */
static struct sl_span
path_clean(apr_pool_t *pool, struct sl_span raw)
{
    char *to = apr_palloc(pool, raw.n + 1);
    size_t n = 1, i = 1;

    to[0] = '/';
    while (i < raw.n) {
        const char *slash = memchr(raw.at + i, '/', raw.n - i);
        size_t end = slash != NULL ? (size_t)(slash - raw.at) : raw.n;
        struct sl_span segment = {raw.at + i, end - i};
        int dots = segment_dots(segment);

        if (dots == 2)
            while (n > 1 && to[--n - 1] != '/')
                ;
        if (dots == 0 && segment.n > 0) {
            memcpy(to + n, segment.at, segment.n);
            n += segment.n;
            if (slash != NULL)
                to[n++] = '/';
        }
        i = end + 1;
    }
    return (struct sl_span){to, n};
}

struct sl_span
route_path_rest(apr_pool_t *pool, struct sl_span raw, struct sl_span path,
                struct sl_span prefix)
{
    size_t i, n_segments = 0;

    prefix = route_path_trim(prefix);
    if (sl_span_eq(raw, path))
        return route_span_from(raw, prefix.n);
    raw = path_clean(pool, raw);
    for (i = 0; i < prefix.n; i++)
        n_segments += prefix.at[i] == '/';
    for (i = 0; i < raw.n && (raw.at[i] != '/' || n_segments > 0); i++)
        n_segments -= raw.at[i] == '/';
    return route_span_from(raw, i);
}
