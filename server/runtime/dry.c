/* See dry.h. */
#include "runtime/dry.h"

#include "runtime/panic.h"

#include "sluice/log.h"

#include <stdlib.h>

_Thread_local int is_dry_run;

int
dry_run_refuses(const char *what)
{
    if (!is_dry_run)
        return 0;
    sl_log(SL_ERROR, "SL0311", "%s refused: a hook that says SL_DRY_OK asked for it in a dry run",
           what);
    if (getenv("SLUICE_HOOK_FATAL") != NULL)
        sl_panic(__FILE__, __LINE__, what, "a dry run leaves no trace");
    return 1;
}
