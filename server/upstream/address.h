/* Where a server is, as an address and as text.  Pure but for interface names in
 * "fe80::1%eth0"; any thread. */
#ifndef UPSTREAM_ADDRESS_H
#define UPSTREAM_ADDRESS_H

#include "sluice/net.h"

#include <sys/un.h>

#define ADDRESS_HOST_MAX 254 /* RFC 1035, 2.3.4; and a NUL */
#define ADDRESS_TEXT_MAX 128 /* "[v6%scope]:port" or "unix:" and a path */

struct addrinfo;

struct upstream_address {
    int family; /* AF_INET, AF_INET6: addr; AF_UNIX: un */
    union {
        struct sl_sockaddr addr;
        struct sockaddr_un un;
    };
};

/* "10.0.0.7:80", "[::1]:80" or "unix:/path" into `to`, ADDRESS_TEXT_MAX bytes. */
const char *address_text(const struct upstream_address *a, char *to);

/* An address as written, taken apart. */
struct address_parts {
    int is_name;                     /* host is to be looked up; address is not set */
    int port;                        /* 0 for Unix sockets */
    char host[ADDRESS_HOST_MAX];     /* lower case; empty for Unix sockets */
    struct upstream_address address;
};
/* default_port 0: the text must name one.  NULL or a phrase. */
const char *address_parse(const char *text, int default_port, struct address_parts *parts);
/* From what getaddrinfo found: AF_INET and AF_INET6 only. */
void address_fill(struct upstream_address *a, const struct addrinfo *ai, int port);

#endif
