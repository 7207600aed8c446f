/* Sets of networks.  IPv4 is kept as IPv6-mapped, so one comparison serves both and
 * ::ffff:10.0.0.1 is 10.0.0.1. */
#include "config/load.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <stdlib.h>

struct network {
    uint8_t bytes[16];
    unsigned bits;
};

struct sl_networks {
    unsigned n;
    struct network at[];
};

static void
network_map4(const void *in4, uint8_t bytes[16])
{
    memset(bytes, 0, 10);
    bytes[10] = bytes[11] = 0xff;
    memcpy(bytes + 12, in4, 4);
}

static int
network_parse(const char *text, struct network *net)
{
    char host[64];
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    unsigned char in4[4];
    unsigned long bits = 128;
    char *end;

    if (n >= sizeof host)
        return 0;
    memcpy(host, text, n);
    host[n] = '\0';
    if (inet_pton(AF_INET, host, in4) == 1)
        network_map4(in4, net->bytes);
    else if (inet_pton(AF_INET6, host, net->bytes) != 1)
        return 0;
    if (slash != NULL) {
        bits = strtoul(slash + 1, &end, 10);
        if (slash[1] == '\0' || *end != '\0' || bits > (strchr(host, ':') ? 128u : 32u))
            return 0;
        if (strchr(host, ':') == NULL)
            bits += 96;
    }
    net->bits = (unsigned)bits;
    return 1;
}

static struct sl_networks *
networks_make(apr_pool_t *pool, unsigned n)
{
    struct sl_networks *s = apr_palloc(pool, sizeof *s + n * sizeof s->at[0]);

    s->n = n;
    return s;
}

struct sl_networks *
networks_join(apr_pool_t *pool, const struct sl_networks *a, const struct sl_networks *b)
{
    unsigned na = a != NULL ? a->n : 0, nb = b != NULL ? b->n : 0;
    struct sl_networks *s = networks_make(pool, na + nb);

    if (na > 0)
        memcpy(s->at, a->at, na * sizeof s->at[0]);
    if (nb > 0)
        memcpy(s->at + na, b->at, nb * sizeof s->at[0]);
    return s;
}

const char *
networks_add(apr_pool_t *pool, struct sl_networks **nets, const char *text)
{
    struct sl_networks *one = networks_make(pool, 1);

    memset(&one->at[0], 0, sizeof one->at[0]);
    if (strcmp(text, "all") != 0 && !network_parse(text, &one->at[0]))
        return "expected an address, a network such as 10.0.0.0/8, or all";
    *nets = networks_join(pool, *nets, one);
    return NULL;
}

static int
network_has(const struct network *net, const uint8_t bytes[16])
{
    unsigned whole = net->bits / 8, rest = net->bits % 8;

    if (memcmp(net->bytes, bytes, whole) != 0)
        return 0;
    return rest == 0 || ((net->bytes[whole] ^ bytes[whole]) >> (8 - rest)) == 0;
}

void
networks_bytes(const struct sl_sockaddr *addr, uint8_t bytes[16])
{
    if (addr->u.sa.sa_family == AF_INET)
        network_map4(&addr->u.in.sin_addr, bytes);
    else
        memcpy(bytes, &addr->u.in6.sin6_addr, 16);
}

int
sl_networks_has(const struct sl_networks *nets, const struct sl_sockaddr *addr)
{
    uint8_t bytes[16];
    unsigned i;

    if (nets == NULL || addr->len == 0)
        return 0;
    networks_bytes(addr, bytes);
    for (i = 0; i < nets->n; i++)
        if (network_has(&nets->at[i], bytes))
            return 1;
    return 0;
}
