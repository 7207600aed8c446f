/* PCRE2 patterns and the replacements that use their groups.
 *
 * Paths come from strangers, so a pattern is kept on a short leash: so many steps and so
 * much memory, then the request fails.  It must not count as "no match": a location that
 * protects something would be passed by.  Match data lie in the request's pool: no thread
 * keeps any, nothing is to be freed. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "route.h"

#include <pcre2.h>

#define MAX_STEPS    50000 /* well below the 5 ms a hook may take */
#define MAX_HEAP_KIB 256
#define N_GROUPS     10 /* $0 .. $9 */

const struct sl_cause route_cause_pattern = {
    "ROUTE0001", "pattern_limit", 500, "a pattern needs too many steps for this path"};

struct route_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
    const char *text;
    uint32_t n_groups;
};

static apr_status_t
pattern_free(void *data)
{
    struct route_pattern *p = data;

    pcre2_match_context_free(p->limits);
    pcre2_code_free(p->code);
    return APR_SUCCESS;
}

/* '.' is every byte and '$' the very end: an escaped newline in a path is no way around. */
const char *
route_pattern_make(struct sl_cmd *cmd, const char *text, struct route_pattern **pattern)
{
    struct route_pattern *p = apr_pcalloc(sl_cmd_pool(cmd), sizeof *p);
    char why[160];
    size_t at;
    int error;

    p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                            PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY, &error, &at, NULL);
    if (p->code == NULL) {
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
        return sl_cmd_error(cmd, "\"%s\" is no valid pattern: %s, at character %u", text, why,
                            (unsigned)at + 1);
    }
    p->limits = pcre2_match_context_create(NULL);
    SL_ASSERT(p->limits != NULL);
    apr_pool_cleanup_register(sl_cmd_pool(cmd), p, pattern_free, apr_pool_cleanup_null);
    pcre2_set_match_limit(p->limits, MAX_STEPS);
    pcre2_set_heap_limit(p->limits, MAX_HEAP_KIB);
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it: slower, the same result */
    pcre2_pattern_info(p->code, PCRE2_INFO_CAPTURECOUNT, &p->n_groups);
    p->text = text;
    *pattern = p;
    return NULL;
}

const char *
route_pattern_text(const struct route_pattern *p)
{
    return p->text;
}

static void *
pool_malloc(size_t n, void *pool)
{
    return apr_palloc(pool, n);
}

static void
pool_free(void *at, void *pool)
{
    (void)at;
    (void)pool;
}

static pcre2_match_data *
match_data(apr_pool_t *pool)
{
    pcre2_general_context *memory = pcre2_general_context_create(pool_malloc, pool_free, pool);

    return pcre2_match_data_create(N_GROUPS, memory);
}

int
route_pattern_match(const struct route_pattern *p, apr_pool_t *pool, struct sl_span subject,
                    struct route_match *m)
{
    PCRE2_SPTR text = (PCRE2_SPTR)subject.at;

    if (m->data == NULL)
        m->data = match_data(pool);
    m->subject = subject;
    m->n = pcre2_match(p->code, text, subject.n, 0, 0, m->data, p->limits);
    if (m->n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter has the heap */
        m->n = pcre2_match(p->code, text, subject.n, 0, PCRE2_NO_JIT, m->data, p->limits);
    if (m->n == 0) /* more groups than we look at */
        m->n = N_GROUPS;
    return m->n > 0 ? 1 : m->n == PCRE2_ERROR_NOMATCH ? 0 : -1;
}

static struct sl_span
match_group(const struct route_match *m, int group)
{
    const size_t *at = pcre2_get_ovector_pointer(m->data);

    if (group >= m->n || at[2 * group] == PCRE2_UNSET || at[2 * group] > at[2 * group + 1])
        return SL_SPAN("");
    return (struct sl_span){m->subject.at + at[2 * group],
                            at[2 * group + 1] - at[2 * group]};
}

/* ---- replacements ---- */

struct part {
    struct sl_span text;
    int group; /* -1: the text */
};

struct route_template {
    apr_array_header_t *parts; /* of struct part */
};

static void
template_add(struct route_template *t, struct sl_span text, int group)
{
    if (group >= 0 || text.n > 0)
        APR_ARRAY_PUSH(t->parts, struct part) = (struct part){text, group};
}

const char *
route_template_make(struct sl_cmd *cmd, const char *text, const struct route_pattern *pattern,
                    unsigned allowed, struct route_template **made)
{
    apr_pool_t *pool = sl_cmd_pool(cmd);
    struct route_template *t = apr_pcalloc(pool, sizeof *t);
    const char *at = text, *dollar;

    t->parts = apr_array_make(pool, 4, sizeof(struct part));
    for (; (dollar = strchr(at, '$')) != NULL; at = dollar + 2) {
        struct sl_span before = {at, (size_t)(dollar - at)};
        int group = dollar[1] - '0';

        template_add(t, route_escape(pool, before, allowed), -1);
        if (dollar[1] == '$') {
            template_add(t, SL_SPAN("$"), -1);
            continue;
        }
        if (group < 0 || group > 9)
            return sl_cmd_error(cmd, "expected a digit behind '$' in \"%s\" (\"$$\" is a "
                                "dollar)", text);
        if ((uint32_t)group > pattern->n_groups)
            return sl_cmd_error(cmd, "\"%s\" uses $%d, but the pattern has %u group%s", text,
                                group, (unsigned)pattern->n_groups,
                                pattern->n_groups == 1 ? "" : "s");
        template_add(t, SL_SPAN(""), group);
    }
    template_add(t, route_escape(pool, sl_span(at), allowed), -1);
    *made = t;
    return NULL;
}

struct sl_span
route_template_fill(const struct route_template *t, const struct route_match *m,
                    apr_pool_t *pool)
{
    const struct part *parts = (const struct part *)(const void *)t->parts->elts;
    struct sl_span *spans = apr_palloc(pool, (size_t)t->parts->nelts * sizeof(*spans) + 1);
    int i;

    for (i = 0; i < t->parts->nelts; i++)
        spans[i] = parts[i].group < 0 ? parts[i].text : match_group(m, parts[i].group);
    return sl_spans_join(pool, spans, (unsigned)t->parts->nelts);
}
