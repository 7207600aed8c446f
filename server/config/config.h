/* Reading a configuration: text to scopes, in four passes, each a file.
 *
 *   source.c   files: Include, Define, ${NAME}                         -> text
 *   lexer.c    lines, quotes, continuation                             -> words with places
 *   load.c     LoadModule first, then sections and directives          -> raw values by scope
 *   slots.c    one parser a type
 *   merge.c    inner, else outer, else default; lists add up           -> merged confs
 *   compile.c  per scope and hook point, who runs, in order            -> hook lists
 *   overlay.c  the Ifs that hold for a request, laid over its scope    -> scopes made on demand
 *
 * All errors of a run are collected and reported together. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdio.h>

#include "config/core_conf.h"
#include "config/scope.h"

struct config_error {
    const char *place;   /* file:line, NULL: the whole */
    const char *text;    /* what was found, what was expected */
    const char *excerpt; /* the line with the word underlined; NULL: none */
    const char *cure;    /* NULL: none */
    int is_last;         /* of its line: what else would be said of it follows from it */
};

struct config {
    apr_pool_t *pool;
    apr_array_header_t *errors;  /* of struct config_error */
    apr_array_header_t *modules; /* of struct loaded_module *, core first */
    apr_array_header_t *lines;   /* of struct conf_line *, as read */
    apr_array_header_t *scopes;  /* of struct sl_scope *, outer before inner; [0] is global */
    apr_array_header_t *objects; /* of struct object_section, in file order */
    apr_array_header_t *tests;   /* of struct test_section *, in file order */
    void **module_data;          /* by module index */
    struct overrides *overrides; /* what StateDir keeps; NULL: not read yet */
    struct lint *lint;           /* NULL: nobody lints */
    const char *module_dir;
};

/* Where a configuration comes from: a file, or text (name is used in places). */
struct config_source {
    const char *file; /* or */
    const char *text;
    const char *name;
    int snapshot; /* 0: none; else the memfd to read instead of either */
    int is_linting; /* what --lint asks for is gathered */
    int core_only; /* loads no module: all but the core's own directives are errors then */
    const char *module_dir; /* NULL: the installed one, $SLUICE_MODULES, or ModuleDir in the file */
};

/* Reads, merges and compiles.  Always gives a config; look at ->errors->nelts. */
struct config *config_load(apr_pool_t *pool, const struct config_source *source);

static inline struct sl_scope *
config_global(const struct config *c)
{
    return APR_ARRAY_IDX(c->scopes, 0, struct sl_scope *);
}

/* Adds an error; place and cure may be NULL. */
void config_error(struct config *c, const char *place, const char *cure, const char *fmt, ...)
    SL_PRINTF(4, 5);
/* Prints all errors as the operator reads them; returns how many. */
int config_print_errors(const struct config *c, FILE *to);

/* -L: every directive of the core and the loaded modules with its sentence.  -M: modules and
 * hook order.  -S: listeners and scopes with their places. */
void config_print_directives(const struct config *c, FILE *to);
void config_print_modules(const struct config *c, FILE *to);
void config_print_scopes(const struct config *c, FILE *to);

/* -T: every value of every scope and object section with its origin, one a line. */
void config_print_effective(struct config *c, FILE *to);

/* Runs a process hook point over all modules, in order; 0, or the first module's -1. */
int config_run_worker_hooks(struct config *c, enum sl_hook_point point, struct sl_worker *w);
int config_run_thread_hooks(struct config *c, struct sl_worker *w, struct sl_loop *loop);

#endif
