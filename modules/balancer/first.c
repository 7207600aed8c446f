/* The first server that has room, in the order they are written: the others idle, and may be
 * switched off, until maxconn of those before them is reached. */

#include "balancer.h"

static const char *
first_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    (void)pool;
    *data = NULL;
    return sl_cmd_argc(cmd) > 1 ? "first takes no arguments" : NULL;
}

static int
first_ready(struct sl_pool *pool, void *data)
{
    (void)pool;
    (void)data;
    return 0;
}

static struct sl_server *
first_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    (void)data;
    return choice_any(choice, pool, 0);
}

const struct sl_balance_method first_method = {
    .setup = first_setup,
    .ready = first_ready,
    .pick = first_pick,
};
