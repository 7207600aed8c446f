/* What the parts of config/ share. */
#ifndef CONFIG_LOAD_H
#define CONFIG_LOAD_H

#include "config/lexer.h"

/* A value as it was written: all words of a line, or that of an option. */
struct said {
    struct said *next;
    const char *place;
    const char *text; /* words that need quotes have them */
};

/* Where a value of one scope came from.  A row has one mark, and one for each option. */
struct mark {
    const char *place; /* NULL: not set in this scope */
    uint8_t restarts;  /* a list that began with "-" */
    struct said *said; /* in file order; several where lines add up */
};

/* What was said in one object section, kept for -T. */
struct object_section {
    const struct loaded_module *module;
    const struct sl_section *section;
    const char *place, *title;
    const struct mark *marks;
};

/* What one scope says to one module: the values as written, before merging. */
struct raw_conf {
    void *own;
    struct mark *marks; /* NULL: nothing was said */
    int is_active;      /* here or in an enclosing scope */
};

/* The line a parse function is called for. */
struct sl_cmd {
    struct config *c;
    const struct conf_line *line;
    const struct sl_directive *row;
    struct loaded_module *module;
    struct sl_scope *scope;
    int first; /* word that is argument 0 */
    int blame; /* word an error points at: the one asked for last */
    const char *cure;
};

/* Where options go: marks NULL: nobody asks where they came from. */
struct option_sink {
    const struct sl_option *options;
    void *conf;
    struct mark *marks; /* one an option */
};
/* slot_parse() for a word of a line: a condition's error brings its cure. */
const char *cmd_slot(struct sl_cmd *cmd, enum sl_slot type, const char *const *words,
                     const char *text, void *slot);
const char *cmd_options(struct sl_cmd *cmd, int from, const struct option_sink *sink);

void config_add_error(struct config *c, const char *place, const char *text, const char *line,
                      unsigned column, size_t width, const char *cure);

/* Rows are walked by the size they had when the module was built. */
static inline const struct sl_directive *
directive_row(const struct loaded_module *m, const struct sl_directive *rows, unsigned i)
{
    const char *at;

    if (rows == NULL)
        return NULL;
    at = (const char *)rows + (size_t)i * m->abi->directive_size;
    return ((const struct sl_directive *)(const void *)at)->name != NULL
               ? (const struct sl_directive *)(const void *)at : NULL;
}

static inline const struct sl_section *
section_row(const struct loaded_module *m, unsigned i)
{
    const char *at;

    if (m->module->sections == NULL)
        return NULL;
    at = (const char *)m->module->sections + (size_t)i * m->abi->section_size;
    return ((const struct sl_section *)(const void *)at)->name != NULL
               ? (const struct sl_section *)(const void *)at : NULL;
}

static inline const struct sl_hook *
hook_row(const struct loaded_module *m, unsigned i)
{
    const char *at;

    if (m->module->hooks == NULL)
        return NULL;
    at = (const char *)m->module->hooks + (size_t)i * m->abi->hook_size;
    return ((const struct sl_hook *)(const void *)at)->point != SL_HOOK_COUNT
               ? (const struct sl_hook *)(const void *)at : NULL;
}

/* slots.c */
size_t slot_size(enum sl_slot type);
int slot_is_list(enum sl_slot type);
/* Whether it is a condition, and for which phase. */
int slot_is_cond(enum sl_slot type, enum sl_phase *phase);
/* Parses one word; words: of an enum.  NULL or a phrase. */
const char *slot_parse(apr_pool_t *pool, enum sl_slot type, const char *const *words,
                       const char *text, void *slot);
/* A directive's arguments into own, marking what was set. */
const char *slots_set(struct sl_cmd *cmd, const struct sl_directive *rows, void *own,
                      struct mark *marks);
/* Defaults of all rows. */
const char *slots_init(apr_pool_t *pool, const struct loaded_module *m,
                       const struct sl_directive *rows, void *conf);
unsigned slots_count(const struct loaded_module *m, const struct sl_directive *rows);
unsigned slots_first(const struct loaded_module *m, const struct sl_directive *rows,
                     const struct sl_directive *row);

/* networks.c */
const char *networks_add(apr_pool_t *pool, struct sl_networks **nets, const char *text);
struct sl_networks *networks_join(apr_pool_t *pool, const struct sl_networks *a,
                                  const struct sl_networks *b);
/* 16 bytes, IPv4 as mapped IPv6. */
void networks_bytes(const struct sl_sockaddr *addr, uint8_t bytes[16]);

/* said.c: remembers the words of a line from the first on. */
void mark_say(struct sl_cmd *cmd, struct mark *mark, int first);
void mark_say_option(struct sl_cmd *cmd, struct mark *mark, const char *value);

/* merge.c, compile.c, overlay.c */
void config_merge(struct config *c);
void config_compile(struct config *c);
void config_overlays(struct config *c);
/* What a scope says to a module over what is merged so far: a new conf in the pool. */
void *merge_over(apr_pool_t *pool, const struct loaded_module *m, const struct raw_conf *raw,
                 const void *outer);
/* The hook lists of a merged scope. */
void compile_scope(const struct config *c, apr_pool_t *pool, struct sl_scope *s);
/* Who runs at a point, in order; scope NULL: every module.  calls has room for 256.  -1: a
 * circle. */
int hooks_in_order(const struct config *c, const struct sl_scope *scope, enum sl_hook_point point,
                   struct hook_call *calls, unsigned *n);
const char *hook_point_name(enum sl_hook_point point);

/* core_check.c: errors that only the whole shows; where a row of the core was set in a scope, NULL:
 * nowhere. */
void core_check(struct config *c);
const char *core_place(const struct config *c, const struct sl_scope *scope, const char *name);

/* names.c: the name nearest to what was typed, NULL when none is near. */
const char *nearest_directive(const struct config *c, const char *typed);
const char *stock_module_of(const char *directive);
/* What a name of another server's language is here; NULL: it is none that is known. */
const char *foreign_name(const char *name);

static inline struct loaded_module *
config_module(const struct config *c, int i)
{
    return APR_ARRAY_IDX(c->modules, i, struct loaded_module *);
}

static inline struct raw_conf *
scope_raw(const struct sl_scope *s, const struct loaded_module *m)
{
    return &((struct raw_conf *)s->raw)[m->index];
}

#endif
