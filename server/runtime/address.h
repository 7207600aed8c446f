/* Addresses as text: small pure helpers. */
#ifndef RUNTIME_ADDRESS_H
#define RUNTIME_ADDRESS_H

#include "sluice/net.h"

/* "10.0.0.1", "::1", "[::1]", "10.0.0.1:80", "[::1]:80": 1 when it is one; the port is
 * passed over. */
int address_parse_host(struct sl_span text, struct sl_sockaddr *addr);
/* IPv4 or IPv6 without port, in the pool. */
struct sl_span address_host_text(apr_pool_t *pool, const struct sl_sockaddr *addr);

#endif
