/* See overrides.h. */
#include "config/overrides.h"

#include "runtime/override_file.h"

#include <apr_strings.h>

static void
overrides_hold(struct overrides *o, apr_array_header_t *all)
{
    o->all = all;
    o->claims = apr_pcalloc(o->pool, ((size_t)all->nelts + 1) * sizeof *o->claims);
}

void
overrides_renew(struct overrides *o, int fd)
{
    const char *why;
    apr_array_header_t *all = fd >= 0 ? overrides_read_file(o->pool, fd, &why)
                                      : apr_array_make(o->pool, 1, sizeof(struct sl_override));

    if (all != NULL)
        overrides_hold(o, all);
}

struct overrides *
config_overrides(struct config *c)
{
    const char *folder = config_global(c)->core->state_dir;
    struct overrides *o = c->overrides;
    apr_array_header_t *all;

    if (o != NULL)
        return o;
    o = c->overrides = apr_pcalloc(c->pool, sizeof *o);
    apr_pool_create(&o->pool, c->pool);
    overrides_renew(o, -1);
    if (folder != NULL && (all = overrides_read(o->pool, folder, &o->trouble)) != NULL)
        overrides_hold(o, all);
    return o;
}

void
overrides_put(struct overrides *o, const struct sl_override *put)
{
    struct sl_override *at = NULL;
    int i;

    for (i = 0; i < o->all->nelts && at == NULL; i++) {
        struct sl_override *other = &APR_ARRAY_IDX(o->all, i, struct sl_override);

        if (strcmp(other->owner, put->owner) == 0 && strcmp(other->key, put->key) == 0)
            at = other;
    }
    if (put->says == NULL) {
        if (at != NULL)
            at->owner = "";
        return;
    }
    if (at == NULL)
        at = apr_array_push(o->all);
    *at = (struct sl_override){apr_pstrdup(o->pool, put->owner), apr_pstrdup(o->pool, put->key),
                               apr_pstrdup(o->pool, put->says), apr_pstrdup(o->pool, put->of),
                               put->at};
}

void
config_print_trouble(struct config *c, FILE *to)
{
    const char *trouble = config_overrides(c)->trouble;

    if (trouble != NULL)
        fprintf(to, "StateDir: %s; without what was said at run time\n", trouble);
}
