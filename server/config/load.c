/* Lines to scopes: modules are loaded first, then every line finds its row. */
#include "config/load.h"

#include "config/lint.h"
#include "config/test_section.h"

#include "runtime/loader.h"

#include <apr_strings.h>

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#define DEPTH_MAX 32

/* One open section. */
struct frame {
    const struct conf_line *line;
    const struct sl_section *section; /* NULL: outside all */
    struct loaded_module *module;
    struct sl_scope *scope;
    void *object; /* object sections: what their rows write */
    struct mark *marks;
};

struct load {
    struct config *c;
    struct frame frames[DEPTH_MAX];
    int depth;
    int skip; /* inside a section nobody knows: how deep */
};

static void
cmd_error(struct sl_cmd *cmd, const char *err)
{
    const struct conf_line *l = cmd->line;
    int word = cmd->blame < l->n_words ? cmd->blame : 0;

    if (cmd->cure == NULL && strstr(err, "expected a known variable") != NULL)
        cmd->cure = "\"sluice -L\" lists the variables";

    config_add_error(cmd->c, l->place,
                     apr_psprintf(cmd->c->pool, "%s%s%s: %s", l->kind == LINE_OPEN ? "<" : "",
                                  l->words[0], l->kind == LINE_OPEN ? ">" : "", err),
                     l->text, l->columns[word], strlen(l->words[word]), cmd->cure);
}

static void
scope_add(struct config *c, struct sl_scope *s)
{
    s->index = (unsigned)c->scopes->nelts;
    s->raw = apr_pcalloc(c->pool, (size_t)c->modules->nelts * sizeof(struct raw_conf));
    s->conf = apr_pcalloc(c->pool, (size_t)c->modules->nelts * sizeof(void *));
    APR_ARRAY_PUSH(c->scopes, struct sl_scope *) = s;
}

/* ---- finding rows ---- */

static const struct sl_directive *
find_directive(const struct config *c, const char *name, struct loaded_module **owner)
{
    int i;
    unsigned j;

    for (i = 0; i < c->modules->nelts; i++) {
        const struct sl_directive *d;

        *owner = config_module(c, i);
        for (j = 0; (d = directive_row(*owner, (*owner)->module->directives, j)) != NULL; j++)
            if (strcasecmp(d->name, name) == 0)
                return d;
    }
    return NULL;
}

static const struct sl_section *
find_section(const struct config *c, const char *name, struct loaded_module **owner)
{
    int i;
    unsigned j;

    for (i = 0; i < c->modules->nelts; i++) {
        const struct sl_section *s;

        *owner = config_module(c, i);
        for (j = 0; (s = section_row(*owner, j)) != NULL; j++)
            if (strcasecmp(s->name, name) == 0)
                return s;
    }
    return NULL;
}

static const struct sl_directive *
section_directive(const struct loaded_module *m, const struct sl_section *s, const char *name)
{
    const struct sl_directive *d;
    unsigned i;

    for (i = 0; (d = directive_row(m, s->directives, i)) != NULL; i++)
        if (strcasecmp(d->name, name) == 0)
            return d;
    return NULL;
}

/* The section a directive of that name stands in; NULL: none has it. */
static const struct sl_section *
section_with(const struct config *c, const char *name)
{
    const struct sl_section *s;
    int i;
    unsigned j;

    for (i = 0; i < c->modules->nelts; i++)
        for (j = 0; (s = section_row(config_module(c, i), j)) != NULL; j++)
            if (section_directive(config_module(c, i), s, name) != NULL)
                return s;
    return NULL;
}

