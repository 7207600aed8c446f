#include "retired.h"

#include <stddef.h>
#include <time.h>

#define KEPT_MS 60000

static void
free_before(struct retired **list, int64_t before, retired_free_f *end)
{
    struct retired **at = list;

    while (*at != NULL && (*at)->at >= before)
        at = &(*at)->older;
    while (*at != NULL) {
        struct retired *r = *at;

        *at = r->older;
        end(r);
    }
}

void
retired_add(struct retired **list, struct retired *r, retired_free_f *end)
{
    struct timespec t;

    if (r == NULL)
        return;
    clock_gettime(CLOCK_MONOTONIC, &t);
    r->at = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    r->older = *list;
    *list = r;
    free_before(list, r->at - KEPT_MS, end);
}

void
retired_free_all(struct retired **list, retired_free_f *end)
{
    free_before(list, INT64_MAX, end);
}
