/* Templates: text, groups of a match and values, as a list of parts. */
#include "config/pattern.h"
#include "sluice/conf.h"
#include "sluice/req.h"

#include <apr_strings.h>

struct part {
    struct sl_span text;         /* else */
    const struct sl_expr *value; /* else */
    int group;                   /* -1: one of the above */
};

struct sl_template {
    sl_escape_f *escape; /* NULL: none */
    unsigned n;
    const struct part *at;
};

/* Being made. */
struct making {
    apr_pool_t *pool;
    struct sl_template *t;
    enum sl_phase phase;
    apr_array_header_t *parts; /* of struct part */
};

static struct sl_span
escaped(const struct sl_template *t, apr_pool_t *pool, struct sl_span text)
{
    if (text.at == NULL)
        return SL_SPAN("");
    return t->escape != NULL ? t->escape(pool, text) : text;
}

/* Text between groups, with its variables. */
static const char *
add_text(struct making *m, const char *at, size_t n)
{
    struct part part = {.group = -1};
    const char *err = NULL;
    struct sl_expr *e;

    if (n == 0)
        return NULL;
    e = sl_expr_compile(m->pool, apr_pstrmemdup(m->pool, at, n), m->phase, &err);
    if (e == NULL)
        return err;
    if (sl_expr_is_constant(e))
        part.text = escaped(m->t, m->pool, sl_expr_text(e, NULL));
    else
        part.value = e;
    APR_ARRAY_PUSH(m->parts, struct part) = part;
    return NULL;
}

/* The next '$' that is not part of a %{variable}; the end when there is none. */
static const char *
dollar_next(const char *at)
{
    const char *close;

    for (; *at != '\0' && *at != '$'; at++)
        if (at[0] == '%' && at[1] == '{' && (close = strchr(at, '}')) != NULL)
            at = close;
    return at;
}

const char *
sl_cmd_template(struct sl_cmd *cmd, const char *text, const struct sl_pattern *pattern,
                enum sl_phase phase, sl_escape_f *escape, struct sl_template **made)
{
    struct sl_template *t = apr_pcalloc(sl_cmd_pool(cmd), sizeof *t);
    struct making m = {sl_cmd_pool(cmd), t, phase, NULL};
    const char *at = text, *dollar, *err = NULL;
    struct capturer c = capturer_of_match(pattern);
    int group;

    t->escape = escape;
    m.parts = apr_array_make(m.pool, 4, sizeof(struct part));
    while (*(dollar = dollar_next(at)) == '$') {
        const char *next = group_parse(m.pool, dollar, &c, &group, &err);
        size_t is_dollar = next != NULL && group < 0; /* "$$": its first one is text */

        if (next == dollar + 1) {
            sl_cmd_cure(cmd, "\"$$\" is a dollar sign");
            return sl_cmd_error(
                cmd, "expected a digit or <NAME> behind '$', found \"%s\"", text);
        }
        if (next == NULL ||
            (err = add_text(&m, at, (size_t)(dollar - at) + is_dollar)) != NULL)
            return err;
        if (group >= 0)
            APR_ARRAY_PUSH(m.parts, struct part) = (struct part){.group = group};
        at = next;
    }
    if ((err = add_text(&m, at, strlen(at))) != NULL)
        return err;
    t->n = (unsigned)m.parts->nelts;
    t->at = (const struct part *)(const void *)m.parts->elts;
    *made = t;
    return NULL;
}

struct sl_span
sl_template_fill(const struct sl_template *t, const struct sl_captures *captures,
                 struct sl_req *r)
{
    apr_pool_t *pool = sl_req_pool(r);
    struct sl_span *texts = apr_palloc(pool, (t->n + 1) * sizeof *texts);
    unsigned i;

    for (i = 0; i < t->n; i++) {
        const struct part *part = &t->at[i];

        if (part->group >= 0)
            texts[i] = captures->group[part->group];
        else if (part->value != NULL)
            texts[i] = escaped(t, pool, sl_expr_text(part->value, r));
        else
            texts[i] = part->text;
    }
    return sl_spans_join(pool, texts, t->n);
}