static void
unknown_name(struct load *ld, const struct conf_line *line)
{
    struct sl_cmd cmd = {.c = ld->c, .line = line};
    const char *name = line->words[0], *module = stock_module_of(name);
    const char *near = nearest_directive(ld->c, name), *here = foreign_name(name);
    const struct sl_section *section = section_with(ld->c, name);
    int i;

    for (i = 0; module != NULL && i < ld->c->modules->nelts; i++)
        if (strcmp(config_module(ld->c, i)->name, module) == 0)
            module = NULL;
    if (module != NULL)
        sl_cmd_cure(&cmd, "it belongs to mod_%s: write \"LoadModule %s\"", module, module);
    else if (here != NULL)
        sl_cmd_cure(&cmd, "here: %s", here);
    else if (section != NULL)
        sl_cmd_cure(&cmd, "write it between <%s %s> and </%s>", section->name, section->args, section->name);
    else if (near != NULL)
        sl_cmd_cure(&cmd, "did you mean \"%s\"?", near);
    cmd_error(&cmd, module == NULL && section != NULL
                        ? sl_cmd_error(&cmd, "may not stand here, expected it in <%s>", section->name)
                        : "no loaded module knows this name");
}

static unsigned
where_of(const struct sl_scope *s)
{
    switch (s->kind) {
    case SL_SCOPE_GLOBAL:
        return SL_IN_GLOBAL;
    case SL_SCOPE_HOST:
        return SL_IN_HOST;
    case SL_SCOPE_LOCATION:
    case SL_SCOPE_IF:
        return SL_IN_LOCATION;
    }
    return 0;
}

static const char *
where_text(apr_pool_t *pool, unsigned where)
{
    return apr_pstrcat(pool, where & SL_IN_GLOBAL ? "outside all sections" : "",
                       (where & SL_IN_GLOBAL) && (where & ~SL_IN_GLOBAL) ? ", " : "",
                       where & SL_IN_HOST ? "in <VirtualHost>" : "",
                       (where & SL_IN_HOST) && (where & SL_IN_LOCATION) ? ", " : "",
                       where & SL_IN_LOCATION ? "in <Location>" : "", NULL);
}

/* ---- directives ---- */

/* A directive of H or L outside sections is everyone's default. */
static int
may_stand(const struct sl_directive *row, const struct sl_scope *s)
{
    return (row->where & where_of(s)) != 0 ||
           (s->kind == SL_SCOPE_GLOBAL && (row->where & (SL_IN_HOST | SL_IN_LOCATION)));
}

/* Whatever a row says of a line without words, what it takes is what was expected. */
static void
row_error(struct sl_cmd *cmd, const char *err)
{
    if (sl_cmd_argc(cmd) == 0 && cmd->row->args != NULL)
        err = sl_cmd_error(cmd, "expected %s, found nothing", cmd->row->args);
    cmd_error(cmd, err);
}

static void
load_in_scope(struct load *ld, const struct conf_line *line, struct sl_scope *scope)
{
    struct sl_cmd cmd = {.c = ld->c, .line = line, .scope = scope, .first = 1};
    struct raw_conf *raw;
    const char *err;

    cmd.row = find_directive(ld->c, line->words[0], &cmd.module);
    if (cmd.row == NULL) {
        unknown_name(ld, line);
        return;
    }
    if (!may_stand(cmd.row, scope)) {
        cmd_error(&cmd, sl_cmd_error(&cmd, "may not stand here, expected it %s",
                                     where_text(ld->c->pool, cmd.row->where)));
        return;
    }
    raw = scope_raw(scope, cmd.module);
    if (raw->marks == NULL) {
        raw->own = apr_pcalloc(ld->c->pool, cmd.module->module->conf_size);
        raw->marks = apr_pcalloc(ld->c->pool,
                                 (slots_count(cmd.module, cmd.module->module->directives) + 1) *
                                     sizeof *raw->marks);
    }
    err = slots_set(&cmd, cmd.module->module->directives, raw->own, raw->marks);
    if (err != NULL)
        row_error(&cmd, err);
}

