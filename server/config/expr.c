/* Values: text with %{variables}, compiled to a list of parts.
 *
 * "%{name}" and "%{name:argument}" are variables, "%%" is a percent sign, any other percent
 * sign stays what it is.  So it is with "$1", "$<name>" and "$$" where a
 * condition or a section's pattern captures. */
#include "config/pattern.h"
#include "http/request.h"
#include "http/variables.h"

#include <apr_strings.h>

struct part {
    struct sl_span literal; /* variable NULL */
    const struct sl_variable *variable;
    struct sl_span arg;
    const void *captures; /* else: group of what this captured */
    int group;
};

struct sl_expr {
    const char *source;
    unsigned n;
    struct part *at;
};

static const char *const phase_words[] = {"the connection is", "the request is",
                                          "the request is routed", "the response is",
                                          "the request is over"};

static const char *
variable_error(apr_pool_t *pool, struct sl_span name)
{
    const char *typed = sl_span_dup(pool, name), *near = variable_nearest(typed);

    return near != NULL
               ? apr_psprintf(pool, "expected a known variable, found %%{%s}; did you mean %%{%s}?",
                              typed, near)
               : apr_psprintf(pool, "expected a known variable, found %%{%s}", typed);
}

/* What stands between the braces. */
static const char *
compile_variable(apr_pool_t *pool, struct sl_span inside, enum sl_phase phase, struct part *part)
{
    const char *colon = memchr(inside.at, ':', inside.n);
    struct sl_span name = {inside.at, colon != NULL ? (size_t)(colon - inside.at) : inside.n};

    part->variable = variable_find(name);
    if (part->variable == NULL)
        return variable_error(pool, name);
    if (colon != NULL)
        part->arg = (struct sl_span){colon + 1, inside.n - name.n - 1};
    if (part->variable->takes_arg != (part->arg.n > 0))
        return apr_psprintf(pool, part->variable->takes_arg
                                      ? "expected %%{%s:NAME}, found no name"
                                      : "expected %%{%s} without a name behind it",
                            part->variable->name);
    if (part->variable->phase > phase)
        return apr_psprintf(pool, "expected a variable known by now, but %%{%s} is known when %s",
                            part->variable->name, phase_words[part->variable->phase]);
    return NULL;
}

static void
push_literal(apr_array_header_t *parts, const char *at, size_t n)
{
    struct part *last = parts->nelts > 0
                            ? &APR_ARRAY_IDX(parts, parts->nelts - 1, struct part) : NULL;

    if (n == 0)
        return;
    if (last != NULL && last->variable == NULL && last->captures == NULL &&
        last->literal.at + last->literal.n == at)
        last->literal.n += n;
    else
        APR_ARRAY_PUSH(parts, struct part) = (struct part){.literal = {at, n}};
}

/* From a percent sign on: returns what stands behind it; NULL with *err. */
static const char *
take_percent(apr_pool_t *pool, apr_array_header_t *parts, const char *p, enum sl_phase phase,
             const char **err)
{
    struct part part = {.variable = NULL};
    const char *close;

    if (p[1] != '{') {
        push_literal(parts, p, 1);
        return p + (p[1] == '%' ? 2 : 1);
    }
    if ((close = strchr(p, '}')) == NULL) {
        *err = "expected \"}\" behind \"%{\"";
        return NULL;
    }
    *err = compile_variable(pool, (struct sl_span){p + 2, (size_t)(close - p - 2)}, phase, &part);
    if (*err != NULL)
        return NULL;
    APR_ARRAY_PUSH(parts, struct part) = part;
    return close + 1;
}

/* The same from a dollar sign on. */
static const char *
take_dollar(apr_pool_t *pool, apr_array_header_t *parts, const char *p, const struct capturer *c,
            const char **err)
{
    int group;
    const char *next = group_parse(pool, p, c, &group, err);

    if (next == NULL)
        return NULL;
    if (group < 0) {
        push_literal(parts, p, 1);
        return next;
    }
    *c->keeps = 1;
    APR_ARRAY_PUSH(parts, struct part) = (struct part){.captures = c->owner, .group = group};
    return next;
}

