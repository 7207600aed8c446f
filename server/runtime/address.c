/* Addresses as text: see address.h. */
#include "runtime/address.h"

#include <arpa/inet.h>
#include <stdlib.h>

struct sl_span
address_host_text(apr_pool_t *pool, const struct sl_sockaddr *addr)
{
    char *to = apr_palloc(pool, INET6_ADDRSTRLEN);
    const void *at = addr->u.sa.sa_family == AF_INET ? (const void *)&addr->u.in.sin_addr
                                                     : &addr->u.in6.sin6_addr;

    return sl_span(inet_ntop(addr->u.sa.sa_family, at, to, INET6_ADDRSTRLEN));
}

int
address_parse_host(struct sl_span text, struct sl_sockaddr *addr)
{
    char copy[64], *host = copy, *end;

    if (text.n == 0 || text.n >= sizeof copy)
        return 0;
    memcpy(copy, text.at, text.n);
    copy[text.n] = '\0';
    memset(addr, 0, sizeof *addr);
    if (*host == '[') {
        host++;
        if ((end = strchr(host, ']')) == NULL)
            return 0;
        *end++ = '\0';
    } else if ((end = strchr(host, ':')) != NULL && strchr(end + 1, ':') == NULL)
        *end++ = '\0';
    else
        end = NULL;
    if (inet_pton(AF_INET, host, &addr->u.in.sin_addr) == 1) {
        addr->u.in.sin_family = AF_INET;
        addr->len = sizeof addr->u.in;
        return 1;
    }
    memset(addr, 0, sizeof *addr);
    if (inet_pton(AF_INET6, host, &addr->u.in6.sin6_addr) != 1)
        return 0;
    addr->u.in6.sin6_family = AF_INET6;
    addr->len = sizeof addr->u.in6;
    return 1;
}
