/* Whether a condition holds for a request.  A value that is absent is the empty text; one
 * that is not of the type it is compared as equals nothing and is neither less nor more.
 */
#include "config/cond.h"

#include "config/load.h"
#include "http/request.h"
#include "runtime/address.h"

#include <apr_strings.h>

#include <stdlib.h>

/* ---- values ---- */

static struct sl_span
value(const struct sl_expr *e, struct sl_req *r)
{
    struct sl_span text = sl_expr_text(e, r);

    return text.at != NULL ? text : SL_SPAN("");
}

static int
number_of(enum sl_type as, struct sl_span text, double *number)
{
    if (as == SL_TYPE_BOOL)
        return cond_bool(text, number);
    if (!cond_number(text, number))
        return 0;
    if (as == SL_TYPE_TIME) /* seconds, as the variables give them */
        *number *= 1000;
    return 1;
}

static int
order_holds(enum cond_op op, int order)
{
    switch (op) {
    case COND_EQ:
        return order == 0;
    case COND_NE:
        return order != 0;
    case COND_LT:
        return order < 0;
    case COND_LE:
        return order <= 0;
    case COND_GT:
        return order > 0;
    case COND_GE:
        return order >= 0;
    default: /* no comparison */
        return 0;
    }
}

static int
numbers_hold(const struct cond_node *node, struct sl_req *r, struct sl_span a)
{
    double x, y;

    if (!number_of(node->as, a, &x))
        return node->op == COND_NE;
    if (node->b == NULL)
        y = node->numbers[0];
    else if (!number_of(node->as, value(node->b, r), &y))
        return node->op == COND_NE;
    return order_holds(node->op, (x > y) - (x < y));
}

static int
same_address(struct sl_span a, struct sl_span b)
{
    struct sl_sockaddr x, y;
    uint8_t left[16], right[16];

    if (!address_parse_host(a, &x) || !address_parse_host(b, &y))
        return 0;
    networks_bytes(&x, left);
    networks_bytes(&y, right);
    return memcmp(left, right, sizeof left) == 0;
}

static int
address_in(const struct cond_node *node, struct sl_span text)
{
    struct sl_sockaddr addr;

    return address_parse_host(text, &addr) && sl_networks_has(node->nets, &addr);
}

static int
compare_holds(const struct cond_node *node, struct sl_req *r)
{
    struct sl_span a = value(node->a, r);
    int same;

    switch (node->as) {
    case SL_TYPE_STRING:
        return order_holds(
            node->op,
            cond_span_order(a, node->b != NULL ? value(node->b, r) : node->texts[0]));
    case SL_TYPE_ADDRESS:
        same = node->b != NULL ? same_address(a, value(node->b, r)) : address_in(node, a);
        return same == (node->op == COND_EQ);
    case SL_TYPE_NUMBER:
    case SL_TYPE_TIME:
    case SL_TYPE_BOOL:
        return numbers_hold(node, r, a);
    }
    return 0;
}

static int
text_in(const struct cond_node *node, struct sl_span text)
{
    unsigned low = 0, high = node->n;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        int order = cond_span_order(text, node->texts[middle]);

        if (order == 0)
            return 1;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return 0;
}

static int
number_in(const struct cond_node *node, struct sl_span text)
{
    double number;
    unsigned i;

    if (cond_number(text, &number))
        for (i = 0; i < node->n; i++)
            if (node->numbers[i] >= number && node->numbers[i] <= number)
                return 1;
    return 0;
}

static int
set_holds(const struct cond_node *node, struct sl_req *r)
{
    struct sl_span text = value(node->a, r);

    if (node->as == SL_TYPE_ADDRESS)
        return address_in(node, text);
    return node->as == SL_TYPE_NUMBER ? number_in(node, text) : text_in(node, text);
}

/* An absent or empty value is part of no text and has none: both sides are looked at. */
static int
part_holds(const struct cond_node *node, struct sl_req *r)
{
    struct sl_span text = value(node->a, r);
    struct sl_span part = node->b != NULL ? value(node->b, r) : node->texts[0];

    if (part.n == 0 || part.n > text.n)
        return 0;
    if (node->op == COND_STARTS)
        return memcmp(text.at, part.at, part.n) == 0;
    if (node->op == COND_ENDS)
        return memcmp(text.at + text.n - part.n, part.at, part.n) == 0;
    return memmem(text.at, text.n, part.at, part.n) != NULL;
}

static int
pattern_holds(const struct sl_cond *cond, const struct cond_node *node, struct sl_req *r)
{
    int is_kept = cond->keeps_captures && node->op == COND_MATCH;
    int found = sl_pattern_match(node->pattern, value(node->a, r), 0,
                                 is_kept ? captures_of(r, cond) : NULL);

    return found < 0 ? -1 : found == (node->op == COND_MATCH);
}

static int
alone_holds(const struct cond_node *node, struct sl_req *r)
{
    double number = 0;

    return cond_bool(value(node->a, r), &number) && number > 0;
}

/* ---- the tree ---- */

static int
node_holds(const struct sl_cond *cond, const struct cond_node *node, struct sl_req *r)
{
    unsigned i;
    int holds = node->op == COND_AND;

    switch (node->op) {
    case COND_OR:
    case COND_AND:
        for (i = 0; i < node->n_inner && holds == (node->op == COND_AND); i++)
            holds = node_holds(cond, node->inner[i], r);
        return holds;
    case COND_NOT:
        holds = node_holds(cond, node->inner[0], r);
        return holds < 0 ? -1 : !holds;
    case COND_TRUE:
        return alone_holds(node, r);
    case COND_EQ:
    case COND_NE:
    case COND_LT:
    case COND_LE:
    case COND_GT:
    case COND_GE:
        return compare_holds(node, r);
    case COND_MATCH:
    case COND_NO_MATCH:
        return pattern_holds(cond, node, r);
    case COND_STARTS:
    case COND_ENDS:
    case COND_CONTAINS:
        return part_holds(node, r);
    case COND_IN:
        return set_holds(node, r);
    }
    return 0;
}

int
sl_cond_holds(const struct sl_cond *cond, struct sl_req *r)
{
    return node_holds(cond, cond->root, r);
}

struct sl_cond *
sl_cond_compile(apr_pool_t *pool, const char *text, enum sl_phase phase, const char **err)
{
    struct cond_error e;
    struct sl_cond *cond = cond_compile(pool, text, phase, &e);

    *err = NULL;
    if (cond == NULL)
        *err = e.cure != NULL ? apr_psprintf(pool, "%s; %s", e.text, e.cure) : e.text;
    return cond;
}

const char *
sl_cond_source(const struct sl_cond *cond)
{
    return cond->source;
}
