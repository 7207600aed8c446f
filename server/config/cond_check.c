/* Types of conditions.  A variable has the type of its row; text in quotes is text; a
 * bare word is what the other side needs it to be.  What can never hold is an error here.
 *
 *   string   ==, != and texts compare bytes; < <= > >= against a bare number compare
 * numbers number   against a bare number address  == and != against an address, in {...}
 * against networks time     against a bare time: 500ms, 10s bool     stands alone, or ==
 * and != against true or false
 *
 * =~, !~, starts_with, ends_with and contains look at the text of any type.  The empty
 * text
 * '' may be compared with any type: it is what an absent value has. */
#include "config/cond.h"

#include "config/load.h"

#include <apr_strings.h>

#include <ctype.h>
#include <stdlib.h>

#define COST_COMPARE 3
#define COST_ADDRESS 60
#define COST_PATTERN 200

struct check {
    apr_pool_t *pool;
    struct cond_error *e;
    enum sl_phase phase;
    struct cond_node *node;
};

static const char *const type_words[] = {"a string", "a number", "an address", "a time",
                                         "a bool"};

static int
fail_type(struct check *c, const struct cond_word *word, const char *expected,
          const char *cure)
{
    cond_fail(c->pool, c->e, cure, "expected %s beside %s, found %s%s%s at character %u",
              expected,
              c->node->left.text == word->text ? c->node->op_text : c->node->left.text,
              word->kind == COND_QUOTED ? "'" : "", word->text,
              word->kind == COND_QUOTED ? "'" : "", word->at);
    return -1;
}

static int
fail_operator(struct check *c, enum sl_type type, const char *expected, const char *cure)
{
    cond_fail(c->pool, c->e, cure, "expected %s behind %s, which is %s, found %s",
              expected, c->node->left.text, type_words[type], c->node->op_text);
    return -1;
}

/* ---- texts of a type ---- */

int
cond_number(struct sl_span text, double *number)
{
    double value = 0, unit = 1;
    size_t i = text.n > 0 && text.at[0] == '-', first = i;
    int is_fraction = 0;

    for (; i < text.n; i++) {
        if (text.at[i] == '.' && !is_fraction && i > first && i + 1 < text.n)
            is_fraction = 1;
        else if (!isdigit((unsigned char)text.at[i]))
            return 0;
        else {
            value = value * 10 + (text.at[i] - '0');
            unit *= is_fraction ? 10 : 1;
        }
    }
    *number = (first > 0 ? -value : value) / unit;
    return text.n > first && text.n < 64;
}

int
cond_bool(struct sl_span text, double *number)
{
    static const char *const yes[] = {"1", "true", "on", "yes"}, *const no[] = {
                                                                     "", "0", "false",
                                                                     "off", "no"};
    size_t i;

    *number = 1;
    for (i = 0; i < sizeof yes / sizeof yes[0]; i++)
        if (sl_span_eqi(text, sl_span(yes[i])))
            return 1;
    *number = 0;
    for (i = 0; i < sizeof no / sizeof no[0]; i++)
        if (sl_span_eqi(text, sl_span(no[i])))
            return 1;
    return 0;
}

static int
is_bare_number(const struct cond_word *word, double *number)
{
    return word->kind == COND_BARE && cond_number(sl_span(word->text), number);
}

static int
is_empty(const struct cond_word *word)
{
    return word->kind == COND_QUOTED && word->text[0] == '\0';
}

static int
is_order(enum cond_op op)
{
    return op == COND_LT || op == COND_LE || op == COND_GT || op == COND_GE;
}

static int
is_equality(enum cond_op op)
{
    return op == COND_EQ || op == COND_NE;
}

/* ---- words ---- */

/* The value of a word; constants too, so that "%%" is read as everywhere. */
static struct sl_expr *
compile_word(struct check *c, const struct cond_word *word)
{
    const char *err = NULL;
    struct sl_expr *e = sl_expr_compile(c->pool, word->text, c->phase, &err);

    if (e == NULL)
        cond_fail(c->pool, c->e,
                  strstr(err, "known when") != NULL
                      ? "test it in a directive that runs later, or use a variable of "
                        "the request"
                      : NULL,
                  strstr(err, "found") != NULL ? "%s, at character %u"
                                               : "%s, found it at character %u",
                  err, word->at);
    return e;
}

/* The variable a value is made of; NULL: it is text. */
static const struct sl_variable *
lone_variable(const struct sl_expr *e)
{
    const struct sl_variable *variable = NULL;
    struct sl_span literal, arg;

    if (!sl_expr_part(e, 0, &literal, &variable, &arg) ||
        sl_expr_part(e, 1, &literal, &variable, &arg))
        return NULL;
    return variable;
}

