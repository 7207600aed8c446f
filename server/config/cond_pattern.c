/* Patterns of conditions.  What they look at comes from strangers, so steps and memory
 * are bounded, and a pattern that needs more gives up: that is no "no", it fails the
 * request. Match data lie in the request's pool: no thread keeps any. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "config/cond.h"

#include <apr_strings.h>

#include <pcre2.h>

#define MAX_STEPS 50000 /* well below the 5 ms a hook may take */
#define MAX_HEAP_KIB 256

struct cond_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
    uint32_t n_groups;
};

static apr_status_t
pattern_free(void *data)
{
    struct cond_pattern *p = data;

    pcre2_match_context_free(p->limits);
    pcre2_code_free(p->code);
    return APR_SUCCESS;
}

/* '.' is every byte and '$' the very end: an escaped newline is no way around. */
struct cond_pattern *
cond_pattern_make(apr_pool_t *pool, const char *text, const char **why, unsigned *at)
{
    struct cond_pattern *p = apr_pcalloc(pool, sizeof *p);
    char message[160];
    size_t offset;
    int error;

    p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                            PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY, &error, &offset, NULL);
    if (p->code == NULL) {
        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
        *why = apr_pstrdup(pool, message);
        *at = (unsigned)offset + 1;
        return NULL;
    }
    p->limits = pcre2_match_context_create(NULL);
    SL_ASSERT(p->limits != NULL);
    apr_pool_cleanup_register(pool, p, pattern_free, apr_pool_cleanup_null);
    pcre2_set_match_limit(p->limits, MAX_STEPS);
    pcre2_set_heap_limit(p->limits, MAX_HEAP_KIB);
    pcre2_jit_compile(p->code,
                      PCRE2_JIT_COMPLETE); /* without it: slower, the same result */
    pcre2_pattern_info(p->code, PCRE2_INFO_CAPTURECOUNT, &p->n_groups);
    return p;
}

unsigned
cond_pattern_groups(const struct cond_pattern *p)
{
    return p->n_groups;
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

static void
groups_take(pcre2_match_data *data, int n, struct sl_span subject, struct sl_span *groups)
{
    const size_t *at = pcre2_get_ovector_pointer(data);
    int i;

    for (i = 0; i < COND_GROUPS; i++) {
        groups[i] = SL_SPAN("");
        if (i < n && at[2 * i] != PCRE2_UNSET && at[2 * i] <= at[2 * i + 1])
            groups[i] =
                (struct sl_span){subject.at + at[2 * i], at[2 * i + 1] - at[2 * i]};
    }
}

int
cond_pattern_match(const struct cond_pattern *p, apr_pool_t *pool, struct sl_span subject,
                   struct sl_span *groups)
{
    pcre2_general_context *memory =
        pcre2_general_context_create(pool_malloc, pool_free, pool);
    pcre2_match_data *data = pcre2_match_data_create(COND_GROUPS, memory);
    PCRE2_SPTR text = (PCRE2_SPTR)subject.at;
    int n = pcre2_match(p->code, text, subject.n, 0, 0, data, p->limits);

    if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter has the heap */
        n = pcre2_match(p->code, text, subject.n, 0, PCRE2_NO_JIT, data, p->limits);
    if (n == PCRE2_ERROR_NOMATCH)
        return 0;
    if (n < 0)
        return -1;
    if (groups != NULL)
        groups_take(data, n == 0 ? COND_GROUPS : n, subject,
                    groups); /* 0: more than we look at */
    return 1;
}
