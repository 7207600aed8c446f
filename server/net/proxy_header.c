/* See proxy_header.h. */
#include "net/proxy_header.h"

#include <arpa/inet.h>
#include <stdio.h>

#define V1_MAX 107 /* with CRLF */
#define V2_FIXED 16
#define V2_LOCAL 0x20 /* of the sender itself: a health check */
#define V2_PROXY 0x21

static const char v2_signature[12] = {'\r', '\n', '\r', '\n', '\0', '\r',
                                      '\n', 'Q',  'U',  'I',  'T',  '\n'};

/* Address family and SOCK_STREAM; 0 and AF_UNIX are known, and say nothing we use. */
enum { V2_UNKNOWN = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21, V2_UNIX = 0x31 };

/* ---- reading ---- */

static struct sl_span
word_next(struct sl_span *line)
{
    const char *end = memchr(line->at, ' ', line->n);
    struct sl_span word = {line->at, end != NULL ? (size_t)(end - line->at) : line->n};
    size_t used = word.n + (end != NULL);

    line->at += used;
    line->n -= used;
    return word;
}

static int
address_of(struct sl_span word, int family, void *to)
{
    char text[INET6_ADDRSTRLEN];

    if (word.n == 0 || word.n >= sizeof text || memchr(word.at, '\0', word.n) != NULL)
        return 0;
    memcpy(text, word.at, word.n);
    text[word.n] = '\0';
    return inet_pton(family, text, to) == 1;
}

/* 0 to 65535 without leading zeros; -1. */
static int
port_of(struct sl_span word)
{
    int port = 0;
    size_t i;

    if (word.n == 0 || word.n > 5 || (word.n > 1 && word.at[0] == '0'))
        return -1;
    for (i = 0; i < word.n; i++) {
        if (word.at[i] < '0' || word.at[i] > '9')
            return -1;
        port = port * 10 + (word.at[i] - '0');
    }
    return port <= 65535 ? port : -1;
}

static void
say_tcp4(struct sl_sockaddr *a, const void *address, int port)
{
    a->len = sizeof a->u.in;
    a->u.in.sin_family = AF_INET;
    a->u.in.sin_port = htons((uint16_t)port);
    memcpy(&a->u.in.sin_addr, address, sizeof a->u.in.sin_addr);
}

static void
say_tcp6(struct sl_sockaddr *a, const void *address, int port)
{
    a->len = sizeof a->u.in6;
    a->u.in6.sin6_family = AF_INET6;
    a->u.in6.sin6_port = htons((uint16_t)port);
    memcpy(&a->u.in6.sin6_addr, address, sizeof a->u.in6.sin6_addr);
}

/* "TCP4 FROM AT FROMPORT ATPORT", or UNKNOWN and anything. */
static enum parse
v1_line(struct sl_span line, struct sl_sockaddr *from)
{
    struct sl_span family = word_next(&line), source, target;
    int is_tcp4 = sl_span_eq(family, SL_SPAN("TCP4")), port;
    struct in6_addr address, at;

    if (sl_span_eq(family, SL_SPAN("UNKNOWN")))
        return PARSE_OK;
    if (!is_tcp4 && !sl_span_eq(family, SL_SPAN("TCP6")))
        return PARSE_BAD;
    source = word_next(&line);
    target = word_next(&line);
    if (!address_of(source, is_tcp4 ? AF_INET : AF_INET6, &address) ||
        !address_of(target, is_tcp4 ? AF_INET : AF_INET6, &at))
        return PARSE_BAD;
    port = port_of(word_next(&line));
    if (port < 0 || port_of(line) < 0)
        return PARSE_BAD;
    if (is_tcp4)
        say_tcp4(from, &address, port);
    else
        say_tcp6(from, &address, port);
    return PARSE_OK;
}

static enum parse
v1_parse(const char *bytes, size_t n, struct sl_sockaddr *from, size_t *size)
{
    const char *end = memchr(bytes, '\n', n < V1_MAX ? n : V1_MAX);

    if (end == NULL)
        return n < V1_MAX ? PARSE_MORE : PARSE_BAD;
    if (end[-1] != '\r')
        return PARSE_BAD;
    *size = (size_t)(end - bytes) + 1;
    return v1_line((struct sl_span){bytes + 6, *size - 8}, from);
}

