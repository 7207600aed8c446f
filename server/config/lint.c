/* Findings of --lint: gathered, put in the order of the lines, printed. */
#include "config/lint.h"

#include "config/load.h"

#include <apr_strings.h>

#include <stdarg.h>
#include <stdlib.h>

struct lint *
lint_make(apr_pool_t *pool)
{
    struct lint *lint = apr_pcalloc(pool, sizeof *lint);

    lint->findings = apr_array_make(pool, 8, sizeof(struct lint_finding));
    lint->patterns = apr_array_make(pool, 8, sizeof(struct lint_pattern));
    lint->conds = apr_array_make(pool, 8, sizeof(struct lint_cond));
    return lint;
}

static void
saw_patterns_of(struct lint *lint, const char *place, const struct cond_node *node)
{
    unsigned i;

    if (node->pattern != NULL)
        APR_ARRAY_PUSH(lint->patterns, struct lint_pattern) =
            (struct lint_pattern){place, node->pattern};
    for (i = 0; i < node->n_inner; i++)
        saw_patterns_of(lint, place, node->inner[i]);
}

void
lint_saw_pattern(const struct sl_cmd *cmd, const struct sl_pattern *pattern)
{
    if (cmd->c->lint != NULL)
        APR_ARRAY_PUSH(cmd->c->lint->patterns, struct lint_pattern) =
            (struct lint_pattern){cmd->line->place, pattern};
}

void
lint_saw_cond(const struct sl_cmd *cmd, const struct sl_cond *cond)
{
    if (cmd->c->lint == NULL)
        return;
    APR_ARRAY_PUSH(cmd->c->lint->conds, struct lint_cond) =
        (struct lint_cond){cmd->line->place, cond};
    saw_patterns_of(cmd->c->lint, cmd->line->place, cond->root);
}

/* ---- findings ---- */

static int
line_number(const struct config *c, const char *place)
{
    int i;

    for (i = 0; place != NULL && i < c->lines->nelts; i++)
        if (strcmp(APR_ARRAY_IDX(c->lines, i, struct conf_line *)->place, place) == 0)
            return i;
    return -1;
}

void
lint_add(struct config *c, const struct sl_lint_rule *rule, const char *place,
         const char *text)
{
    int at = line_number(c, place);
    const struct conf_line *line =
        at >= 0 ? APR_ARRAY_IDX(c->lines, at, struct conf_line *) : NULL;
    const char *colon = place != NULL ? strrchr(place, ':') : NULL;

    APR_ARRAY_PUSH(c->lint->findings, struct lint_finding) = (struct lint_finding){
        rule, at, place, text,
        line != NULL && line->text != NULL
            ? apr_psprintf(c->pool, "%6s | %s", colon != NULL ? colon + 1 : "",
                           line->text)
            : NULL};
}

void
lint_found(struct config *c, const struct sl_lint_rule *rule, const char *place,
           const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    lint_add(c, rule, place, apr_pvsprintf(c->pool, fmt, args));
    va_end(args);
}

/* ---- printing ---- */

static int
by_line(const void *a, const void *b)
{
    const struct lint_finding *x = a, *y = b;
    int order = (x->line > y->line) - (x->line < y->line);

    order = order != 0 ? order : strcmp(x->rule->name, y->rule->name);
    return order != 0 ? order : strcmp(x->text, y->text);
}

static const apr_array_header_t *
sorted(const struct config *c)
{
    const apr_array_header_t *findings = c->lint->findings;

    qsort(findings->elts, (size_t)findings->nelts, (size_t)findings->elt_size, by_line);
    return findings;
}

int
lint_print_text(const struct config *c, FILE *to)
{
    const apr_array_header_t *findings = sorted(c);
    int i;

    for (i = 0; i < findings->nelts; i++) {
        const struct lint_finding *f = &APR_ARRAY_IDX(findings, i, struct lint_finding);

        fprintf(to, "%s%s%s: %s\n", f->place != NULL ? f->place : "",
                f->place != NULL ? ": " : "", f->rule->name, f->text);
        if (f->excerpt != NULL)
            fprintf(to, "%s\n", f->excerpt);
        fprintf(to, "    why: %s\n    cure: %s\n", f->rule->why, f->rule->cure);
    }
    if (findings->nelts > 0)
        fprintf(to, "%d finding%s\n", findings->nelts, findings->nelts == 1 ? "" : "s");
    else if (c->errors->nelts == 0)
        fprintf(to, "nothing found\n");
    return findings->nelts;
}

static void
json_member(const struct config *c, FILE *to, const char *name, const char *value)
{
    size_t room;
    char *text;

    if (value == NULL) {
        fprintf(to, ",\"%s\":null", name);
        return;
    }
    room = 6 * strlen(value) + 32;
    text = apr_palloc(c->pool, room);
    fprintf(to, ",\"%s\":%.*s", name,
            (int)(sl_json_string(text, text + room, sl_span(value)) - text), text);
}

/* "file:12" in two members. */
static void
json_place(const struct config *c, FILE *to, const char *place)
{
    const char *colon = place != NULL ? strrchr(place, ':') : NULL;

    json_member(c, to, "file",
                colon != NULL ? apr_pstrmemdup(c->pool, place, (size_t)(colon - place))
                              : place);
    fprintf(to, ",\"line\":%d", colon != NULL ? atoi(colon + 1) : 0);
}

int
lint_print_json(const struct config *c, FILE *to)
{
    const apr_array_header_t *findings = sorted(c);
    int i;

    fprintf(to, "{\"errors\":[");
    for (i = 0; i < c->errors->nelts; i++) {
        const struct config_error *e = &APR_ARRAY_IDX(c->errors, i, struct config_error);

        fprintf(to, "%s{\"kind\":\"error\"", i > 0 ? "," : "");
        json_place(c, to, e->place);
        json_member(c, to, "text", e->text);
        json_member(c, to, "cure", e->cure);
        fprintf(to, "}");
    }
    fprintf(to, "],\"findings\":[");
    for (i = 0; i < findings->nelts; i++) {
        const struct lint_finding *f = &APR_ARRAY_IDX(findings, i, struct lint_finding);

        fprintf(to, "%s{\"kind\":\"finding\"", i > 0 ? "," : "");
        json_member(c, to, "rule", f->rule->name);
        json_place(c, to, f->place);
        json_member(c, to, "text", f->text);
        json_member(c, to, "why", f->rule->why);
        json_member(c, to, "cure", f->rule->cure);
        fprintf(to, "}");
    }
    fprintf(to, "]}\n");
    return findings->nelts;
}
