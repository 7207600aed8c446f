/* Configurations: any text is read to the end, with errors or without. */
/* with: server/channel.c server/config/cmd.c server/config/compile.c server/config/core_conf.c server/config/errors.c server/config/expr.c server/config/lexer.c server/config/load.c server/config/merge.c server/config/names.c server/config/networks.c server/config/print.c server/config/slots.c server/config/source.c server/event/loop.c server/event/offload.c server/event/slab.c server/event/timer.c server/http/answer.c server/http/chunked.c server/http/field_names.c server/http/fields.c server/http/filter.c server/http/forwarded.c server/http/framing.c server/http/head.c server/http/http1_server.c server/http/http1_write.c server/http/request.c server/http/suspend.c server/http/target.c server/http/variables.c server/master.c server/net/buf.c server/net/conn.c server/net/listener.c server/privileges.c server/runtime/address.c server/runtime/causes.c server/runtime/hooks.c server/runtime/loader.c server/runtime/log.c server/runtime/panic.c server/runtime/provider.c server/runtime/random.c server/runtime/span.c server/runtime/zone.c server/serving.c server/upstream/exchange.c server/upstream/http1_client.c server/upstream/idle.c server/upstream/pool.c server/upstream/resolve.c server/upstream/splice.c server/upstream/target.c server/worker.c */
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
