/* Spans: the operations that are no one-liners. */
#include "runtime/span.h"

#include <apr_strings.h>

char *
sl_span_dup(apr_pool_t *pool, struct sl_span s)
{
    return apr_pstrmemdup(pool, s.at != NULL ? s.at : "", s.n);
}

struct sl_span
sl_spans_join(apr_pool_t *pool, const struct sl_span *parts, unsigned n)
{
    size_t total = 0;
    char *to, *at;
    unsigned i;

    for (i = 0; i < n; i++)
        total += parts[i].n;
    to = at = apr_palloc(pool, total + 1);
    for (i = 0; i < n; i++) {
        if (parts[i].n > 0)
            memcpy(at, parts[i].at, parts[i].n);
        at += parts[i].n;
    }
    *at = '\0';
    return (struct sl_span){to, total};
}

struct sl_span
span_trim(struct sl_span s)
{
    const char *at = s.at, *end = s.at + s.n;

    while (at < end && is_blank(*at))
        at++;
    while (end > at && is_blank(end[-1]))
        end--;
    return (struct sl_span){at, (size_t)(end - at)};
}

int
sl_list_next(struct sl_span *list, struct sl_span *member)
{
    const char *at = list->at, *end, *comma;

    if (at == NULL)
        return 0;
    end = at + list->n;
    comma = memchr(at, ',', list->n);
    if (comma != NULL) {
        *list = (struct sl_span){comma + 1, (size_t)(end - comma - 1)};
        end = comma;
    } else {
        *list = (struct sl_span){NULL, 0};
    }
    *member = span_trim((struct sl_span){at, (size_t)(end - at)});
    return 1;
}

int
span_list_last(struct sl_span *list, struct sl_span *member)
{
    const char *at = list->at, *end, *comma;

    if (at == NULL)
        return 0;
    end = at + list->n;
    comma = memrchr(at, ',', list->n);
    if (comma != NULL) {
        *list = (struct sl_span){at, (size_t)(comma - at)};
        at = comma + 1;
    } else {
        *list = (struct sl_span){NULL, 0};
    }
    *member = span_trim((struct sl_span){at, (size_t)(end - at)});
    return 1;
}

static int
is_letter(unsigned char c)
{
    return (unsigned char)((c | 0x20) - 'a') < 26;
}

/* Mostly the case is the same, too. */
static size_t
same_words(struct sl_span a, struct sl_span b)
{
    size_t i;
    uint64_t x, y;

    for (i = 0; i + sizeof x <= a.n; i += sizeof x) {
        memcpy(&x, a.at + i, sizeof x);
        memcpy(&y, b.at + i, sizeof y);
        if (x != y)
            break;
    }
    return i;
}

int
sl_span_eqi(struct sl_span a, struct sl_span b)
{
    size_t i;

    if (a.n != b.n)
        return 0;
    for (i = same_words(a, b); i < a.n; i++) {
        unsigned char c = (unsigned char)a.at[i];
        unsigned char differs = c ^ (unsigned char)b.at[i];

        if (differs != 0 && (differs != 0x20 || !is_letter(c)))
            return 0;
    }
    return 1;
}
