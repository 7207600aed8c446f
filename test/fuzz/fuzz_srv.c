/* Answers of name servers with SRV records. */
/* libs: libcares */
#include "../../modules/dns/srv.c"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct service to[SERVICES_MAX];
    unsigned ttl;
    int k = dns_services_parse(bytes, (int)n, to, SERVICES_MAX, &ttl);

    while (k > 0)
        free(to[--k].target);
    return 0;
}
