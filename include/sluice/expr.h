/* Values: text with %{variables}, compiled once, evaluated per request.
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
/* Evaluates; a constant or a lone variable is not copied. */
struct sl_span sl_expr_text(const struct sl_expr *e, struct sl_req *r);
/* The text it was compiled from. */
const char *sl_expr_source(const struct sl_expr *e);
int sl_expr_is_constant(const struct sl_expr *e);

/* Walks the parts, for those who print values their own way (a log in JSON): a literal
 * (variable NULL) or a variable with its argument.  0 past the last. */
int sl_expr_part(const struct sl_expr *e, unsigned i, struct sl_span *literal,
                 const struct sl_variable **variable, struct sl_span *arg);

/* A value a module gives a request by name, readable as %{NAME} where the module declared
 * no getter.  Bytes live until the request ends. */
void sl_var_set(struct sl_req *r, const char *name, struct sl_span value);
struct sl_span sl_var_get(struct sl_req *r, const char *name);

#endif
