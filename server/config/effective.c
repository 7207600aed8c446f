/* -T: what holds where, and which line said so.
 *
 * Merging is declared by the rows (merge.c), so the origin of a value is found by the same
 * rule: the innermost scope that says something, and for lists all of them, outer first, from
 * the last that began anew.  An If has no values of its own beside what it says: the others are
 * those of the place it is laid over. */
#include "config/load.h"
#include "config/overrides.h"
#include "runtime/override_file.h"

#include <apr_strings.h>

#define VALUE_COLUMN 46

struct effective {
    FILE *to;
    struct config *config;
    const struct loaded_module *module;
    const struct sl_directive *row;
    const char *key; /* of an option; NULL: none */
};

static void
print_value(const struct effective *e, const char *text, const char *origin)
{
    int n = fprintf(e->to, "  %s %s%s%s", e->row->name, e->key != NULL ? e->key : "",
                    e->key != NULL ? "=" : "", text);

    fprintf(e->to, "%*s  %s\n", n < VALUE_COLUMN ? VALUE_COLUMN - n : 0, "", origin);
}

#define BY_DEFAULT "; by default "

/* help: what it says at its end of a default that is no slot's. */
static const char *
default_text(enum sl_slot type, const char *init, const char *const *words, const char *help)
{
    const char *said = help != NULL ? strstr(help, BY_DEFAULT) : NULL;

    if (said != NULL)
        return said + strlen(BY_DEFAULT);
    if (init != NULL && init[0] != '\0')
        return init;
    switch (type) {
    case SL_SLOT_FLAG:
        return "off";
    case SL_SLOT_NUMBER:
    case SL_SLOT_SIZE:
    case SL_SLOT_DURATION:
    case SL_SLOT_RATE:
        return "0";
    case SL_SLOT_ENUM:
        return words[0];
    case SL_SLOT_STRING:
    case SL_SLOT_TOKEN:
    case SL_SLOT_LIST:
    case SL_SLOT_NETS:
    case SL_SLOT_EXPR:
    case SL_SLOT_OPTIONS:
    case SL_SLOT_LINES:
    case SL_SLOT_RULES:
    case SL_SLOT_PARSED:
    case SL_SLOT_COND_REQUEST:
    case SL_SLOT_COND_ROUTED:
    case SL_SLOT_COND_RESPONSE:
    case SL_SLOT_COND_LOG:
        break;
    }
    return "(none)";
}

static const struct mark *
scope_mark(const struct sl_scope *s, const struct loaded_module *m, unsigned i)
{
    const struct raw_conf *raw = scope_raw(s, m);

    return raw->marks != NULL && raw->marks[i].place != NULL ? &raw->marks[i] : NULL;
}

/* ---- what the operator said at run time ---- */