static enum sl_type
type_of(const struct cond_word *word, const struct sl_expr *e)
{
    const struct sl_variable *variable =
        word->kind == COND_VARIABLE ? lone_variable(e) : NULL;

    return variable != NULL ? variable->type : SL_TYPE_STRING;
}

static unsigned
cost_of(const struct sl_expr *e)
{
    const struct sl_variable *variable;
    struct sl_span literal, arg;
    unsigned i, cost = 0;

    for (i = 0; e != NULL && sl_expr_part(e, i, &literal, &variable, &arg); i++)
        cost += variable != NULL ? variable->cost : 1;
    return cost;
}

/* ---- constants of a type ---- */

static int
take_texts(struct check *c)
{
    struct cond_node *node = c->node;
    unsigned i;

    node->as = SL_TYPE_STRING;
    node->texts = apr_palloc(c->pool, node->n_right * sizeof *node->texts);
    for (i = 0; i < node->n_right; i++) {
        struct sl_expr *e = compile_word(c, &node->right[i]);

        if (e == NULL)
            return -1;
        if (!sl_expr_is_constant(e))
            return fail_type(c, &node->right[i], "a text without variables", NULL);
        node->texts[i] = sl_expr_text(e, NULL);
    }
    node->n = node->n_right;
    return 0;
}

static int
take_numbers(struct check *c)
{
    struct cond_node *node = c->node;
    double number;
    unsigned i;

    node->as = SL_TYPE_NUMBER;
    node->numbers = apr_palloc(c->pool, node->n_right * sizeof *node->numbers);
    for (i = 0; i < node->n_right; i++)
        if (!is_bare_number(&node->right[i], &node->numbers[i]))
            return fail_type(c, &node->right[i], "a number",
                             cond_number(sl_span(node->right[i].text), &number)
                                 ? "numbers stand without quotes"
                                 : NULL);
    node->n = node->n_right;
    return 0;
}

static int
take_networks(struct check *c)
{
    struct cond_node *node = c->node;
    unsigned i;

    node->as = SL_TYPE_ADDRESS;
    for (i = 0; i < node->n_right; i++) {
        const struct cond_word *word = &node->right[i];

        if (node->op != COND_IN && strchr(word->text, '/') != NULL)
            return fail_type(
                c, word, "an address",
                apr_psprintf(c->pool, "for a network write: in {%s}", word->text));
        if (word->kind == COND_VARIABLE ||
            networks_add(c->pool, &node->nets, word->text) != NULL)
            return fail_type(
                c, word, node->op == COND_IN ? "an address or a network" : "an address",
                "for instance 192.168.1.7 or in {10.0.0.0/8}");
    }
    return 0;
}

static int
take_time(struct check *c)
{
    struct cond_node *node = c->node;
    int64_t ms = -1;

    node->as = SL_TYPE_TIME;
    if (node->right->kind != COND_BARE ||
        slot_parse(c->pool, SL_SLOT_DURATION, NULL, node->right->text, &ms) != NULL ||
        ms < 0)
        return fail_type(c, node->right, "a time",
                         "for instance 500ms, 10s or 5m, without quotes");
    node->numbers = apr_palloc(c->pool, sizeof *node->numbers);
    node->numbers[0] = (double)ms;
    node->n = 1;
    return 0;
}

static int
take_bool(struct check *c)
{
    struct cond_node *node = c->node;

    node->as = SL_TYPE_BOOL;
    node->numbers = apr_palloc(c->pool, sizeof *node->numbers);
    node->n = 1;
    if (node->right->kind != COND_BARE ||
        !cond_bool(sl_span(node->right->text), node->numbers))
        return fail_type(c, node->right, "true or false", "without quotes");
    return 0;
}

/* A bare network among texts means addresses. */
static int
names_network(struct check *c)
{
    struct sl_networks *nets = NULL;
    unsigned i;

    for (i = 0; i < c->node->n_right; i++)
        if (c->node->right[i].kind == COND_BARE &&
            strchr(c->node->right[i].text, '/') != NULL &&
            networks_add(c->pool, &nets, c->node->right[i].text) == NULL)
            return 1;
    return 0;
}

static int
compare_spans(const void *a, const void *b)
{
    return cond_span_order(*(const struct sl_span *)a, *(const struct sl_span *)b);
}

