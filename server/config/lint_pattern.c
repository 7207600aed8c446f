/* Whether a pattern can be made to need too many steps: not guessed from how it looks,
 * but tried.  What makes patterns explode is one text, over and over, that two
 * repetitions can share in many ways, and at last a byte that fits none: each byte the
 * pattern itself speaks of is tried so, alone and in pairs, behind the text it begins
 * with. */
#include "config/lint.h"

#include <apr_lib.h>
#include <apr_strings.h>

#define SAMPLES_MAX 16
#define TIMES 40
#define TIMES_MANY 3000 /* squares instead of powers show late */

struct probe {
    apr_pool_t *pool;
    const struct sl_pattern *pattern;
    char begin[64]; /* the literal text the pattern begins with */
    char samples[SAMPLES_MAX];
    unsigned n;
};

static void
sample_add(struct probe *p, char c)
{
    if (p->n < SAMPLES_MAX && memchr(p->samples, c, p->n) == NULL)
        p->samples[p->n++] = c;
}

/* Bytes the pattern names, and one of each class it may mean. */
static void
samples_take(struct probe *p)
{
    const char *at;

    for (at = "a0"; *at != '\0'; at++)
        sample_add(p, *at);
    for (at = sl_pattern_text(p->pattern); *at != '\0'; at++)
        if (at[0] == '\\' && at[1] != '\0')
            sample_add(p, *++at == 's' ? ' ' : *at == 'd' ? '0' : *at == 'w' ? 'a' : *at);
        else if (strchr("^$.|?*+()[]{}", *at) == NULL)
            sample_add(p, *at);
    for (at = "/-_. "; *at != '\0'; at++)
        sample_add(p, *at);
}

static void
begin_take(struct probe *p)
{
    const char *at = sl_pattern_text(p->pattern);
    size_t n = 0;

    if (*at == '^')
        at++;
    for (; n + 1 < sizeof p->begin && (apr_isalnum(*at) || strchr("/-_", *at) != NULL) &&
           *at;
         at++)
        p->begin[n++] = *at;
    if (n > 0 && *at != '\0' && strchr("*?+{", *at) != NULL)
        n--;
    p->begin[n] = '\0';
}

static int
gives_up_on(const struct probe *p, const char *unit, unsigned times)
{
    size_t n = strlen(p->begin), len = strlen(unit), i;
    char *text = apr_palloc(p->pool, n + len * times + 2);

    memcpy(text, p->begin, n);
    for (i = 0; i < times; i++, n += len)
        memcpy(text + n, unit, len);
    text[n++] = '\x01';
    return sl_pattern_match(p->pattern, (struct sl_span){text, n}, 0, NULL) < 0;
}

static const char *
evidence(const struct probe *p, const char *unit, unsigned times)
{
    return apr_psprintf(p->pool, "\"%s\" and %u times \"%s\"", p->begin, times, unit);
}

const char *
lint_pattern_gives_up(apr_pool_t *pool, const struct sl_pattern *pattern)
{
    struct probe p = {.pool = pool, .pattern = pattern};
    char unit[3] = "";
    unsigned i, k;

    samples_take(&p);
    begin_take(&p);
    for (i = 0; i < p.n; i++) {
        unit[0] = p.samples[i];
        unit[1] = '\0';
        if (gives_up_on(&p, unit, TIMES))
            return evidence(&p, unit, TIMES);
        if (gives_up_on(&p, unit, TIMES_MANY))
            return evidence(&p, unit, TIMES_MANY);
        for (k = 0; k < p.n; k++) {
            unit[1] = p.samples[k];
            if (gives_up_on(&p, unit, TIMES))
                return evidence(&p, unit, TIMES);
        }
    }
    return NULL;
}
