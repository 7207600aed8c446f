/* Request targets, hosts and paths: the parts of a URI that decide where a request goes
 * (RFC 9112, 3.2; RFC 3986). */
#include "http/head.h"

#include "runtime/span.h"

#include <arpa/inet.h>

/* What a reg-name is made of besides %XX: unreserved and sub-delims (RFC 3986, 3.2.2). */
static const uint8_t host_bytes[256] = {
    ['!'] = 1,         ['$'] = 1,         ['&' ... '.'] = 1, ['0' ... '9'] = 1, [';'] = 1,
    ['='] = 1,         ['A' ... 'Z'] = 1, ['_'] = 1,         ['a' ... 'z'] = 1, ['~'] = 1,
};

/* The byte that %XX at `at` stands for, -1 when it is malformed. */
static int
escaped_byte(const char *at, const char *end)
{
    int high, low;

    if (end - at < 3)
        return -1;
    high = hex_digit(at[1]);
    low = hex_digit(at[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Behind a reg-name or IPv4 address; NULL when a %XX in it is malformed. */
static const char *
skip_name(const char *at, const char *end)
{
    for (;; at += 3) {
        while (at < end && host_bytes[(unsigned char)*at])
            at++;
        if (at == end || *at != '%')
            return at;
        if (escaped_byte(at, end) < 0)
            return NULL;
    }
}

/* Behind the bracket of an IPv6 address, or NULL. */
static const char * __attribute__((noinline))
skip_ipv6(const char *at, const char *end)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *close = memchr(at, ']', (size_t)(end - at));
    size_t n;

    if (close == NULL || (n = (size_t)(close - at) - 1) >= sizeof text)
        return NULL;
    if (memchr(at, '\0', (size_t)(close - at)) != NULL)
        return NULL;
    memcpy(text, at + 1, n);
    text[n] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1 ? close + 1 : NULL;
}

/* ":port" or nothing; -1: neither.  The digits may be missing (RFC 3986, 3.2.3). */
static int
port_of(const char *at, const char *end)
{
    int port = 0;

    if (at == end)
        return 0;
    if (*at++ != ':' || end - at > 5)
        return -1;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return -1;
        port = port * 10 + (*at - '0');
    }
    return port <= 65535 ? port : -1;
}

int
host_split(struct sl_span authority, struct sl_span *name, int *port)
{
    const char *at = authority.at, *end = at + authority.n;

    *port = 0;
    if (authority.n == 0)
        return 0;
    at = *at == '[' ? skip_ipv6(at, end) : skip_name(at, end);
    if (at == NULL || at == authority.at)
        return 0;
    *name = (struct sl_span){authority.at, (size_t)(at - authority.at)};
    *port = port_of(at, end);
    return *port >= 0;
}

/* Path and query of what begins with '/', '?' or nothing at all. */
static void
split_query(const char *at, const char *end, struct target *out)
{
    const char *mark = memchr(at, '?', (size_t)(end - at));

    if (mark != NULL) {
        out->query = (struct sl_span){mark + 1, (size_t)(end - mark - 1)};
        end = mark;
    }
    out->path = (struct sl_span){at, (size_t)(end - at)};
}

static const char *
authority_end(const char *at, const char *end)
{
    while (at < end && *at != '/' && *at != '?')
        at++;
    return at;
}

static int
begins_with(struct sl_span s, struct sl_span prefix)
{
    return s.n >= prefix.n && sl_span_eqi((struct sl_span){s.at, prefix.n}, prefix);
}

/* RFC 9112, 3.2.2, http and https alone.  For OPTIONS an empty path stands for the server
 * as a whole (RFC 9112, 3.2.4). */
static enum parse
split_absolute(struct sl_span method, struct sl_span raw, struct target *out)
{
    const char *end = raw.at + raw.n, *host;
    struct sl_span name;
    int port;

    if (begins_with(raw, SL_SPAN("http://")))
        out->scheme = (struct sl_span){raw.at, 4};
    else if (begins_with(raw, SL_SPAN("https://")))
        out->scheme = (struct sl_span){raw.at, 5};
    else
        return PARSE_BAD;
    host = out->scheme.at + out->scheme.n + 3;
    out->authority = (struct sl_span){host, (size_t)(authority_end(host, end) - host)};
    if (!host_split(out->authority, &name, &port)) /* an '@', too: no userinfo */
        return PARSE_BAD;
    split_query(host + out->authority.n, end, out);
    if (out->path.n == 0) {
        int is_server = out->query.at == NULL && sl_span_eq(method, SL_SPAN("OPTIONS"));

        out->path = is_server ? SL_SPAN("*") : SL_SPAN("/");
    }
    return PARSE_OK;
}

/* RFC 9112, 3.2.3: host and port, both of them. */
static enum parse
split_authority(struct sl_span raw, struct target *out)
{
    struct sl_span name;
    int port;

    if (!host_split(raw, &name, &port) || port == 0)
        return PARSE_BAD;
    out->authority = raw;
    out->path = SL_SPAN("");
    return PARSE_OK;
}

/* Visible ASCII without the mark of a fragment, which is never sent (RFC 9112, 3.2). */
static int
is_target_text(struct sl_span raw)
{
    size_t i;

    for (i = 0; i < raw.n; i++)
        if ((unsigned char)(raw.at[i] - '!') > '~' - '!' || raw.at[i] == '#')
            return 0;
    return 1;
}

enum parse
target_split(struct sl_span method, struct sl_span raw, struct target *out)
{
    *out = (struct target){.path = {NULL, 0}};
    if (raw.n == 0 || !is_target_text(raw))
        return PARSE_BAD;
    if (sl_span_eq(method, SL_SPAN("CONNECT")))
        return split_authority(raw, out);
    if (*raw.at == '/') {
        split_query(raw.at, raw.at + raw.n, out);
        return PARSE_OK;
    }
    if (sl_span_eq(raw, SL_SPAN("*"))) {
        out->path = raw;
        return sl_span_eq(method, SL_SPAN("OPTIONS")) ? PARSE_OK : PARSE_BAD;
    }
    return split_absolute(method, raw, out);
}

/* One look tells: no escape, and no slash before a slash or dot. */
int
path_is_normal(struct sl_span raw)
{
    const char *at = raw.at, *end = at + raw.n;

    if (raw.n == 0 || *at != '/')
        return 0;
    for (; at < end; at++)
        if (*at == '%' || (*at == '/' && at + 1 < end && (at[1] == '/' || at[1] == '.')))
            return 0;
    return 1;
}

/* Ends the segment to[begin..n), which is behind a slash: the length that remains, where
 * the next segment begins if a slash follows (RFC 3986, 5.2.4). */
static size_t
close_segment(const char *to, size_t begin, size_t n)
{
    if (n - begin == 1 && to[begin] == '.')
        return begin;
    if (n - begin != 2 || to[begin] != '.' || to[begin + 1] != '.')
        return n;
    if (begin == 1)
        return begin; /* above the root is the root */
    for (begin--; to[begin - 1] != '/';)
        begin--;
    return begin;
}

/* to[0..n) always begins with a slash, and `begin` is behind its last one. */
int
path_normalise(struct sl_span raw, char *to, int *is_same)
{
    const char *at = raw.at, *end = at + raw.n;
    size_t n = 1, begin = 1;

    *is_same = path_is_normal(raw) || raw.n == 0 || sl_span_eq(raw, SL_SPAN("*"));
    if (*is_same)
        return (int)raw.n;
    if (*at != '/')
        return -1;

    to[0] = '/';
    while (++at < end) {
        int c = *at == '%' ? escaped_byte(at, end) : (unsigned char)*at;

        if (c <= 0)
            return -1;
        if (*at == '/') {
            n = close_segment(to, begin, n);
            if (to[n - 1] != '/')
                to[n++] = '/';
            begin = n;
        } else if (c == '/') { /* escaped: no separator, it stays as it came */
            memcpy(to + n, at, 3);
            n += 3;
            at += 2;
        } else {
            at += *at == '%' ? 2 : 0;
            to[n++] = (char)c;
        }
    }
    n = close_segment(to, begin, n);
    to[n] = '\0';
    return (int)n;
}
