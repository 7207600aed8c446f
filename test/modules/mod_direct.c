/* The smallest useful module: sends everything of its scope to one server.  What a third
 * party writes, built against the installed headers alone. */
#include "sluice/module.h"

struct direct_conf {
    struct sl_target *target;
};

static const struct sl_proxy_conf how = {.connect_ms = 5000, .send_ms = 60000, .first_ms = 60000,
                                         .idle_ms = 60000, .total_ms = -1, .body_hold = 65536};

static const char *
direct_parse(struct sl_cmd *cmd, void **item)
{
    return sl_target_parse(cmd, sl_cmd_arg(cmd, 0), (struct sl_target **)(void *)item);
}

static enum sl_verdict
direct_handler(struct sl_req *r, const void *conf)
{
    return sl_proxy(r, ((const struct direct_conf *)conf)->target, &how);
}

static const struct sl_directive directives[] = {
    SL_PARSED("DirectTo", struct direct_conf, target, direct_parse, SL_IN_ANY, "TARGET",
              "Sends everything of this scope to one server"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {SL_ON_HANDLER(direct_handler, SL_LATE, 0), SL_HOOKS_END};

SL_MODULE(direct) = {
    .name = "direct",
    .conf_size = sizeof(struct direct_conf),
    .directives = directives,
    .hooks = hooks,
};