static uint16_t
number16(const unsigned char *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static enum parse
v2_addresses(unsigned family, const unsigned char *at, size_t n, struct sl_sockaddr *from)
{
    switch (family) {
    case V2_UNKNOWN:
    case V2_UNIX:
        return PARSE_OK;
    case V2_TCP4:
        if (n < 12)
            return PARSE_BAD;
        say_tcp4(from, at, number16(at + 8));
        return PARSE_OK;
    case V2_TCP6:
        if (n < 36)
            return PARSE_BAD;
        say_tcp6(from, at, number16(at + 32));
        return PARSE_OK;
    default:
        return PARSE_BAD;
    }
}

static enum parse
v2_parse(const char *bytes, size_t n, struct sl_sockaddr *from, size_t *size)
{
    const unsigned char *at = (const unsigned char *)bytes;

    if (n < V2_FIXED)
        return PARSE_MORE;
    *size = V2_FIXED + (size_t)number16(at + 14);
    if ((at[12] != V2_LOCAL && at[12] != V2_PROXY) || *size > PROXY_HEADER_MAX)
        return PARSE_BAD;
    if (n < *size)
        return PARSE_MORE;
    if (at[12] == V2_LOCAL)
        return PARSE_OK;
    return v2_addresses(at[13], at + V2_FIXED, *size - V2_FIXED, from);
}

enum parse
proxy_header_parse(const char *bytes, size_t n, struct sl_sockaddr *from, size_t *size)
{
    static const char v1_word[] = "PROXY ";
    size_t v1 = sizeof v1_word - 1, v2 = sizeof v2_signature;

    from->len = 0;
    *size = 0;
    if (memcmp(bytes, v1_word, n < v1 ? n : v1) == 0)
        return n < v1 ? PARSE_MORE : v1_parse(bytes, n, from, size);
    if (memcmp(bytes, v2_signature, n < v2 ? n : v2) == 0)
        return n < v2 ? PARSE_MORE : v2_parse(bytes, n, from, size);
    return PARSE_BAD;
}

/* ---- writing ---- */

/* Both ends in the one family they have in common: IPv4 where both are, however written. */
struct ends {
    int is_ipv4;
    struct in6_addr from, at; /* IPv4 mapped */
    int from_port, at_port;
};

static void
end_take(const struct sl_sockaddr *a, struct in6_addr *address, int *port)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    if (a->u.sa.sa_family == AF_INET6) {
        *address = a->u.in6.sin6_addr;
        *port = ntohs(a->u.in6.sin6_port);
        return;
    }
    memcpy(address->s6_addr, mapped, sizeof mapped);
    memcpy(address->s6_addr + sizeof mapped, &a->u.in.sin_addr, sizeof a->u.in.sin_addr);
    *port = ntohs(a->u.in.sin_port);
}

static size_t
v1_write(char *to, const struct ends *e)
{
    char from[INET6_ADDRSTRLEN], at[INET6_ADDRSTRLEN];
    int family = e->is_ipv4 ? AF_INET : AF_INET6, skip = e->is_ipv4 ? 12 : 0;

    inet_ntop(family, e->from.s6_addr + skip, from, sizeof from);
    inet_ntop(family, e->at.s6_addr + skip, at, sizeof at);
    return (size_t)snprintf(to, PROXY_HEADER_WRITES + 1, "PROXY TCP%d %s %s %d %d\r\n",
                            e->is_ipv4 ? 4 : 6, from, at, e->from_port, e->at_port);
}

static char *
put16(char *to, int number)
{
    *to++ = (char)(number >> 8);
    *to++ = (char)number;
    return to;
}

static size_t
v2_write(char *to, const struct ends *e)
{
    int skip = e->is_ipv4 ? 12 : 0;
    size_t n = e->is_ipv4 ? 4 : 16;
    char *at = to + sizeof v2_signature;

    memcpy(to, v2_signature, sizeof v2_signature);
    *at++ = V2_PROXY;
    *at++ = e->is_ipv4 ? V2_TCP4 : V2_TCP6;
    at = put16(at, (int)(2 * n + 4));
    memcpy(at, e->from.s6_addr + skip, n);
    memcpy(at + n, e->at.s6_addr + skip, n);
    at = put16(at + 2 * n, e->from_port);
    at = put16(at, e->at_port);
    return (size_t)(at - to);
}

static size_t
unknown_write(char *to, int version)
{
    static const char v1[] = "PROXY UNKNOWN\r\n";

    if (version == 1) {
        memcpy(to, v1, sizeof v1 - 1);
        return sizeof v1 - 1;
    }
    memset(to, 0, V2_FIXED);
    memcpy(to, v2_signature, sizeof v2_signature);
    to[12] = V2_LOCAL;
    return V2_FIXED;
}

size_t
proxy_header_write(char *to, int version, const struct sl_sockaddr *from,
                   const struct sl_sockaddr *at)
{
    struct ends e;

    if (from->len == 0 || at->len == 0)
        return unknown_write(to, version);
    end_take(from, &e.from, &e.from_port);
    end_take(at, &e.at, &e.at_port);
    e.is_ipv4 = IN6_IS_ADDR_V4MAPPED(&e.from) && IN6_IS_ADDR_V4MAPPED(&e.at);
    return version == 1 ? v1_write(to, &e) : v2_write(to, &e);
}