static void
load_in_object(struct load *ld, const struct conf_line *line, struct frame *f)
{
    struct sl_cmd cmd = {.c = ld->c, .line = line, .scope = config_global(ld->c), .first = 1,
                         .module = f->module};
    const char *err, *near = NULL;
    const struct sl_directive *d;
    unsigned i;

    cmd.row = section_directive(f->module, f->section, line->words[0]);
    if (cmd.row != NULL) {
        if ((err = slots_set(&cmd, f->section->directives, f->object, f->marks)) != NULL)
            row_error(&cmd, err);
        return;
    }
    for (i = 0; (d = directive_row(f->module, f->section->directives, i)) != NULL; i++)
        if (sl_name_distance(d->name, line->words[0]) <= 2)
            near = d->name;
    if (near != NULL)
        sl_cmd_cure(&cmd, "did you mean \"%s\"?", near);
    cmd_error(&cmd, sl_cmd_error(&cmd, "is no directive of <%s>", f->section->name));
}

/* ---- sections ---- */

static enum sl_scope_kind
scope_kind_of(enum sl_section_kind kind)
{
    switch (kind) {
    case SL_SECTION_HOST:
        return SL_SCOPE_HOST;
    case SL_SECTION_LOCATION:
        return SL_SCOPE_LOCATION;
    case SL_SECTION_IF:
        return SL_SCOPE_IF;
    case SL_SECTION_OBJECT:
        break;
    }
    return SL_SCOPE_GLOBAL;
}

static const char *
title_of(apr_pool_t *pool, const struct conf_line *line)
{
    return apr_pstrdup(pool, line->text + strspn(line->text, " \t"));
}

static struct sl_scope *
open_scope(struct load *ld, const struct conf_line *line, const struct sl_section *section)
{
    struct sl_scope *s = apr_pcalloc(ld->c->pool, sizeof *s);

    s->kind = scope_kind_of(section->kind);
    s->parent = ld->frames[ld->depth].scope;
    s->place = line->place;
    s->title = title_of(ld->c->pool, line);
    scope_add(ld->c, s);
    return s;
}

static const char *
open_object(struct load *ld, struct frame *f)
{
    f->scope = ld->frames[ld->depth].scope;
    f->object = apr_pcalloc(ld->c->pool, f->section->conf_size + 1);
    f->marks = apr_pcalloc(ld->c->pool,
                           (slots_count(f->module, f->section->directives) + 1) * sizeof *f->marks);
    APR_ARRAY_PUSH(ld->c->objects, struct object_section) =
        (struct object_section){f->module, f->section, f->line->place,
                                title_of(ld->c->pool, f->line), f->marks};
    return slots_init(ld->c->pool, f->module, f->section->directives, f->object);
}

static void
open_section(struct load *ld, const struct conf_line *line)
{
    struct frame f = {.line = line};
    struct sl_cmd cmd = {.c = ld->c, .line = line, .first = 1};
    const char *err = NULL;
    unsigned here = where_of(ld->frames[ld->depth].scope);

    f.section = find_section(ld->c, line->words[0], &f.module);
    if (f.section == NULL || ld->depth + 1 == DEPTH_MAX) {
        unknown_name(ld, line);
        ld->skip = 1;
        return;
    }
    cmd.module = f.module;
    if ((f.section->where & here) == 0 || ld->frames[ld->depth].object != NULL)
        cmd_error(&cmd, sl_cmd_error(&cmd, "may not stand here, expected it %s",
                                     where_text(ld->c->pool, f.section->where)));
    if (f.section->kind == SL_SECTION_OBJECT)
        err = open_object(ld, &f);
    else
        f.scope = open_scope(ld, line, f.section);
    cmd.scope = f.scope;
    if (err == NULL && f.section->open != NULL)
        err = f.section->open(&cmd, f.object == NULL ? f.scope : NULL);
    if (err != NULL)
        cmd_error(&cmd, err);
    ld->frames[++ld->depth] = f;
}

static void
close_section(struct load *ld, const struct conf_line *line)
{
    struct frame *f = &ld->frames[ld->depth];
    struct sl_cmd cmd = {.c = ld->c, .line = line, .first = 1};
    const char *err = NULL;

    if (ld->depth == 0) {
        cmd_error(&cmd, "closes a section that is not open");
        return;
    }
    if (strcasecmp(line->words[0], f->section->name) != 0)
        cmd_error(&cmd, sl_cmd_error(&cmd, "expected </%s>, which was opened at %s",
                                     f->section->name, f->line->place));
    ld->depth--;
    if (f->section->kind != SL_SECTION_OBJECT || f->section->close == NULL)
        return;
    cmd.line = f->line;
    cmd.module = f->module;
    cmd.scope = config_global(ld->c);
    if ((err = f->section->close(&cmd, f->object)) != NULL)
        cmd_error(&cmd, err);
}

