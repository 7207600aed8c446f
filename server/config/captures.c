/* What patterns captured in a request, for the values that ask for it: $0 to $9 of the
 * line's own condition, of an <If> around it, or of the pattern that chose its scope. */
#include "config/load.h"
#include "config/pattern.h"
#include "http/request.h"

#include <apr_strings.h>

struct captured {
    struct captured *next;
    const void *owner;
    struct sl_captures captures;
};

const struct sl_captures *
captures_find(const struct sl_req *r, const void *owner)
{
    const struct captured *c = r->captures;

    while (c != NULL && c->owner != owner)
        c = c->next;
    return c != NULL ? &c->captures : NULL;
}

struct sl_captures *
captures_of(struct sl_req *r, const void *owner)
{
    struct captured *c = r->captures;

    while (c != NULL && c->owner != owner)
        c = c->next;
    if (c == NULL) {
        c = apr_pcalloc(r->pool, sizeof *c);
        c->owner = owner;
        c->next = r->captures;
        r->captures = c;
    }
    return &c->captures;
}

void
captures_copy(struct sl_req *to, const struct sl_req *from)
{
    const struct captured *c;
    unsigned i;

    for (c = from->captures; c != NULL; c = c->next) {
        struct sl_captures *copy = captures_of(to, c->owner);

        for (i = 0; i < SL_GROUPS; i++) {
            struct sl_span group = c->captures.group[i];

            copy->group[i] = (struct sl_span){sl_span_dup(to->pool, group), group.n};
        }
    }
}

void
sl_req_keep_captures(struct sl_req *r, const struct sl_pattern *pattern,
                     const struct sl_captures *captures)
{
    if (pattern->keeps_captures)
        *captures_of(r, pattern) = *captures;
}

void
sl_scope_set_pattern(struct sl_scope *scope, struct sl_pattern *pattern)
{
    scope->pattern = pattern;
}

static unsigned
pattern_named(const void *pattern, struct sl_span name)
{
    return sl_pattern_group(pattern, name);
}

struct capturer
capturer_of_match(const struct sl_pattern *p)
{
    return (struct capturer){p, p->n_groups, NULL, "the pattern", pattern_named};
}

struct capturer
capturer_of_pattern(struct sl_pattern *p)
{
    return (struct capturer){p, p->n_groups, &p->keeps_captures, "the section's pattern",
                             pattern_named};
}

/* ---- the dollar sign ---- */

static const char *
group_number(apr_pool_t *pool, const char *dollar, const struct capturer *c, int *group,
             const char **err)
{
    *group = dollar[1] - '0';
    if ((unsigned)*group <= c->n_groups)
        return dollar + 2;
    *err = apr_psprintf(pool, "expected $0 to $%u, the groups of %s, found $%d",
                        c->n_groups < SL_GROUPS ? c->n_groups : SL_GROUPS - 1, c->whose,
                        *group);
    return NULL;
}

static const char *
group_name(apr_pool_t *pool, const char *dollar, const char *close,
           const struct capturer *c, int *group, const char **err)
{
    struct sl_span name = {dollar + 2, (size_t)(close - dollar - 2)};

    *group = (int)c->named(c->owner, name);
    if (*group > 0 && *group < SL_GROUPS)
        return close + 1;
    *err = apr_psprintf(pool,
                        *group == 0
                            ? "expected the name of a group of %s, found $<%.*s>"
                            : "expected one of the first 9 groups of %s, found $<%.*s>",
                        c->whose, (int)name.n, name.at);
    return NULL;
}

const char *
group_parse(apr_pool_t *pool, const char *dollar, const struct capturer *c, int *group,
            const char **err)
{
    const char *close = dollar[1] == '<' ? strchr(dollar, '>') : NULL;

    if (dollar[1] >= '0' && dollar[1] <= '9')
        return group_number(pool, dollar, c, group, err);
    if (close != NULL)
        return group_name(pool, dollar, close, c, group, err);
    *group = -1;
    return dollar + (dollar[1] == '$' ? 2 : 1);
}
