/* Merging, declared by the rows: inner, else outer, else default; lists add up.  A scope
 * that says nothing to a module shares the conf of the one around it. */
#include "config/load.h"

#include "runtime/loader.h"

#include <apr_strings.h>

static void
merge_list(apr_pool_t *pool, const struct sl_directive *row, int restarts, const void *own,
           void *merged)
{
    void *const *from = (void *const *)(const void *)((const char *)own + row->offset);
    void **to = (void **)(void *)((char *)merged + row->offset);

    if (restarts || *to == NULL)
        *to = *from;
    else if (*from == NULL)
        return;
    else if (row->type == SL_SLOT_NETS)
        *to = networks_join(pool, *to, *from);
    else
        *to = apr_array_append(pool, *to, *from);
}

static void
merge_row(apr_pool_t *pool, const struct sl_directive *row, const struct mark *marks,
          const void *own, void *merged)
{
    unsigned i;

    if (row->type == SL_SLOT_OPTIONS) {
        for (i = 0; row->options[i].key != NULL; i++)
            if (marks[i].place != NULL)
                memcpy((char *)merged + row->options[i].offset,
                       (const char *)own + row->options[i].offset,
                       slot_size(row->options[i].type));
        return;
    }
    if (marks->place == NULL)
        return;
    if (slot_is_list(row->type)) /* RULES are none: the inner scope's hold alone */
        merge_list(pool, row, marks->restarts, own, merged);
    else
        memcpy((char *)merged + row->offset, (const char *)own + row->offset,
               slot_size(row->type));
}

void *
merge_over(apr_pool_t *pool, const struct loaded_module *m, const struct raw_conf *raw,
           const void *outer)
{
    const struct sl_directive *row;
    void *merged = apr_pmemdup(pool, outer, m->module->conf_size + 1);
    unsigned i, first = 0;

    for (i = 0; (row = directive_row(m, m->module->directives, i)) != NULL; i++) {
        first = slots_first(m, m->module->directives, row);
        merge_row(pool, row, &raw->marks[first], raw->own, merged);
    }
    return merged;
}

static void *
defaults(struct config *c, const struct loaded_module *m)
{
    void *conf = apr_pcalloc(c->pool, m->module->conf_size + 1);
    const char *err = slots_init(c->pool, m, m->module->directives, conf);

    if (err != NULL)
        config_error(c, NULL, NULL, "mod_%s: a default does not parse: %s", m->name, err);
    if (m->module == &core_module)
        core_conf_init(conf);
    return conf;
}

static void
merge_module(struct config *c, const struct loaded_module *m)
{
    int always = (m->module->flags & SL_MODULE_ALWAYS) != 0, i;

    for (i = 0; i < c->scopes->nelts; i++) {
        struct sl_scope *s = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *);
        struct raw_conf *raw = scope_raw(s, m);
        void *outer = s->parent != NULL ? s->parent->conf[m->index] : defaults(c, m);

        raw->is_active = always || raw->marks != NULL ||
                         (s->parent != NULL && scope_raw(s->parent, m)->is_active);
        s->conf[m->index] = raw->marks != NULL ? merge_over(c->pool, m, raw, outer) : outer;
    }
}

void
config_merge(struct config *c)
{
    int i;

    for (i = 0; i < c->modules->nelts; i++)
        merge_module(c, config_module(c, i));
    for (i = 0; i < c->scopes->nelts; i++) {
        struct sl_scope *s = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *);

        s->core = s->conf[0];
    }
}

struct sl_scope *
sl_scope_parent(const struct sl_scope *scope)
{
    return scope->parent;
}

enum sl_scope_kind
sl_scope_kind(const struct sl_scope *scope)
{
    return scope->kind;
}

const char *
sl_scope_place(const struct sl_scope *scope)
{
    return scope->place;
}

void
sl_scope_own(struct sl_scope *scope, void *data)
{
    scope->owned = data;
}

void *
sl_scope_owned(const struct sl_scope *scope)
{
    return scope->owned;
}

const void *
sl_scope_conf(const struct sl_scope *scope, const struct sl_module *module)
{
    return scope->conf[loader_index_of(module)];
}
