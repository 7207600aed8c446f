/* -L, -M and -S: what the rows and scopes say of themselves. */
#include "config/load.h"

#include "http/variables.h"

static const char *const order_words[] = {"early", "middle", "late"};

static void
print_row(FILE *to, const struct sl_directive *d)
{
    fprintf(to, "  %s %s\n      %s.", d->name, d->args, d->help);
    if (d->init != NULL && d->init[0] != '\0')
        fprintf(to, " Default: %s.", d->init);
    fprintf(to, " Where:%s%s%s.\n", d->where & SL_IN_GLOBAL ? " global" : "",
            d->where & SL_IN_HOST ? " host" : "", d->where & SL_IN_LOCATION ? " location" : "");
    if (d->type == SL_SLOT_OPTIONS) {
        const struct sl_option *o;

        for (o = d->options; o->key != NULL; o++)
            fprintf(to, "        %s=%s  %s\n", o->key, o->init != NULL ? o->init : "",
                    o->help != NULL ? o->help : "");
    }
}

static void
print_section(FILE *to, const struct loaded_module *m, const struct sl_section *s)
{
    const struct sl_directive *d;
    unsigned i;

    fprintf(to, "  <%s%s%s>\n      %s.\n", s->name, s->args != NULL ? " " : "",
            s->args != NULL ? s->args : "", s->help != NULL ? s->help : "");
    for (i = 0; (d = directive_row(m, s->directives, i)) != NULL; i++)
        fprintf(to, "    %s %s\n        %s.%s%s%s\n", d->name, d->args, d->help,
                d->init != NULL ? " Default: " : "", d->init != NULL ? d->init : "",
                d->init != NULL ? "." : "");
}

static void
print_variables(FILE *to, const struct sl_variable *rows, size_t stride)
{
    static const char *const known[] = {"the connection is", "the request is", "the request is routed",
                                        "the response is", "the request is over"};
    static const char *const types[] = {"string", "number", "address", "time", "bool"};
    const char *at = (const char *)rows;

    for (; rows != NULL; at += stride) {
        const struct sl_variable *v = (const struct sl_variable *)(const void *)at;

        if (v->name == NULL)
            return;
        fprintf(to, "  %%{%s%s}\n      %s. Type: %s. Known when %s.\n", v->name,
                v->takes_arg ? ":NAME" : "", v->help != NULL ? v->help : "", types[v->type],
                known[v->phase]);
    }
}

void
config_print_directives(const struct config *c, FILE *to)
{
    int i;
    unsigned j;

    for (i = 0; i < c->modules->nelts; i++) {
        const struct loaded_module *m = config_module(c, i);
        const struct sl_directive *d;
        const struct sl_section *s;

        fprintf(to, "%s%s\n", i > 0 ? "mod_" : "", m->name);
        for (j = 0; (s = section_row(m, j)) != NULL; j++)
            print_section(to, m, s);
        for (j = 0; (d = directive_row(m, m->module->directives, j)) != NULL; j++)
            print_row(to, d);
        print_variables(to, i == 0 ? core_variables : m->module->variables, m->abi->variable_size);
    }
}

void
config_print_modules(const struct config *c, FILE *to)
{
    struct hook_call calls[256];
    unsigned point, n, k;
    int i;

    for (i = 0; i < c->modules->nelts; i++) {
        const struct loaded_module *m = config_module(c, i);

        fprintf(to, "%-14s ABI %u.%u  %s\n", m->name, m->abi->major, m->abi->minor, m->file);
    }
    for (point = 0; point < SL_HOOK_COUNT; point++) {
        hooks_in_order(c, NULL, (enum sl_hook_point)point, calls, &n);
        for (k = 0; k < n; k++)
            fprintf(to, "%-18s %-7s %-14s %s%s%s%s\n",
                    k == 0 ? hook_point_name((enum sl_hook_point)point) : "",
                    order_words[calls[k].hook->order], calls[k].module->name, calls[k].hook->name,
                    calls[k].hook->after != NULL ? "  after " : "",
                    calls[k].hook->after != NULL ? calls[k].hook->after : "",
                    calls[k].hook->flags & SL_DRY_OK ? "  dry" : "");
    }
}

static unsigned
depth_of(const struct sl_scope *s)
{
    unsigned n = 0;

    while ((s = s->parent) != NULL)
        n++;
    return n;
}

/* A section of a module, such as a Balancer, with the lines that add up to it: its servers. */
static void
print_object(const struct object_section *o, FILE *to)
{
    const struct sl_directive *rows = o->section->directives, *row;
    const struct said *said;
    unsigned i;

    fprintf(to, "%s  (%s)\n", o->title, o->place);
    for (i = 0; (row = directive_row(o->module, rows, i)) != NULL; i++) {
        if (row->type != SL_SLOT_LINES)
            continue;
        for (said = o->marks[slots_first(o->module, rows, row)].said; said != NULL; said = said->next)
            fprintf(to, "  %s %s  (%s)\n", row->name, said->text, said->place);
    }
}

void
config_print_scopes(const struct config *c, FILE *to)
{
    const struct core_conf *core = config_global(c)->core;
    int i;

    for (i = 0; core->listen != NULL && i < core->listen->nelts; i++) {
        const struct listen_conf *l = APR_ARRAY_IDX(core->listen, i, struct listen_conf *);

        fprintf(to, "Listen %s  (%s)\n", l->text, l->place);
    }
    for (i = 0; i < c->scopes->nelts; i++) {
        const struct sl_scope *s = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *);

        fprintf(to, "%*s%s%s%s%s\n", (int)(2 * depth_of(s)), "", s->title,
                s->place != NULL ? "  (" : "", s->place != NULL ? s->place : "",
                s->place != NULL ? ")" : "");
    }
    for (i = 0; i < c->objects->nelts; i++) {
        const struct object_section *o = &APR_ARRAY_IDX(c->objects, i, struct object_section);

        if (o->module->index > 0) /* what a Test says is no part of what serves */
            print_object(o, to);
    }
}
