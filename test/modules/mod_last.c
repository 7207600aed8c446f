/* A method of a third party: the last server of the pool that comes into question, or with
 * "Method last N" the last but N. */
#include "sluice/module.h"

#include <stdlib.h>

struct last {
    unsigned n_left_out;
    unsigned n_ready;
};

static const char *
last_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    struct last *last = apr_pcalloc(sl_cmd_pool(cmd), sizeof *last);

    (void)pool;
    if (sl_cmd_argc(cmd) > 2)
        return "expected one number";
    last->n_left_out = sl_cmd_argc(cmd) == 2 ? (unsigned)atoi(sl_cmd_arg(cmd, 1)) : 0;
    *data = last;
    return NULL;
}

static int
last_ready(struct sl_pool *pool, void *data)
{
    struct last *last = data;

    if (last->n_ready++ > 1)
        sl_log(SL_NOTICE, "LAST0001", "pool %s: weights have changed", pool->name);
    return 0;
}

static struct sl_server *
last_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    const struct last *last = data;
    unsigned i = pool->n_servers, n = last->n_left_out;
    struct sl_server *s = NULL;

    while (i-- > 0)
        if (sl_choice_has(choice, pool->servers[i])) {
            s = pool->servers[i];
            if (n-- == 0)
                break;
        }
    return s;
}

static const struct sl_balance_method method = {
    .setup = last_setup,
    .ready = last_ready,
    .pick = last_pick,
};

static int
last_init(const struct sl_module *self)
{
    (void)self;
    return sl_provider_register("balance", "last", &method);
}

SL_MODULE(last) = {
    .name = "last",
    .init = last_init,
};