struct sl_expr *
expr_compile(apr_pool_t *pool, const char *text, enum sl_phase phase, const struct capturer *c,
             const char **err)
{
    struct sl_expr *e = apr_pcalloc(pool, sizeof *e);
    apr_array_header_t *parts = apr_array_make(pool, 4, sizeof(struct part));
    const char *p;

    e->source = p = apr_pstrdup(pool, text);
    *err = NULL;
    while (*p != '\0') {
        size_t plain = strcspn(p, c != NULL ? "%$" : "%");

        push_literal(parts, p, plain);
        p += plain;
        if (*p == '%')
            p = take_percent(pool, parts, p, phase, err);
        else if (*p == '$')
            p = take_dollar(pool, parts, p, c, err);
        if (p == NULL)
            return NULL;
    }
    e->n = (unsigned)parts->nelts;
    e->at = (struct part *)(void *)parts->elts;
    return e;
}

struct sl_expr *
sl_expr_compile(apr_pool_t *pool, const char *text, enum sl_phase phase, const char **err)
{
    return expr_compile(pool, text, phase, NULL, err);
}

static struct sl_span
part_text(const struct part *part, struct sl_req *r)
{
    if (part->captures != NULL) {
        const struct sl_captures *captures = captures_find(r, part->captures);

        return captures != NULL ? captures->group[part->group] : SL_SPAN("");
    }
    if (part->variable == NULL)
        return part->literal;
    return part->variable->get != NULL ? part->variable->get(r, part->arg)
                                       : sl_var_get(r, part->variable->name);
}

struct sl_span
sl_expr_text(const struct sl_expr *e, struct sl_req *r)
{
    struct sl_span *texts;
    unsigned i;

    if (e->n == 0)
        return SL_SPAN("");
    if (e->n == 1)
        return part_text(&e->at[0], r);
    texts = apr_palloc(r->pool, e->n * sizeof *texts);
    for (i = 0; i < e->n; i++)
        texts[i] = part_text(&e->at[i], r);
    return sl_spans_join(r->pool, texts, e->n);
}

const char *
sl_expr_source(const struct sl_expr *e)
{
    return e->source;
}

int
sl_expr_is_constant(const struct sl_expr *e)
{
    return e->n == 0 || (e->n == 1 && e->at[0].variable == NULL && e->at[0].captures == NULL);
}

int
sl_expr_part(const struct sl_expr *e, unsigned i, struct sl_span *literal,
             const struct sl_variable **variable, struct sl_span *arg)
{
    if (i >= e->n)
        return 0;
    *literal = e->at[i].literal;
    *variable = e->at[i].variable;
    *arg = e->at[i].arg;
    return 1;
}

/* ---- values given by name at run time ---- */

struct var {
    struct var *next;
    const char *name;
    struct sl_span value;
};

static struct var *
var_find(struct sl_req *r, const char *name)
{
    struct var *v;

    for (v = *request_vars(r); v != NULL; v = v->next)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

void
sl_var_set(struct sl_req *r, const char *name, struct sl_span value)
{
    struct var *v = var_find(r, name);

    if (v == NULL) {
        v = apr_palloc(r->pool, sizeof *v);
        v->next = *request_vars(r);
        v->name = apr_pstrdup(r->pool, name);
        *request_vars(r) = v;
    }
    v->value = value;
}

void
vars_copy(struct sl_req *to, struct sl_req *from)
{
    const struct var *v;

    for (v = *request_vars(from); v != NULL; v = v->next)
        sl_var_set(to, v->name, (struct sl_span){sl_span_dup(to->pool, v->value), v->value.n});
}

struct sl_span
sl_var_get(struct sl_req *r, const char *name)
{
    const struct var *v = var_find(r, name);

    return v != NULL ? v->value : (struct sl_span){NULL, 0};
}
