/* The grammar of conditions:
 *
 *   or      = and { "||" and }
 *   and     = not { "&&" not }
 *   not     = "!" not | "(" or ")" | compare
 *   compare = word [ operator word | "in" "{" word { "," word } "}" ]
 *
 * A word is a %{variable}, text in single or double quotes, or bare.  In quotes a
 * backslash keeps its own quote from ending the text and is itself otherwise, so patterns
 * survive. */
#include "config/cond.h"

#include <apr_strings.h>

#include <ctype.h>
#include <stdarg.h>

enum token {
    TOKEN_END,
    TOKEN_WORD,
    TOKEN_OP,
    TOKEN_AND,
    TOKEN_OR,
    TOKEN_NOT,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_SET,
    TOKEN_SET_END,
    TOKEN_COMMA,
    TOKEN_BAD,
};

struct parser {
    apr_pool_t *pool;
    struct cond_error *e;
    const char *text, *next; /* behind the current token */
    const char *begin;       /* of the current token */
    enum token token;
    enum cond_op op;
    struct cond_word word;
    unsigned depth;
};

struct sign {
    const char *text;
    enum token token;
    enum cond_op op;
};

/* Longer ones before those they begin with. */
static const struct sign signs[] = {
    {"==", TOKEN_OP, COND_EQ},      {"!=", TOKEN_OP, COND_NE},
    {"<=", TOKEN_OP, COND_LE},      {">=", TOKEN_OP, COND_GE},
    {"=~", TOKEN_OP, COND_MATCH},   {"!~", TOKEN_OP, COND_NO_MATCH},
    {"&&", TOKEN_AND, COND_AND},    {"||", TOKEN_OR, COND_OR},
    {"<", TOKEN_OP, COND_LT},       {">", TOKEN_OP, COND_GT},
    {"!", TOKEN_NOT, COND_NOT},     {"(", TOKEN_OPEN, COND_NOT},
    {")", TOKEN_CLOSE, COND_NOT},   {"{", TOKEN_SET, COND_NOT},
    {"}", TOKEN_SET_END, COND_NOT}, {",", TOKEN_COMMA, COND_NOT},
};

static const struct sign words[] = {
    {"in", TOKEN_OP, COND_IN},
    {"starts_with", TOKEN_OP, COND_STARTS},
    {"ends_with", TOKEN_OP, COND_ENDS},
    {"contains", TOKEN_OP, COND_CONTAINS},
};

/* What people write who come from other languages. */
static const struct {
    const char *text, *cure;
} habits[] = {
    {"=", "\"==\" compares"},           {"&", "\"and\" is written \"&&\""},
    {"|", "\"or\" is written \"||\""},  {"and", "\"and\" is written \"&&\""},
    {"or", "\"or\" is written \"||\""}, {"not", "\"not\" is written \"!\""},
    {"eq", "\"==\" compares"},          {"~", "patterns are matched by \"=~\""},
};

void
cond_fail(apr_pool_t *pool, struct cond_error *e, const char *cure, const char *fmt, ...)
{
    va_list args;

    if (e->text != NULL)
        return;
    va_start(args, fmt);
    e->text = apr_pvsprintf(pool, fmt, args);
    va_end(args);
    e->cure = cure;
}

/* ---- tokens ---- */

static unsigned
place(const struct parser *p, const char *at)
{
    return (unsigned)(at - p->text) + 1;
}

static int
is_bare(const char *at)
{
    if (*at == '%')
        return at[1] != '{';
    return isalnum((unsigned char)*at) || (unsigned char)*at >= 0x80 ||
           (*at != '\0' && strchr("_-./:*@+?^$\\[];#~", *at) != NULL);
}

static enum token
lex_variable(struct parser *p)
{
    const char *close = strchr(p->begin, '}');

    if (close == NULL) {
        cond_fail(p->pool, p->e, NULL,
                  "expected \"}\" behind the \"%%{\" at character %u, found the end",
                  place(p, p->begin));
        return TOKEN_BAD;
    }
    p->word.kind = COND_VARIABLE;
    p->word.text = apr_pstrmemdup(p->pool, p->begin, (size_t)(close + 1 - p->begin));
    p->next = close + 1;
    return TOKEN_WORD;
}

