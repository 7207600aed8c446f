/* What --lint gathers: while lines are read, and when all have been. */
#ifndef CONFIG_LINT_H
#define CONFIG_LINT_H

#include "config/cond.h"
#include "config/config.h"
#include "sluice/lint.h"

struct lint_finding {
    const struct sl_lint_rule *rule;
    int line; /* of config.lines, -1: none */
    const char *place, *text, *excerpt;
};

/* A pattern and the line it stands on. */
struct lint_pattern {
    const char *place;
    const struct sl_pattern *pattern;
};
struct lint_cond {
    const char *place;
    const struct sl_cond *cond;
};

struct lint {
    apr_array_header_t *findings; /* of struct lint_finding */
    apr_array_header_t *patterns; /* of struct lint_pattern */
    apr_array_header_t *conds;    /* of struct lint_cond */
};

struct lint *lint_make(apr_pool_t *pool);
/* While a line is read; nothing where nobody lints. */
void lint_saw_pattern(const struct sl_cmd *cmd, const struct sl_pattern *pattern);
void lint_saw_cond(const struct sl_cmd *cmd, const struct sl_cond *cond);

/* text lives as long as the configuration. */
void lint_add(struct config *c, const struct sl_lint_rule *rule, const char *place,
              const char *text);
void lint_found(struct config *c, const struct sl_lint_rule *rule, const char *place,
                const char *fmt, ...) SL_PRINTF(4, 5);
/* lint_core.c: what the core itself finds. */
void lint_core(struct config *c);
/* lint_pattern.c: a text on which the pattern gives up; NULL: none was found. */
const char *lint_pattern_gives_up(apr_pool_t *pool, const struct sl_pattern *pattern);

/* In the order of the lines; with the errors, if there are any.  How many findings there
 * are. */
int lint_print_text(const struct config *c, FILE *to);
int lint_print_json(const struct config *c, FILE *to);

#endif
