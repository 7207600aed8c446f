/* See overrides.h. */
#include "config/overrides.h"

#include "runtime/override_file.h"

struct overrides *
config_overrides(struct config *c)
{
    const char *folder = config_global(c)->core->state_dir;
    struct overrides *o = c->overrides;

    if (o != NULL)
        return o;
    o = c->overrides = apr_pcalloc(c->pool, sizeof *o);
    if (folder != NULL)
        o->all = overrides_read(c->pool, folder, &o->trouble);
    if (o->all == NULL)
        o->all = apr_array_make(c->pool, 1, sizeof(struct sl_override));
    o->claims = apr_pcalloc(c->pool, ((size_t)o->all->nelts + 1) * sizeof *o->claims);
    return o;
}

void
config_print_trouble(struct config *c, FILE *to)
{
    const char *trouble = config_overrides(c)->trouble;

    if (trouble != NULL)
        fprintf(to, "StateDir: %s; without what was said at run time\n", trouble);
}