/* A state file may have anything between its quotes; here a line stays a line. */
static const char *
shown(apr_pool_t *pool, const char *text)
{
    char *copy = apr_pstrdup(pool, text), *c;

    for (c = copy; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    return copy;
}

static void
print_override(const struct config *c, FILE *to, const struct sl_override *o, const char *but)
{
    int n = fprintf(to, "    %s %s: %s", o->owner, shown(c->pool, o->key), shown(c->pool, o->says));

    fprintf(to, "%*s  control socket, %s; %s %s\n", n < VALUE_COLUMN ? VALUE_COLUMN - n : 0, "",
            override_time(c->pool, o->at), but, shown(c->pool, o->of));
}

/* Below the line they were said of. */
static void
print_overrides(struct config *c, FILE *to, const char *place)
{
    const struct overrides *all = config_overrides(c);
    int i;

    for (i = 0; i < all->all->nelts; i++)
        if (all->claims[i].place != NULL && strcmp(all->claims[i].place, place) == 0)
            print_override(c, to, &APR_ARRAY_IDX(all->all, i, struct sl_override),
                           all->claims[i].holds ? "the file says"
                                                : "holds no more, for the file said");
}

static void
print_unclaimed(struct config *c, FILE *to)
{
    const struct overrides *all = config_overrides(c);
    int i, n = 0;

    for (i = 0; i < all->all->nelts; i++)
        if (all->claims[i].place == NULL) {
            if (n++ == 0)
                fprintf(to, "StateDir\n");
            print_override(c, to, &APR_ARRAY_IDX(all->all, i, struct sl_override), "waits for");
        }
}


static unsigned
print_said(const struct effective *e, const struct mark *mark)
{
    const struct said *said;
    unsigned n = 0;

    for (said = mark->said; said != NULL; said = said->next, n++) {
        print_value(e, said->text, said->place);
        print_overrides(e->config, e->to, said->place);
    }
    return n;
}

/* The lines of a list, outer scopes first; how many. */
static unsigned
print_list(const struct effective *e, const struct sl_scope *s, unsigned i)
{
    const struct mark *mark = s != NULL ? scope_mark(s, e->module, i) : NULL;
    unsigned n = 0;

    if (s == NULL)
        return 0;
    if (s->kind != SL_SCOPE_IF && (mark == NULL || !mark->restarts))
        n = print_list(e, s->parent, i);
    return mark != NULL ? n + print_said(e, mark) : n;
}

/* Rows that share a list stand or fall together. */
static int
has_rules(const struct effective *e, const struct sl_scope *s)
{
    const struct sl_directive *rows = e->module->module->directives, *row;
    unsigned i;

    for (i = 0; (row = directive_row(e->module, rows, i)) != NULL; i++)
        if (row->type == SL_SLOT_RULES && row->offset == e->row->offset &&
            scope_mark(s, e->module, slots_first(e->module, rows, row)) != NULL)
            return 1;
    return 0;
}

static unsigned
print_rules(const struct effective *e, const struct sl_scope *s, unsigned i)
{
    const struct mark *mark;

    while (s != NULL && !has_rules(e, s))
        s = s->kind != SL_SCOPE_IF ? s->parent : NULL;
    mark = s != NULL ? scope_mark(s, e->module, i) : NULL;
    return mark != NULL ? print_said(e, mark) : 0;
}

static unsigned
print_scalar(const struct effective *e, const struct sl_scope *s, unsigned i)
{
    const struct mark *mark = NULL;

    for (; s != NULL && mark == NULL; s = s->kind != SL_SCOPE_IF ? s->parent : NULL)
        mark = scope_mark(s, e->module, i);
    return mark != NULL ? print_said(e, mark) : 0;
}

/* ---- rows, of a scope or of an object section ---- */

/* Where the marks of a value are looked for. */
struct holder {
    const struct sl_scope *scope; /* NULL: an object section */
    const struct mark *marks;     /* its */
};

static void
print_slot(const struct effective *e, const struct holder *h, unsigned i, enum sl_slot type,
           const char *init)
{
    unsigned n;

    if (h->scope == NULL)
        n = print_said(e, &h->marks[i]);
    else if (slot_is_list(type))
        n = print_list(e, h->scope, i);
    else if (type == SL_SLOT_RULES)
        n = print_rules(e, h->scope, i);
    else
        n = print_scalar(e, h->scope, i);
    if (n == 0 && (h->scope == NULL || h->scope->kind != SL_SCOPE_IF))
        print_value(e, init, "default");
}

/* The number of marks the row has. */
static unsigned
print_row(struct effective *e, const struct holder *h, unsigned i)
{
    const struct sl_option *o;

    if (e->row->type != SL_SLOT_OPTIONS) {
        print_slot(e, h, i, e->row->type, default_text(e->row->type, e->row->init, e->row->words,
                                                       e->row->help));
        return 1;
    }
    for (o = e->row->options; o->key != NULL; o++) {
        e->key = o->key;
        print_slot(e, h, i + (unsigned)(o - e->row->options), o->type,
                   default_text(o->type, o->init, o->words, o->help));
    }
    e->key = NULL;
    return (unsigned)(o - e->row->options);
}

/* Rows that are carried out while the text is read have no value. */
static int
has_value(const struct loaded_module *m, const struct sl_directive *row)
{
    return m->index > 0 || row->offset != offsetof(struct core_conf, unused) ||
           row->type != SL_SLOT_LINES;
}

static int
may_stand_in(const struct sl_directive *row, const struct sl_scope *s)
{
    switch (s->kind) {
    case SL_SCOPE_GLOBAL:
        return 1;
    case SL_SCOPE_HOST:
        return (row->where & SL_IN_HOST) != 0;
    case SL_SCOPE_LOCATION:
    case SL_SCOPE_IF:
        break;
    }
    return (row->where & SL_IN_LOCATION) != 0;
}

static void
print_scope(struct config *c, const struct sl_scope *s, FILE *to)
{
    struct holder h = {s, NULL};
    int i;
    unsigned k;

    fprintf(to, "%s%s%s", s->title, s->place != NULL ? "  " : "", s->place != NULL ? s->place : "");
    if (s->parent != NULL && s->parent->place != NULL)
        fprintf(to, ", in %s", s->parent->place);
    fprintf(to, "\n");
    for (i = 0; i < c->modules->nelts; i++) {
        struct effective e = {.to = to, .config = c, .module = config_module(c, i)};

        for (k = 0; (e.row = directive_row(e.module, e.module->module->directives, k)) != NULL; k++)
            if (has_value(e.module, e.row) && may_stand_in(e.row, s))
                print_row(&e, &h, slots_first(e.module, e.module->module->directives, e.row));
    }
}

static void
print_object(struct config *c, const struct object_section *o, FILE *to)
{
    struct effective e = {.to = to, .config = c, .module = o->module};
    struct holder h = {NULL, o->marks};
    unsigned k, i = 0;

    fprintf(to, "%s  %s\n", o->title, o->place);
    for (k = 0; (e.row = directive_row(e.module, o->section->directives, k)) != NULL; k++)
        i += print_row(&e, &h, i);
}

void
config_print_effective(struct config *c, FILE *to)
{
    int i;

    for (i = 0; i < c->scopes->nelts; i++)
        print_scope(c, APR_ARRAY_IDX(c->scopes, i, struct sl_scope *), to);
    for (i = 0; i < c->objects->nelts; i++)
        print_object(c, &APR_ARRAY_IDX(c->objects, i, struct object_section), to);
    print_unclaimed(c, to);
}