static int
check_set(struct check *c, enum sl_type type)
{
    if (type == SL_TYPE_NUMBER)
        return take_numbers(c);
    if (type == SL_TYPE_ADDRESS || (type == SL_TYPE_STRING && names_network(c)))
        return take_networks(c);
    if (type != SL_TYPE_STRING)
        return fail_operator(c, type, "a comparison", NULL);
    if (take_texts(c) != 0)
        return -1;
    qsort(c->node->texts, c->node->n, sizeof *c->node->texts, compare_spans);
    return 0;
}

/* ---- comparisons ---- */

/* Two values, of which neither is constant. */
static int
check_values(struct check *c, enum sl_type left, enum sl_type right)
{
    struct cond_node *node = c->node;

    if (left != right && left != SL_TYPE_STRING && right != SL_TYPE_STRING)
        return fail_type(c, node->right, type_words[left],
                         "only values of one type compare");
    node->as = left != SL_TYPE_STRING ? left : right;
    if (is_order(node->op) && (node->as == SL_TYPE_ADDRESS || node->as == SL_TYPE_BOOL))
        return fail_operator(c, node->as, "== or !=", NULL);
    return 0;
}

static int
check_constant(struct check *c, enum sl_type type)
{
    struct cond_node *node = c->node;
    double number;

    node->b = NULL;
    if (is_equality(node->op) && is_empty(node->right))
        return take_texts(c);
    switch (type) {
    case SL_TYPE_STRING:
        return is_order(node->op) && is_bare_number(node->right, &number)
                   ? take_numbers(c)
                   : take_texts(c);
    case SL_TYPE_NUMBER:
        return take_numbers(c);
    case SL_TYPE_ADDRESS:
        return is_order(node->op) ? fail_operator(c, type, "==, != or in {...}", NULL)
                                  : take_networks(c);
    case SL_TYPE_TIME:
        return take_time(c);
    case SL_TYPE_BOOL:
        return is_order(node->op) ? fail_operator(c, type, "== or !=", NULL)
                                  : take_bool(c);
    }
    return -1;
}

/* "200 == %{status}" is "%{status} == 200". */
static void
turn(struct cond_node *node)
{
    struct cond_word word = node->left;
    struct sl_expr *e = node->a;

    node->left = *node->right;
    *node->right = word;
    node->a = node->b;
    node->b = e;
    switch (node->op) {
    case COND_LT:
        node->op = COND_GT;
        return;
    case COND_LE:
        node->op = COND_GE;
        return;
    case COND_GT:
        node->op = COND_LT;
        return;
    case COND_GE:
        node->op = COND_LE;
        return;
    default: /* the same in both directions */
        return;
    }
}

static int
check_compare(struct check *c)
{
    struct cond_node *node = c->node;

    if ((node->b = compile_word(c, node->right)) == NULL)
        return -1;
    if (sl_expr_is_constant(node->a))
        turn(node);
    if (sl_expr_is_constant(node->a)) {
        cond_fail(c->pool, c->e, "a variable is written %{NAME}",
                  "expected a %%{variable} on one side of %s, found two constants at "
                  "character %u",
                  node->op_text, node->left.at);
        return -1;
    }
    node->cost = COST_COMPARE + cost_of(node->a) + cost_of(node->b);
    if (sl_expr_is_constant(node->b))
        return check_constant(c, type_of(&node->left, node->a));
    return check_values(c, type_of(&node->left, node->a), type_of(node->right, node->b));
}

static int
check_pattern(struct check *c)
{
    struct cond_node *node = c->node;
    const char *why;
    unsigned at;

    if (node->right->kind == COND_VARIABLE || strstr(node->right->text, "%{") != NULL)
        return fail_type(c, node->right, "a pattern without variables", NULL);
    node->pattern = sl_pattern_compile(c->pool, node->right->text, &why, &at);
    if (node->pattern == NULL) {
        cond_fail(c->pool, c->e,
                  "a character with a meaning of its own stands behind a backslash",
                  "expected a valid pattern at character %u, found \"%s\": %s, at its "
                  "character %u",
                  node->right->at, node->right->text, why, at);
        return -1;
    }
    node->has_pattern = 1;
    node->cost = COST_PATTERN + cost_of(node->a);
    return 0;
}

static int
check_part(struct check *c)
{
    struct cond_node *node = c->node;

    node->cost = COST_COMPARE + cost_of(node->a);
    node->as = SL_TYPE_STRING;
    if ((node->b = compile_word(c, node->right)) == NULL)
        return -1;
    if (!sl_expr_is_constant(node->b)) {
        node->cost += cost_of(node->b);
        return 0;
    }
    node->b = NULL;
    if (is_empty(node->right))
        return fail_type(c, node->right, "a text",
                         "every text begins and ends with the empty one");
    return take_texts(c);
}

