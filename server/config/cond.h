/* A condition from text to answer, in three steps, each a file.
 *
 *   cond_parse.c   text -> a tree of words that know where they stand; pure
 *   cond_check.c   words -> values, constants, sets and patterns, each of a type
 *   cond_eval.c    the tree and a request -> yes, no, or a pattern gave up
 *
 * A tree is made once, while the configuration is read, and only looked at afterwards. */
#ifndef CONFIG_COND_H
#define CONFIG_COND_H

#include "config/pattern.h"
#include "sluice/expr.h"

#define COND_DEPTH_MAX 64 /* parentheses and negations inside each other */

enum cond_word_kind {
    COND_VARIABLE, /* %{name} */
    COND_QUOTED,
    COND_BARE,
};

/* text of a variable has its braces, of a quoted word no quotes. */
struct cond_word {
    enum cond_word_kind kind;
    const char *text;
    unsigned at; /* character of the condition, from 1 */
};

enum cond_op {
    COND_OR,
    COND_AND,
    COND_NOT,
    COND_TRUE, /* a bool variable that stands alone */
    COND_EQ,
    COND_NE,
    COND_LT,
    COND_LE,
    COND_GT,
    COND_GE,
    COND_MATCH,
    COND_NO_MATCH,
    COND_STARTS,
    COND_ENDS,
    COND_CONTAINS,
    COND_IN,
};

struct cond_node {
    enum cond_op op;
    unsigned cost;            /* rough ns */
    int has_pattern;          /* here or below: it may give up, and leaves captures */
    struct cond_node **inner; /* OR, AND: 2 or more; NOT: 1; else none */
    unsigned n_inner;
    /* a comparison as it is written */
    const char *op_text;
    struct cond_word left, *right;
    unsigned n_right; /* more than 1: a set */
    /* and as it is checked: `a` against `b`, or against constants of the type where b is
     * NULL */
    enum sl_type as;
    struct sl_expr *a, *b;
    unsigned n;
    struct sl_span *texts;
    double *numbers; /* also times, in ms, and bools */
    struct sl_networks *nets;
    struct sl_pattern *pattern;
};

struct sl_cond {
    const char *source;
    struct cond_node *root;
    unsigned n_groups;  /* of the =~ that has most */
    int keeps_captures; /* a value asks for them */
};

/* What is wrong; text NULL: nothing. */
struct cond_error {
    const char *text, *cure;
};

/* The first error is the one that is kept. */
void cond_fail(apr_pool_t *pool, struct cond_error *e, const char *cure, const char *fmt,
               ...) SL_PRINTF(4, 5);

/* NULL with *e. */
struct cond_node *cond_parse(apr_pool_t *pool, const char *text, struct cond_error *e);
/* Gives the nodes their types and puts cheap operands first; -1 with *e. */
int cond_check(apr_pool_t *pool, struct cond_node *node, enum sl_phase phase,
               struct cond_error *e);
/* sl_cond_compile() with the cure apart. */
struct sl_cond *cond_compile(apr_pool_t *pool, const char *text, enum sl_phase phase,
                             struct cond_error *e);

/* By bytes, shorter before longer: negative, 0, positive. */
static inline int
cond_span_order(struct sl_span a, struct sl_span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n > 0 ? memcmp(a.at, b.at, n) : 0;

    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

/* Text as a number ("-1.5"), a time in seconds to ms, a bool: 0 when it is none. */
int cond_number(struct sl_span text, double *number);
int cond_bool(struct sl_span text, double *number);

/* Whose groups a value may use: those of the condition. */
struct capturer cond_capturer(struct sl_cond *cond);

#endif
