/* The PROXY protocol, versions 1 and 2: who really connects, said in the first bytes of a
 * connection (haproxy.org, proxy-protocol.txt).  Pure functions. */
#ifndef NET_PROXY_HEADER_H
#define NET_PROXY_HEADER_H

#include "http/head.h"
#include "sluice/net.h"

#define PROXY_HEADER_MAX 4096   /* read at most: version 2 may have more fields behind */
#define PROXY_HEADER_WRITES 107 /* the longest that is written */

/* OK: *from is who connects, len 0 where it is not said and the socket's own peer counts; *size
 * bytes are the header's.  MORE: too few. */
enum parse proxy_header_parse(const char *bytes, size_t n, struct sl_sockaddr *from, size_t *size);

/* The bytes written to `to`, which has room for PROXY_HEADER_WRITES.  from or at with len 0:
 * the header says that nothing is known. */
size_t proxy_header_write(char *to, int version, const struct sl_sockaddr *from,
                          const struct sl_sockaddr *at);

#endif
