/* What a pattern is made of; and whose groups a value may use. */
#ifndef CONFIG_PATTERN_H
#define CONFIG_PATTERN_H

#include "sluice/pattern.h"

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;

struct sl_pattern {
    struct pcre2_real_code_8 *code;
    struct pcre2_real_match_context_8 *limits;
    const char *text;
    uint32_t n_groups;
    int keeps_captures; /* a value asks for them */
};

/* A condition or the pattern of a scope: what it captures in a request is found again by
 * its address. */
struct capturer {
    const void *owner;
    unsigned n_groups;
    int *keeps;        /* set when a value asks; NULL: nobody counts */
    const char *whose; /* "the condition's pattern" */
    unsigned (*named)(const void *owner,
                      struct sl_span name); /* a group's number, 0: none */
};

/* From a '$' on: *group is the one it asks for, -1: "$$" or just a dollar sign.  Returns
 * what stands behind it; NULL with a phrase in *err. */
const char *group_parse(apr_pool_t *pool, const char *dollar, const struct capturer *c,
                        int *group, const char **err);

/* expr.c: sl_expr_compile() with $0 .. $9 of a capturer; NULL: a dollar sign is just
 * that. */
struct sl_expr *expr_compile(apr_pool_t *pool, const char *text, enum sl_phase phase,
                             const struct capturer *c, const char **err);

/* captures.c: where to put what `owner` captures in this request, made when first asked
 * for; what is there, NULL: nothing. */
struct sl_captures *captures_of(struct sl_req *r, const void *owner);
const struct sl_captures *captures_find(const struct sl_req *r, const void *owner);
/* The groups of a pattern whose matches are at hand, and of one that chose a scope. */
struct capturer capturer_of_match(const struct sl_pattern *p);
struct capturer capturer_of_pattern(struct sl_pattern *p);

#endif
