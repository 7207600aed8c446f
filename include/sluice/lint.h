/* What a configuration says that is legal but likely not meant: sluice --lint.
 *
 * A module looks for it in its check_config hook, where the configuration is whole:
 *
 *     if (sl_worker_is_linting(w) && pool->n_users == 0)
 *         sl_lint(w, &unused_pool, pool->place, "nothing sends requests to %s",
 * pool->name);
 *
 * Nothing of it runs, or costs anything, at a start. */
#ifndef SLUICE_LINT_H
#define SLUICE_LINT_H

#include "sluice/base.h"

/* A kind of finding, a row of its module. */
struct sl_lint_rule {
    const char *name; /* "shadowed-location": what docs/lint.md explains */
    const char *why;  /* what goes wrong */
    const char *cure;
};

int sl_worker_is_linting(const struct sl_worker *w);
/* One finding; place: file:line, NULL: the whole.  Does nothing but under --lint. */
void sl_lint(struct sl_worker *w, const struct sl_lint_rule *rule, const char *place,
             const char *fmt, ...) SL_PRINTF(4, 5);

#endif
