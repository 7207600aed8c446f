/* What was replaced while others may still use it: kept for a minute, longer than any of them
 * needs, then freed.  Touched by the one thread that replaces. */
#ifndef BALANCER_RETIRED_H
#define BALANCER_RETIRED_H

#include <stdint.h>

/* First in what is kept. */
struct retired {
    struct retired *older;
    int64_t at; /* ms, monotonic */
};

typedef void retired_free_f(struct retired *r);

/* Takes `r` over, NULL: nothing was replaced; frees what is old enough. */
void retired_add(struct retired **list, struct retired *r, retired_free_f *end);
void retired_free_all(struct retired **list, retired_free_f *end);

#endif
