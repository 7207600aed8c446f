/* Dry runs: what would outlive one refuses. */
#ifndef RUNTIME_DRY_H
#define RUNTIME_DRY_H

/* Whether this thread runs a request dry: explain.c says so. */
extern _Thread_local int is_dry_run;

/* Whether it does, and so does not get `what`: the log says so, and the process ends where slow
 * hooks would end it (hooks.c). */
int dry_run_refuses(const char *what);

#endif
