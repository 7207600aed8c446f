/* Accept-Encoding: whatever the bytes, nothing is read past them, a quality is one, and what
 * is refused by name is refused whatever stands behind it. */
/* with: server/http/accept_encoding.c server/runtime/span.c */
#include "panic_double.h"

#include "sluice/encoder.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const codings[] = {"gzip", "br", "zstd", "identity"};
    static const char refusal[] = "gzip;q=0,br;q=0,zstd;q=0,identity;q=0,";
    struct sl_span field = {(const char *)data, n}, refused;
    char *copy = malloc(sizeof refusal + n);
    unsigned i;

    memcpy(copy, refusal, sizeof refusal - 1);
    if (n > 0)
        memcpy(copy + sizeof refusal - 1, data, n);
    refused = (struct sl_span){copy, sizeof refusal - 1 + n};
    for (i = 0; i < 4; i++) {
        SL_ASSERT(sl_encoding_quality(field, sl_span(codings[i])) <= 1000);
        SL_ASSERT(sl_encoding_quality(refused, sl_span(codings[i])) == 0);
    }
    free(copy);
    return 0;
}
