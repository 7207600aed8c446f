/* The file in StateDir: whatever is read of one is the same when it was written again. */
#include "../../server/runtime/override_file.c"

#include <apr_general.h>

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static char *
text_of(apr_pool_t *pool, const apr_array_header_t *all)
{
    char *text = NULL, *copy;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int i;

    fputs(OVERRIDES_FORMAT "\n", f);
    for (i = 0; i < all->nelts; i++)
        put_line(pool, f, &APR_ARRAY_IDX(all, i, struct sl_override));
    fclose(f);
    copy = apr_pstrdup(pool, text);
    free(text);
    return copy;
}

static void
check_same(const struct sl_override *a, const struct sl_override *b)
{
    assert(strcmp(a->owner, b->owner) == 0 && strcmp(a->key, b->key) == 0 && a->at == b->at);
    assert(strcmp(a->says, b->says) == 0 && strcmp(a->of, b->of) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static int is_ready;
    apr_array_header_t *all, *again;
    apr_pool_t *pool;
    const char *why;
    int i;

    if (!is_ready)
        apr_initialize();
    is_ready = 1;
    apr_pool_create(&pool, NULL);
    all = overrides_parse(pool, apr_pstrmemdup(pool, (const char *)bytes, n), &why);
    assert((all == NULL) == (why != NULL));
    if (all != NULL) {
        again = overrides_parse(pool, text_of(pool, all), &why);
        assert(again != NULL && again->nelts == all->nelts);
        for (i = 0; i < all->nelts; i++)
            check_same(&APR_ARRAY_IDX(all, i, struct sl_override),
                       &APR_ARRAY_IDX(again, i, struct sl_override));
    }
    apr_pool_destroy(pool);
    return 0;
}