static int
check_alone(struct check *c)
{
    struct cond_node *node = c->node;
    const char *text = node->left.text;

    if (node->left.kind == COND_VARIABLE &&
        type_of(&node->left, node->a) == SL_TYPE_BOOL) {
        node->cost = COST_COMPARE + cost_of(node->a);
        return 0;
    }
    cond_fail(
        c->pool, c->e,
        node->left.kind == COND_VARIABLE
            ? apr_psprintf(c->pool, "to ask whether there is any, write %s != ''", text)
            : "a variable is written %{NAME}",
        "expected an operator behind %s at character %u, found none", text,
        node->left.at);
    return -1;
}

static int
check_leaf(struct check *c)
{
    struct cond_node *node = c->node;

    if ((node->a = compile_word(c, &node->left)) == NULL)
        return -1;
    if (node->op == COND_TRUE)
        return check_alone(c);
    if (is_equality(node->op) || is_order(node->op))
        return check_compare(c);
    if (sl_expr_is_constant(node->a))
        return fail_type(c, &node->left, "a %{variable}",
                         "a variable is written %{NAME}");
    if (node->op == COND_MATCH || node->op == COND_NO_MATCH)
        return check_pattern(c);
    if (node->op != COND_IN)
        return check_part(c);
    node->cost = COST_COMPARE + cost_of(node->a);
    if (check_set(c, type_of(&node->left, node->a)) != 0)
        return -1;
    node->cost += node->as == SL_TYPE_ADDRESS ? COST_ADDRESS : 0;
    return 0;
}

/* ---- logic ---- */

/* Cheap operands first, in an order that is otherwise kept.  Patterns stay where they
 * are: they may give up, and what they capture is seen, so none may be tried, or spared,
 * that would not have been. */
static void
cheap_first(struct cond_node *node)
{
    unsigned i, k;

    for (i = 1; i < node->n_inner; i++) {
        struct cond_node *moved = node->inner[i];

        for (k = i; k > 0 && !moved->has_pattern && !node->inner[k - 1]->has_pattern &&
                    node->inner[k - 1]->cost > moved->cost;
             k--)
            node->inner[k] = node->inner[k - 1];
        node->inner[k] = moved;
    }
}

int
cond_check(apr_pool_t *pool, struct cond_node *node, enum sl_phase phase,
           struct cond_error *e)
{
    struct check c = {pool, e, phase, node};
    unsigned i;

    if (node->n_inner == 0)
        return check_leaf(&c);
    for (i = 0; i < node->n_inner; i++) {
        if (cond_check(pool, node->inner[i], phase, e) != 0)
            return -1;
        node->cost += node->inner[i]->cost;
        node->has_pattern |= node->inner[i]->has_pattern;
    }
    cheap_first(node);
    return 0;
}

static unsigned
groups_of(const struct cond_node *node)
{
    unsigned i, n, most = 0;

    if (node->n_inner == 0)
        return node->op == COND_MATCH ? sl_pattern_groups(node->pattern) : 0;
    for (i = 0; i < node->n_inner; i++)
        if ((n = groups_of(node->inner[i])) > most)
            most = n;
    return most;
}

/* The number of a group by its name: the same in each =~ that has it, else 0. */
static unsigned
group_named(const struct cond_node *node, struct sl_span name)
{
    unsigned i, n, number = 0;

    if (node->n_inner == 0)
        return node->op == COND_MATCH ? sl_pattern_group(node->pattern, name) : 0;
    for (i = 0; i < node->n_inner; i++) {
        n = group_named(node->inner[i], name);
        if (n != 0 && number != 0 && n != number)
            return 0;
        number = n != 0 ? n : number;
    }
    return number;
}

static unsigned
cond_named(const void *cond, struct sl_span name)
{
    return group_named(((const struct sl_cond *)cond)->root, name);
}

struct capturer
cond_capturer(struct sl_cond *cond)
{
    return (struct capturer){cond, cond->n_groups, &cond->keeps_captures, "the condition's pattern",
                             cond_named};
}

struct sl_cond *
cond_compile(apr_pool_t *pool, const char *text, enum sl_phase phase,
             struct cond_error *e)
{
    struct sl_cond *cond = apr_pcalloc(pool, sizeof *cond);

    cond->source = apr_pstrdup(pool, text);
    cond->root = cond_parse(pool, cond->source, e);
    if (cond->root == NULL || cond_check(pool, cond->root, phase, e) != 0)
        return NULL;
    cond->n_groups = groups_of(cond->root);
    return cond;
}
