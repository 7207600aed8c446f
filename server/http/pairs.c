/* name=value parts of queries and of Cookie. */
#include "http/fields.h"

struct sl_span
pair_find(struct sl_span list, char sep, struct sl_span name)
{
    const char *p = list.at, *end = list.at + list.n, *stop;

    for (; p < end; p = stop + 1) {
        while (p < end && (*p == ' ' || *p == '\t'))
            p++;
        stop = memchr(p, sep, (size_t)(end - p));
        if (stop == NULL)
            stop = end;
        if ((size_t)(stop - p) > name.n && memcmp(p, name.at, name.n) == 0 && p[name.n] == '=')
            return (struct sl_span){p + name.n + 1, (size_t)(stop - p) - name.n - 1};
    }
    return (struct sl_span){NULL, 0};
}
