/* The chunked decoder: the bytes at once and in pieces give the same body and the same end. */
/* with: server/http/chunked.c server/runtime/span.c */
#include "http/chunked.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static enum chunked_step
decode(const char *in, size_t n, size_t step, char *out, size_t *n_out)
{
    struct chunked c = {0};
    size_t at = 0, end = step < n ? step : n, used;
    struct sl_span data;

    *n_out = 0;
    for (;;) {
        enum chunked_step s = chunked_next(&c, in + at, end - at, &used, &data);

        if (s == CHUNKED_BAD || s == CHUNKED_TRAILERS)
            return s;
        at += used;
        if (s == CHUNKED_DATA) {
            memcpy(out + *n_out, data.at, data.n);
            *n_out += data.n;
        } else if (end == n)
            return s;
        else
            end = end + step < n ? end + step : n;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *a = malloc(n + 1), *b = malloc(n + 1);
    size_t n_a, n_b, step;

    for (step = 1; step < 4; step++) {
        enum chunked_step s = decode((const char *)data, n, n + 1, a, &n_a);

        if (s != decode((const char *)data, n, step, b, &n_b) ||
            (s != CHUNKED_BAD && (n_a != n_b || memcmp(a, b, n_a) != 0)))
            abort();
    }
    free(a);
    free(b);
    return 0;
}