static void
load_line(struct load *ld, const struct conf_line *line)
{
    struct frame *f = &ld->frames[ld->depth];

    if (ld->skip > 0) { /* its errors would only repeat that the section is unknown */
        ld->skip += line->kind == LINE_OPEN ? 1 : line->kind == LINE_CLOSE ? -1 : 0;
        return;
    }
    switch (line->kind) {
    case LINE_OPEN:
        open_section(ld, line);
        return;
    case LINE_CLOSE:
        close_section(ld, line);
        return;
    case LINE_DIRECTIVE:
        break;
    }
    if (f->object != NULL)
        load_in_object(ld, line, f);
    else
        load_in_scope(ld, line, f->scope);
}

/* ---- modules ---- */

static int
is_loader_line(const struct conf_line *line)
{
    return line->kind == LINE_DIRECTIVE && (strcasecmp(line->words[0], "LoadModule") == 0 ||
                                            strcasecmp(line->words[0], "ModuleDir") == 0);
}

/* "gzip_module modules/mod_gzip.so", as httpd's users write it, is "gzip". */
static const char *
module_word(apr_pool_t *pool, const char *word)
{
    size_t n = strlen(word);

    return n > 7 && strcmp(word + n - 7, "_module") == 0 ? apr_pstrmemdup(pool, word, n - 7) : word;
}

