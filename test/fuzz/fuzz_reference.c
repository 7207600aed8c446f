/* References of Location: what is found is of the base's origin, without dot segments, and names
 * itself. */
/* with: modules/cache_disk/reference.c server/runtime/span.c */
#include "../../modules/cache_disk/reference.h"

#include "panic_double.h"

#include <apr_general.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
reference_try(apr_pool_t *pool, struct sl_span reference)
{
    static const struct reference_base base = {{"http", 4}, {"h", 1}, {":81", 3}, {"/a/b", 4}};
    static const struct sl_span origin = {"http://h:81/", 12};
    struct sl_span url = reference_resolve(pool, &base, reference), again, path;
    const char *query;

    if (url.at == NULL)
        return;
    SL_ASSERT(url.n >= origin.n && memcmp(url.at, origin.at, origin.n) == 0);
    query = memchr(url.at, '?', url.n);
    path = (struct sl_span){url.at, query != NULL ? (size_t)(query - url.at) : url.n};
    SL_ASSERT(memmem(path.at, path.n, "/./", 3) == NULL && memmem(path.at, path.n, "/../", 4) == NULL);
    again = reference_resolve(pool, &base, url);
    SL_ASSERT(again.at != NULL && sl_span_eq(url, again));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *exact = malloc(n + 1);
    apr_pool_t *pool;

    memcpy(exact, data, n);
    apr_initialize();
    apr_pool_create(&pool, NULL);
    reference_try(pool, (struct sl_span){exact, n});
    apr_pool_destroy(pool);
    apr_terminate();
    free(exact);
    return 0;
}