static enum token
lex_quoted(struct parser *p)
{
    char quote = *p->begin, *to;
    const char *at;

    p->word.kind = COND_QUOTED;
    p->word.text = to = apr_palloc(p->pool, strlen(p->begin) + 1);
    for (at = p->begin + 1; *at != quote; at++) {
        if (at[0] == '\\' && at[1] == quote)
            at++;
        if (*at == '\0') {
            cond_fail(p->pool, p->e, NULL,
                      "expected a %c that ends the text at character %u, found the end",
                      quote, place(p, p->begin));
            return TOKEN_BAD;
        }
        *to++ = *at;
    }
    *to = '\0';
    p->next = at + 1;
    return TOKEN_WORD;
}

static enum token
lex_bare(struct parser *p)
{
    const char *at = p->begin;

    while (is_bare(at))
        at++;
    p->word.kind = COND_BARE;
    p->word.text = apr_pstrmemdup(p->pool, p->begin, (size_t)(at - p->begin));
    p->next = at;
    return TOKEN_WORD;
}

static const struct sign *
find_sign(const char *at)
{
    size_t i;

    for (i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (strncmp(at, signs[i].text, strlen(signs[i].text)) == 0)
            return &signs[i];
    return NULL;
}

static enum token
lex(struct parser *p)
{
    const struct sign *sign;

    p->begin = p->next + strspn(p->next, " \t\r\n");
    p->word.at = place(p, p->begin);
    if (*p->begin == '\0')
        return TOKEN_END;
    if (p->begin[0] == '%' && p->begin[1] == '{')
        return lex_variable(p);
    if (*p->begin == '\'' || *p->begin == '"')
        return lex_quoted(p);
    if (is_bare(p->begin))
        return lex_bare(p);
    if ((sign = find_sign(p->begin)) != NULL) {
        p->next = p->begin + strlen(sign->text);
        p->op = sign->op;
        return sign->token;
    }
    p->next = p->begin + 1; /* shown by whoever expected something else */
    return TOKEN_BAD;
}

static void
advance(struct parser *p)
{
    p->token = lex(p);
}

/* The current token as an error shows it. */
static const char *
found(const struct parser *p)
{
    if (p->token == TOKEN_END)
        return "the end";
    return apr_psprintf(p->pool, "%.*s at character %u",
                        (int)(p->next - p->begin > 40 ? 40 : p->next - p->begin),
                        p->begin, place(p, p->begin));
}

static const char *
habit_cure(const struct parser *p)
{
    size_t i, n = (size_t)(p->next - p->begin);

    for (i = 0; i < sizeof habits / sizeof habits[0]; i++)
        if (strlen(habits[i].text) == n && strncasecmp(p->begin, habits[i].text, n) == 0)
            return habits[i].cure;
    return NULL;
}

static struct cond_node *
expected(struct parser *p, const char *what, const char *cure)
{
    const char *habit = habit_cure(p);

    cond_fail(p->pool, p->e, habit != NULL ? habit : cure, "expected %s, found %s", what,
              found(p));
    return NULL;
}

/* ---- comparisons ---- */

static int
take_operator_word(struct parser *p)
{
    size_t i;

    if (p->token == TOKEN_OP)
        return 1;
    for (i = 0; p->token == TOKEN_WORD && p->word.kind == COND_BARE &&
                i < sizeof words / sizeof words[0];
         i++)
        if (strcasecmp(p->word.text, words[i].text) == 0) {
            p->op = words[i].op;
            return 1;
        }
    return 0;
}

static int
parse_set(struct parser *p, struct cond_node *node)
{
    apr_array_header_t *set = apr_array_make(p->pool, 8, sizeof(struct cond_word));

    if (p->token != TOKEN_SET) {
        expected(p, "\"{\" behind \"in\"", "a set is written {GET, HEAD}");
        return 0;
    }
    do {
        advance(p);
        if (p->token != TOKEN_WORD) {
            expected(p, "a value of the set",
                     "text with other bytes than letters, digits and "
                     "_-./: stands in single quotes");
            return 0;
        }
        APR_ARRAY_PUSH(set, struct cond_word) = p->word;
        advance(p);
    } while (p->token == TOKEN_COMMA);
    if (p->token != TOKEN_SET_END) {
        expected(p, "\",\" or \"}\" in the set", NULL);
        return 0;
    }
    node->right = (struct cond_word *)(void *)set->elts;
    node->n_right = (unsigned)set->nelts;
    advance(p);
    return 1;
}

static int
parse_right(struct parser *p, struct cond_node *node)
{
    if (node->op == COND_IN)
        return parse_set(p, node);
    if (p->token != TOKEN_WORD) {
        expected(p, apr_psprintf(p->pool, "a value behind %s", node->op_text),
                 "the empty text is written ''");
        return 0;
    }
    node->right = apr_pmemdup(p->pool, &p->word, sizeof p->word);
    node->n_right = 1;
    advance(p);
    return 1;
}

static struct cond_node *
parse_compare(struct parser *p)
{
    struct cond_node *node = apr_pcalloc(p->pool, sizeof *node);

    if (p->token != TOKEN_WORD)
        return expected(p, "a %{variable}, a text or \"(\"", NULL);
    node->left = p->word;
    advance(p);
    node->op = COND_TRUE;
    if (!take_operator_word(p))
        return node;
    node->op = p->op;
    node->op_text = apr_pstrmemdup(p->pool, p->begin, (size_t)(p->next - p->begin));
    advance(p);
    return parse_right(p, node) ? node : NULL;
}

/* ---- logic ---- */

static struct cond_node *parse_or(struct parser *p);

static struct cond_node *
node_over(struct parser *p, enum cond_op op, const apr_array_header_t *inner)
{
    struct cond_node *node = apr_pcalloc(p->pool, sizeof *node);

    node->op = op;
    node->inner = (struct cond_node **)(void *)inner->elts;
    node->n_inner = (unsigned)inner->nelts;
    return node;
}

static struct cond_node *
parse_not(struct parser *p)
{
    struct cond_node *node;
    enum token token = p->token;
    apr_array_header_t *one;

    if (token != TOKEN_NOT && token != TOKEN_OPEN)
        return parse_compare(p);
    if (++p->depth > COND_DEPTH_MAX)
        return expected(p,
                        apr_psprintf(p->pool,
                                     "at most %d \"(\" and \"!\" inside each other",
                                     COND_DEPTH_MAX),
                        NULL);
    advance(p);
    node = token == TOKEN_OPEN ? parse_or(p) : parse_not(p);
    p->depth--;
    if (node == NULL)
        return NULL;
    if (token == TOKEN_OPEN) {
        if (p->token != TOKEN_CLOSE)
            return expected(p, "\"&&\", \"||\" or \")\"", NULL);
        advance(p);
        return node;
    }
    one = apr_array_make(p->pool, 1, sizeof node);
    APR_ARRAY_PUSH(one, struct cond_node *) = node;
    return node_over(p, COND_NOT, one);
}

/* Operands with the same sign between them. */
static struct cond_node *
parse_chain(struct parser *p, enum token between, enum cond_op op,
            struct cond_node *(*parse)(struct parser *))
{
    apr_array_header_t *all = apr_array_make(p->pool, 2, sizeof(struct cond_node *));
    struct cond_node *node = parse(p);

    if (node == NULL || p->token != between)
        return node;
    APR_ARRAY_PUSH(all, struct cond_node *) = node;
    while (p->token == between) {
        advance(p);
        if ((node = parse(p)) == NULL)
            return NULL;
        APR_ARRAY_PUSH(all, struct cond_node *) = node;
    }
    return node_over(p, op, all);
}

static struct cond_node *
parse_and(struct parser *p)
{
    return parse_chain(p, TOKEN_AND, COND_AND, parse_not);
}

static struct cond_node *
parse_or(struct parser *p)
{
    return parse_chain(p, TOKEN_OR, COND_OR, parse_and);
}

struct cond_node *
cond_parse(apr_pool_t *pool, const char *text, struct cond_error *e)
{
    struct parser p = {.pool = pool, .e = e, .text = text, .next = text};
    struct cond_node *node;

    *e = (struct cond_error){NULL, NULL};
    advance(&p);
    if (p.token == TOKEN_END)
        return expected(&p, "a condition", "for instance %{method} == POST");
    node = parse_or(&p);
    if (node != NULL && p.token != TOKEN_END)
        return expected(&p, "an operator, \"&&\" or \"||\"",
                        p.token == TOKEN_CLOSE ? "no \"(\" is open here"
                        : p.token == TOKEN_OPEN
                            ? "a pattern with \"(\" stands in single quotes"
                            : NULL);
    return node;
}