static const char *
module_file(struct config *c, const struct conf_line *line, const char *name)
{
    const char *base;

    if (line->n_words == 2)
        return apr_psprintf(c->pool, "%s/mod_%s.so", c->module_dir, name);
    if (line->words[2][0] == '/')
        return line->words[2];
    base = strrchr(line->words[2], '/');
    return apr_psprintf(c->pool, "%s/%s", c->module_dir,
                        base != NULL && strncmp(line->words[2], "modules/", 8) == 0
                            ? base + 1 : line->words[2]);
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "balancer, headers, log, route": of the module folder. */
static const char *
modules_there(struct config *c)
{
    apr_array_header_t *names = apr_array_make(c->pool, 16, sizeof(const char *));
    DIR *dir = opendir(c->module_dir);
    struct dirent *entry;
    size_t n;

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if ((n = strlen(entry->d_name)) > 7 && strncmp(entry->d_name, "mod_", 4) == 0 &&
            strcmp(entry->d_name + n - 3, ".so") == 0)
            APR_ARRAY_PUSH(names, const char *) = apr_pstrmemdup(c->pool, entry->d_name + 4, n - 7);
    if (dir != NULL)
        closedir(dir);
    qsort(names->elts, (size_t)names->nelts, sizeof(const char *), by_name);
    for (n = 1; n < (size_t)names->nelts; n++)
        APR_ARRAY_IDX(names, 0, const char *) =
            apr_pstrcat(c->pool, APR_ARRAY_IDX(names, 0, const char *), ", ",
                        APR_ARRAY_IDX(names, (int)n, const char *), NULL);
    return names->nelts > 0 ? APR_ARRAY_IDX(names, 0, const char *) : "none";
}

/* The file is not there: say what is. */
static void
module_cure(struct sl_cmd *cmd, const char *name)
{
    struct config *c = cmd->c;
    const char *stem = strncmp(name, "mod_", 4) == 0 ? name + 4 : NULL;

    if (stem != NULL && access(apr_psprintf(c->pool, "%s/%s.so", c->module_dir, name), F_OK) == 0)
        sl_cmd_cure(cmd, "write \"LoadModule %s\"", stem);
    else
        sl_cmd_cure(cmd, "the modules in %s are: %s", c->module_dir, modules_there(c));
}

static void
load_module_line(struct load *ld, const struct conf_line *line)
{
    struct config *c = ld->c;
    struct sl_cmd cmd = {.c = c, .line = line, .first = 1, .blame = 1};
    const char *name, *file, *err;
    int i;

    if (line->n_words < 2 || line->n_words > 3) {
        cmd.blame = 0;
        cmd_error(&cmd, "expected NAME [FILE]");
        return;
    }
    name = module_word(c->pool, line->words[1]);
    for (i = 0; i < c->modules->nelts; i++)
        if (strcmp(config_module(c, i)->name, name) == 0) {
            cmd_error(&cmd, "this module is loaded already");
            return;
        }
    file = module_file(c, line, name);
    err = module_load(c, name, file);
    if (err != NULL && access(file, F_OK) != 0)
        module_cure(&cmd, name);
    if (err != NULL)
        cmd_error(&cmd, err);
}

static void
load_modules(struct load *ld, const apr_array_header_t *lines)
{
    int i;

    for (i = 0; i < lines->nelts; i++) {
        const struct conf_line *line = APR_ARRAY_IDX(lines, i, struct conf_line *);

        if (is_loader_line(line) && strcasecmp(line->words[0], "ModuleDir") == 0 &&
            line->n_words == 2)
            ld->c->module_dir = line->words[1];
    }
    for (i = 0; i < lines->nelts; i++) {
        const struct conf_line *line = APR_ARRAY_IDX(lines, i, struct conf_line *);

        if (is_loader_line(line) && strcasecmp(line->words[0], "LoadModule") == 0)
            load_module_line(ld, line);
    }
}

static void
module_data_make(struct config *c)
{
    int i;

    c->module_data = apr_pcalloc(c->pool, (size_t)c->modules->nelts * sizeof(void *));
    for (i = 0; i < c->modules->nelts; i++)
        if (config_module(c, i)->module->data_size > 0)
            c->module_data[i] = apr_pcalloc(c->pool, config_module(c, i)->module->data_size);
}

static void
global_make(struct load *ld)
{
    struct sl_scope *global = apr_pcalloc(ld->c->pool, sizeof *global);

    global->kind = SL_SCOPE_GLOBAL;
    global->title = "(global)";
    scope_add(ld->c, global);
    ld->frames[0].scope = global;
}

static void
unclosed_sections(struct load *ld)
{
    for (; ld->depth > 0; ld->depth--) {
        struct sl_cmd cmd = {.c = ld->c, .line = ld->frames[ld->depth].line};

        cmd_error(&cmd, sl_cmd_error(&cmd, "is never closed, expected </%s>",
                                     ld->frames[ld->depth].section->name));
    }
}

struct config *
config_load(apr_pool_t *pool, const struct config_source *source)
{
    struct config *c = apr_pcalloc(pool, sizeof *c);
    struct load ld = {.c = c};
    apr_array_header_t *lines;
    int i;

    c->pool = pool;
    c->errors = apr_array_make(pool, 4, sizeof(struct config_error));
    c->modules = apr_array_make(pool, 16, sizeof(struct loaded_module *));
    c->objects = apr_array_make(pool, 4, sizeof(struct object_section));
    c->tests = apr_array_make(pool, 4, sizeof(struct test_section *));
    c->scopes = apr_array_make(pool, 16, sizeof(struct sl_scope *));
    c->lint = source->is_linting ? lint_make(pool) : NULL;
    c->module_dir = source->module_dir != NULL ? source->module_dir : loader_default_dir();
    module_add_core(c);
    c->lines = lines = source_lines(c, source);
    if (!source->core_only)
        load_modules(&ld, lines);
    module_data_make(c);
    global_make(&ld);
    for (i = 0; i < lines->nelts; i++)
        if (!is_loader_line(APR_ARRAY_IDX(lines, i, struct conf_line *)))
            load_line(&ld, APR_ARRAY_IDX(lines, i, struct conf_line *));
    unclosed_sections(&ld);
    config_merge(c);
    config_compile(c);
    config_overlays(c);
    return c;
}
