/* Configurations: any text is read to the end, with errors or without. */
/* with: server/[!m]*.c server/metrics.c server/config/[a-z]*.c server/event/[a-z]*.c server/http/[a-z]*.c server/master/[a-z]*.c server/net/[a-z]*.c server/runtime/[a-z]*.c server/upstream/[a-z]*.c */
#include "config/config.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int is_ready;
    struct config_source source = {.name = "fuzz", .module_dir = "/nonexistent"};
    apr_pool_t *pool;
    char *text;

    if (!is_ready)
        apr_initialize();
    is_ready = 1;
    apr_pool_create(&pool, NULL);
    text = apr_pstrmemdup(pool, (const char *)data, n);
    if (strstr(text, "nclude") == NULL && strstr(text, "NCLUDE") == NULL) { /* not the machine's files */
        source.text = text;
        config_load(pool, &source);
    }
    apr_pool_destroy(pool);
    return 0;
}
