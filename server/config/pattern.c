/* PCRE2 on a short leash: so many steps and so much memory, then a match gives up.
 *
 * Data of a match lie on the stack and are gone when it returns: no thread keeps any.
 * Only where PCRE2 has no JIT, or its stack is too small for the subject, does a match
 * allocate. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "config/pattern.h"

#include "config/lint.h"
#include "sluice/conf.h"

#include <apr_strings.h>

#include <pcre2.h>

#include <stdalign.h>
#include <stdlib.h>

#define MAX_STEPS 50000 /* well below the 5 ms a hook may take */
#define MAX_HEAP_KIB 256
#define ARENA_SIZE 1024 /* the data of a match with SL_GROUPS groups, twice over */

static apr_status_t
pattern_free(void *data)
{
    struct sl_pattern *p = data;

    pcre2_match_context_free(p->limits);
    pcre2_code_free(p->code);
    return APR_SUCCESS;
}

struct sl_pattern *
sl_pattern_compile(apr_pool_t *pool, const char *text, const char **why, unsigned *at)
{
    struct sl_pattern *p = apr_pcalloc(pool, sizeof *p);
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
    p->text = apr_pstrdup(pool, text);
    return p;
}

const char *
sl_cmd_pattern(struct sl_cmd *cmd, const char *text, struct sl_pattern **pattern)
{
    const char *why;
    unsigned at;

    *pattern = sl_pattern_compile(sl_cmd_pool(cmd), text, &why, &at);
    if (*pattern != NULL) {
        lint_saw_pattern(cmd, *pattern);
        return NULL;
    }
    sl_cmd_cure(cmd, "a character with a meaning of its own stands behind a backslash");
    return sl_cmd_error(cmd,
                        "expected a valid pattern, found \"%s\": %s, at its character %u",
                        text, why, at);
}

const char *
sl_pattern_text(const struct sl_pattern *p)
{
    return p->text;
}

unsigned
sl_pattern_groups(const struct sl_pattern *p)
{
    return p->n_groups;
}

unsigned
sl_pattern_group(const struct sl_pattern *p, struct sl_span name)
{
    char text[64]; /* longer than PCRE2 lets a name be */
    int group;

    if (name.n == 0 || name.n >= sizeof text)
        return 0;
    memcpy(text, name.at, name.n);
    text[name.n] = '\0';
    group = pcre2_substring_number_from_name(p->code, (PCRE2_SPTR)text);
    return group > 0 ? (unsigned)group : 0;
}

/* ---- matching ---- */

struct arena {
    size_t used;
    alignas(max_align_t) char at[ARENA_SIZE];
};

static int
is_in_arena(const struct arena *arena, const void *at)
{
    return (const char *)at >= arena->at && (const char *)at < arena->at + ARENA_SIZE;
}

static void *
arena_malloc(size_t n, void *data)
{
    struct arena *arena = data;
    size_t room = ARENA_SIZE - arena->used, padded = APR_ALIGN(n, alignof(max_align_t));
    void *at = arena->at + arena->used;

    if (padded > room)
        return malloc(n);
    arena->used += padded;
    return at;
}

static void
arena_free(void *at, void *data)
{
    if (!is_in_arena(data, at))
        free(at);
}

static void
captures_take(pcre2_match_data *data, int n, struct sl_span subject,
              struct sl_captures *captures)
{
    const size_t *at = pcre2_get_ovector_pointer(data);
    int i;

    if (n == 0) /* it has more than we look at */
        n = SL_GROUPS;
    for (i = 0; i < SL_GROUPS; i++) {
        captures->group[i] = SL_SPAN("");
        if (i < n && at[2 * i] != PCRE2_UNSET && at[2 * i] <= at[2 * i + 1])
            captures->group[i] =
                (struct sl_span){subject.at + at[2 * i], at[2 * i + 1] - at[2 * i]};
    }
}

int
sl_pattern_match(const struct sl_pattern *p, struct sl_span subject, size_t from,
                 struct sl_captures *captures)
{
    struct arena arena;
    PCRE2_SPTR text = (PCRE2_SPTR)(subject.at != NULL ? subject.at : "");
    pcre2_general_context *memory;
    pcre2_match_data *data;
    int n;

    arena.used = 0; /* the rest is as it is: a thousand bytes are not worth clearing */
    memory = pcre2_general_context_create(arena_malloc, arena_free, &arena);
    data = pcre2_match_data_create(SL_GROUPS, memory);
    n = pcre2_match(p->code, text, subject.n, from, 0, data, p->limits);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter has the heap */
        n = pcre2_match(p->code, text, subject.n, from, PCRE2_NO_JIT, data, p->limits);
    if (n >= 0 && captures != NULL)
        captures_take(data, n, (struct sl_span){(const char *)text, subject.n}, captures);
    pcre2_match_data_free(data);
    return n >= 0 ? 1 : n == PCRE2_ERROR_NOMATCH ? 0 : -1;
}
