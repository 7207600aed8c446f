/* Values: text with %{variables}; and conditions over them.  Both are compiled once, while
 * the configuration is read, and evaluated per request.
 *
 * Every variable declares the phase from which it is known, its type and its cost; using
 * one earlier than that is a configuration error. */
#ifndef SLUICE_EXPR_H
#define SLUICE_EXPR_H

#include "sluice/base.h"

enum sl_phase {
    SL_PHASE_CONNECTION, /* known when the connection is */
    SL_PHASE_REQUEST,    /* known when the request head is */
    SL_PHASE_ROUTED,     /* known when host and location are */
    SL_PHASE_RESPONSE,   /* known when the response head is */
    SL_PHASE_LOG,        /* known when the request is over */
};

enum sl_type { SL_TYPE_STRING, SL_TYPE_NUMBER, SL_TYPE_ADDRESS, SL_TYPE_TIME, SL_TYPE_BOOL };

/* Gives the variable's text; `arg` is what stands behind the colon (%{req:NAME}).  Absent
 * is a span with at NULL; it prints as nothing.  Bytes live until the request ends. */
typedef struct sl_span sl_variable_f(struct sl_req *r, struct sl_span arg);

struct sl_variable {
    const char *name;
    int takes_arg;
    enum sl_phase phase;
    enum sl_type type;
    unsigned cost; /* rough ns, for explain */
    sl_variable_f *get;
    const char *help;
};
#define SL_VARIABLES_END {NULL, 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 0, NULL, NULL}

/* Compiles text for use in `phase`.  NULL and a phrase in *err on failure. */
struct sl_expr *sl_expr_compile(apr_pool_t *pool, const char *text, enum sl_phase phase,
                                const char **err);
/* The same for the line of a directive: where its own condition (`cond`, NULL: none) or else
 * the nearest <If> or section with a pattern (sl_scope_set_pattern()) around it has groups, $0
 * to $9 and $<name> are what it captured and "$$" is a dollar sign; any other dollar sign, and
 * all of them elsewhere, are what they are. */
struct sl_expr *sl_cmd_expr(struct sl_cmd *cmd, const char *text, enum sl_phase phase,
                            struct sl_cond *cond, const char **err);
/* Evaluates; a constant or a lone variable is not copied. */
struct sl_span sl_expr_text(const struct sl_expr *e, struct sl_req *r);
/* The text it was compiled from. */
const char *sl_expr_source(const struct sl_expr *e);
int sl_expr_is_constant(const struct sl_expr *e);

/* Walks the parts, for those who print values their own way (a log in JSON): a literal
 * (variable NULL) or a variable with its argument.  0 past the last. */
int sl_expr_part(const struct sl_expr *e, unsigned i, struct sl_span *literal,
                 const struct sl_variable **variable, struct sl_span *arg);

/* ---- conditions ----
 *
 * %{variables}, 'texts', bare words; == != < <= > >= =~ !~ in {...} starts_with ends_with
 * contains; && || ! and parentheses.  An absent value is the empty text.  A value that is no
 * number, where numbers are compared, equals none and is neither less nor more; addresses and
 * times likewise. */

/* Compiles for use in `phase`.  The condition is `pool`'s and is read-only: any thread may
 * evaluate it.  NULL and a phrase in *err (what was expected, what was found, at which
 * character, how to mend it) on failure. */
struct sl_cond *sl_cond_compile(apr_pool_t *pool, const char *text, enum sl_phase phase,
                                const char **err);
/* The same for a word of a directive's line; returns NULL or the phrase, and gives the line
 * the cure. */
const char *sl_cmd_cond(struct sl_cmd *cmd, const char *text, enum sl_phase phase,
                        struct sl_cond **cond);
/* 1 or 0; -1 when a pattern needs too many steps: where the condition decides who may do
 * what, fail the request with sl_cause_condition_limit.  On the request's thread; keeps what
 * =~ captured until the request ends, if a value asks for it. */
int sl_cond_holds(const struct sl_cond *cond, struct sl_req *r);
/* The text it was compiled from. */
const char *sl_cond_source(const struct sl_cond *cond);

/* A value a module gives a request by name, readable as %{NAME} where the module declared
 * no getter.  Bytes live until the request ends. */
void sl_var_set(struct sl_req *r, const char *name, struct sl_span value);
struct sl_span sl_var_get(struct sl_req *r, const char *name);

#endif
