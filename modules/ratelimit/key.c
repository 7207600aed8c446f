/* What a request is counted under.  The client's address is taken as its network: an IPv6 host
 * has a whole /64 to choose its addresses from. */
#include "ratelimit.h"

#include <apr_strings.h>

#include <arpa/inet.h>

#define ADDRESS "remote_addr"

static int
is_address(const struct sl_variable *v)
{
    return v != NULL && strcmp(v->name, ADDRESS) == 0;
}

const char *
key_make(struct sl_cmd *cmd, const char *text, int64_t ipv4, int64_t ipv6,
         struct key *key)
{
    const struct sl_variable *v;
    struct sl_span literal, arg;
    const char *err = NULL;
    unsigned i;

    if (ipv4 < 1 || ipv4 > 32)
        return "ipv4: expected the length of a network, 1 to 32";
    if (ipv6 < 1 || ipv6 > 128)
        return "ipv6: expected the length of a network, 1 to 128";
    *key = (struct key){.source = text, .ipv4 = (unsigned)ipv4, .ipv6 = (unsigned)ipv6};
    key->expr = sl_expr_compile(sl_cmd_pool(cmd), text, SL_PHASE_ROUTED, &err);
    if (key->expr == NULL)
        return sl_cmd_error(cmd, "key: %s", err);
    for (i = 0; sl_expr_part(key->expr, i, &literal, &v, &arg); i++)
        key->has_address |= is_address(v);
    key->is_address = key->has_address && i == 1;
    return NULL;
}

static void
mask(unsigned char *bytes, unsigned n, unsigned bits)
{
    static const unsigned char first[] = {0, 0x80, 0xc0, 0xe0, 0xf0, 0xf8, 0xfc, 0xfe};
    unsigned i = bits / 8;

    if (i < n)
        bytes[i++] &= first[bits % 8];
    for (; i < n; i++)
        bytes[i] = 0;
}

/* Masked, as 4 or 16 bytes; 0: no address of these families. */
static size_t
network_of(const struct key *key, const struct sl_sockaddr *addr, unsigned char to[16])
{
    const unsigned char *in6 = addr->u.in6.sin6_addr.s6_addr;

    if (addr->u.sa.sa_family == AF_INET6 &&
        !IN6_IS_ADDR_V4MAPPED(&addr->u.in6.sin6_addr)) {
        memcpy(to, in6, 16);
        mask(to, 16, key->ipv6);
        return 16;
    }
    if (addr->u.sa.sa_family == AF_INET6)
        memcpy(to, in6 + 12, 4);
    else if (addr->u.sa.sa_family == AF_INET)
        memcpy(to, &addr->u.in.sin_addr, 4);
    else
        return 0;
    mask(to, 4, key->ipv4);
    return 4;
}

static int
is_cut(const struct key *key, size_t n)
{
    return n == 16 ? key->ipv6 < 128 : key->ipv4 < 32;
}

/* 203.0.113.7, 203.0.113.0/24 or 2001:db8::/64. */
static struct sl_span
network_text(const struct key *key, struct sl_req *r)
{
    const struct sl_sockaddr *addr = sl_req_client(r);
    unsigned char bytes[16];
    char text[INET6_ADDRSTRLEN];
    size_t n = network_of(key, addr, bytes);

    if (n == 0 || !is_cut(key, n))
        return sl_req_client_text(r);
    inet_ntop(n == 16 ? AF_INET6 : AF_INET, bytes, text, sizeof text);
    return sl_span(
        apr_psprintf(sl_req_pool(r), "%s/%u", text, n == 16 ? key->ipv6 : key->ipv4));
}

static struct sl_span
part_text(const struct key *key, struct sl_req *r, const struct sl_variable *v,
          struct sl_span arg)
{
    if (is_address(v))
        return network_text(key, r);
    return v->get != NULL ? v->get(r, arg) : sl_var_get(r, v->name);
}

/* In `room`, or in memory of the request where that is too small: a key that is cut would be that
 * of others, too. */
static struct sl_span
joined(const struct key *key, struct sl_req *r, char *room)
{
    const struct sl_variable *v;
    struct sl_span literal, arg, part;
    size_t n = 0, size = KEY_ROOM;
    unsigned i;

    for (i = 0; sl_expr_part(key->expr, i, &literal, &v, &arg); i++) {
        part = v != NULL ? part_text(key, r, v, arg) : literal;
        if (part.n > size - n) {
            char *before = room;

            size = 2 * (n + part.n);
            room = memcpy(apr_palloc(sl_req_pool(r), size), before, n);
        }
        if (part.n > 0)
            memcpy(room + n, part.at, part.n);
        n += part.n;
    }
    return (struct sl_span){room, n};
}

struct sl_span
key_bytes(const struct key *key, struct sl_req *r, char room[KEY_ROOM])
{
    size_t n;

    if (key->is_address) {
        n = network_of(key, sl_req_client(r), (unsigned char *)room);
        return n > 0 ? (struct sl_span){room, n} : sl_req_client_text(r);
    }
    if (key->has_address)
        return joined(key, r, room);
    return sl_expr_text(key->expr, r);
}

struct sl_span
key_text(const struct key *key, struct sl_req *r)
{
    char *room;

    if (key->is_address)
        return network_text(key, r);
    if (!key->has_address)
        return sl_expr_text(key->expr, r);
    room = apr_palloc(sl_req_pool(r), KEY_ROOM);
    return joined(key, r, room);
}

struct sl_span
key_of_text(const struct key *key, const char *text, char room[KEY_ROOM])
{
    struct sl_sockaddr addr = {.len = sizeof addr};
    size_t n = strcspn(text, "/");
    char host[INET6_ADDRSTRLEN];

    if (!key->is_address)
        return (struct sl_span){text, strlen(text)};
    if (n >= sizeof host)
        return (struct sl_span){NULL, 0};
    memcpy(host, text, n);
    host[n] = '\0';
    if (inet_pton(AF_INET, host, &addr.u.in.sin_addr) == 1)
        addr.u.sa.sa_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &addr.u.in6.sin6_addr) == 1)
        addr.u.sa.sa_family = AF_INET6;
    else
        return (struct sl_span){NULL, 0};
    return (struct sl_span){room, network_of(key, &addr, (unsigned char *)room)};
}
