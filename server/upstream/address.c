/* Addresses of servers as text: see address.h.  Nothing here asks a resolver; what must be
 * looked up is told by is_name, and resolve.c does it. */
#include "upstream/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

/* Ports: digits only, so no sign, space or hexadecimal slips through. */
static const char *
port_parse(const char *text, int *port)
{
    size_t n = strspn(text, "0123456789");

    if (n == 0 || n > 5 || text[n] != '\0' || atoi(text) < 1 || atoi(text) > 65535)
        return "expected a port between 1 and 65535 behind the colon";
    *port = atoi(text);
    return NULL;
}

static const char *
unix_parse(const char *path, struct address_parts *parts)
{
    struct upstream_address *a = &parts->address;
    size_t n = strlen(path);

    if (path[0] != '/' || n == 1)
        return "expected an absolute path behind unix:";
    if (n >= sizeof(a->un.sun_path))
        return "the path of a Unix socket may have at most 107 bytes";
    a->family = AF_UNIX;
    a->un.sun_family = AF_UNIX;
    memcpy(a->un.sun_path, path, n + 1);
    parts->port = 0;
    return NULL;
}

void
address_fill(struct upstream_address *a, const struct addrinfo *ai, int port)
{
    a->family = ai->ai_family;
    memcpy(&a->addr.u, ai->ai_addr, ai->ai_addrlen);
    a->addr.len = ai->ai_addrlen;
    if (ai->ai_family == AF_INET)
        a->addr.u.in.sin_port = htons((uint16_t)port);
    else
        a->addr.u.in6.sin6_port = htons((uint16_t)port);
}

/* AI_NUMERICHOST never asks a resolver; unlike inet_pton it knows "fe80::1%eth0". */
static int
numeric_parse(const char *host, int family, int port, struct upstream_address *a)
{
    struct addrinfo hints = {.ai_family = family, .ai_flags = AI_NUMERICHOST,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;

    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return -1;
    address_fill(a, found, port);
    freeaddrinfo(found);
    return 0;
}

static const char *
v4_parse(struct address_parts *parts)
{
    struct in_addr in;

    if (inet_pton(AF_INET, parts->host, &in) != 1) /* getaddrinfo would take 127.1 as well */
        return "expected four numbers of 0 to 255 in an IPv4 address";
    if (numeric_parse(parts->host, AF_INET, parts->port, &parts->address) < 0)
        return "the IPv4 address does not parse";
    return NULL;
}

static const char *
v6_parse(struct address_parts *parts)
{
    if (numeric_parse(parts->host, AF_INET6, parts->port, &parts->address) < 0)
        return "expected an IPv6 address between the brackets";
    return NULL;
}

static int
is_host_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

static const char *
name_parse(struct address_parts *parts)
{
    const char *c;

    if (parts->host[strspn(parts->host, "0123456789.")] == '\0')
        return v4_parse(parts);
    for (c = parts->host; *c != '\0'; c++)
        if (!is_host_char((unsigned char)*c))
            return "expected a host name of letters, digits, '-', '.' and '_'";
    if (parts->host[0] == '.' || parts->host[0] == '-' || strstr(parts->host, "..") != NULL)
        return "the host name has an empty or malformed part";
    parts->is_name = 1;
    return NULL;
}

/* Lower case: DNS does not care, and equal names become equal texts. */
static const char *
host_copy(struct address_parts *parts, const char *at, size_t n)
{
    size_t i;

    if (n == 0)
        return "expected a host name or address";
    if (n >= sizeof(parts->host))
        return "the host name is longer than 253 bytes";
    for (i = 0; i < n; i++)
        parts->host[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] + ('a' - 'A') : at[i]);
    return NULL;
}

const char *
address_parse(const char *text, int default_port, struct address_parts *parts)
{
    int is_bracketed = text[0] == '[';
    const char *host = is_bracketed ? text + 1 : text;
    const char *end = host + strcspn(host, is_bracketed ? "]" : ":");
    const char *rest = end;
    const char *err;

    memset(parts, 0, sizeof(*parts));
    if (strncmp(text, "unix:", 5) == 0)
        return unix_parse(text + 5, parts);
    if (is_bracketed) {
        if (*end != ']')
            return "expected ']' behind the IPv6 address";
        rest = end + 1;
        if (*rest != '\0' && *rest != ':')
            return "expected a colon and a port behind ']'";
    } else if (*rest == ':' && strchr(rest + 1, ':') != NULL) {
        return "expected brackets around an IPv6 address, as in [::1]:8080";
    }
    err = host_copy(parts, host, (size_t)(end - host));
    if (err != NULL)
        return err;
    parts->port = default_port;
    if (*rest == ':')
        err = port_parse(rest + 1, &parts->port);
    else if (default_port == 0)
        err = "expected a port, as in HOST:PORT";
    if (err != NULL)
        return err;
    return is_bracketed ? v6_parse(parts) : name_parse(parts);
}

const char *
address_text(const struct upstream_address *a, char *to)
{
    char host[INET6_ADDRSTRLEN + 20];

    if (a->family == AF_UNIX) {
        snprintf(to, ADDRESS_TEXT_MAX, "unix:%s", a->un.sun_path);
        return to;
    }
    if (getnameinfo(&a->addr.u.sa, a->addr.len, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST) != 0)
        strcpy(host, "?");
    if (a->family == AF_INET6)
        snprintf(to, ADDRESS_TEXT_MAX, "[%s]:%d", host, ntohs(a->addr.u.in6.sin6_port));
    else
        snprintf(to, ADDRESS_TEXT_MAX, "%s:%d", host, ntohs(a->addr.u.in.sin_port));
    return to;
}
