/* `sluice ctl explain`: the question of -E, asked of the server that runs.  It is
 * answered by the generation that serves, with the pools as they are at this moment, on
 * thread 0 between two rounds of its loop: a dry run waits for nothing, and leaves no
 * trace. */
#include "explain.h"

#include "sluice/control.h"
#include "sluice/provider.h"

#include <apr_strings.h>

#include <stdlib.h>

#define USAGE "METHOD URL [-H 'FIELD: VALUE']... [from=ADDR] [--json]"

/* 0, or -1: a word is none that is known. */
static int
words_take(apr_pool_t *pool, int argc, const char *const *argv, struct explain_ask *ask)
{
    const char **fields = apr_palloc(pool, ((size_t)argc + 1) * sizeof *fields);
    int i;

    ask->fields = fields;
    for (i = 0; i < argc; i++) {
        if (strcmp(argv[i], "-H") == 0 && i + 1 < argc)
            fields[ask->n_fields++] = argv[++i];
        else if (strncmp(argv[i], "from=", 5) == 0)
            ask->from = argv[i] + 5;
        else if (ask->what == NULL)
            ask->what = argv[i];
        else if (strchr(ask->what, ' ') == NULL)
            ask->what = apr_pstrcat(pool, ask->what, " ", argv[i], NULL);
        else
            return -1;
    }
    return ask->what != NULL ? 0 : -1;
}

/* 0, or -1 when there is no memory for it. */
static int
print_explained(struct sl_control_call *call, const struct explained *x)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);

    if (to == NULL)
        return -1;
    if (sl_control_wants_json(call))
        explain_print_json(x, to);
    else
        explain_print_text(x, to);
    fclose(to);
    sl_control_print(call, "%s", text);
    free(text);
    return 0;
}

static void
explain_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    apr_pool_t *pool = sl_control_pool(call);
    struct explain_ask ask = {.what = NULL};
    struct explained *x;
    const char *err;
    int rc;

    if (words_take(pool, argc, argv, &ask) != 0) {
        sl_control_print(call, "expected %s\n", USAGE);
        sl_control_end(&call, 2);
        return;
    }
    if ((x = explain(sl_loop_self()->worker, pool, &ask, &err)) == NULL) {
        sl_control_print(call, "%s\n", err);
        sl_control_end(&call, 2);
        return;
    }
    rc = print_explained(call, x);
    explain_end(&x);
    sl_control_end(&call, rc == 0 ? 0 : 1);
}

static const struct sl_control_command command = {
    USAGE, "what would be done with this request now, and why (as -E does)", explain_run};

void
explain_register(void)
{
    sl_provider_register("control", "explain", &command);
}
