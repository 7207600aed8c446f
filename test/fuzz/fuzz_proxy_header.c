/* The PROXY header: never past its bytes, and no longer than it says. */
/* with: server/net/proxy_header.c server/runtime/span.c */
#include "net/proxy_header.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *exact = malloc(n + 1);
    struct sl_sockaddr from;
    size_t size;

    memcpy(exact, data, n);
    if (proxy_header_parse(exact, n, &from, &size) == PARSE_OK && (size == 0 || size > n))
        abort();
    free(exact);
    return 0;
}
