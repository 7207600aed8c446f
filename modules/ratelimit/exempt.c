/* What all limits have: where they hold and who is exempt. */
#include "ratelimit.h"

#include <apr_strings.h>

#define STATUS_LEAST 400
#define STATUS_MOST 599

static apr_status_t
forget(void *list)
{
    memset(list, 0, sizeof(void *));
    return APR_SUCCESS;
}

void
forget_with(apr_pool_t *pool, void *list)
{
    apr_pool_cleanup_register(pool, list, forget, apr_pool_cleanup_null);
}

const char *
common_check(struct sl_cmd *cmd, struct common *c)
{
    char *words, *word, *rest;
    const char *err;

    c->place = sl_cmd_place(cmd);
    if (c->status < STATUS_LEAST || c->status > STATUS_MOST)
        return "status: expected a status between 400 and 599";
    if (c->except_text == NULL)
        return NULL;
    words = apr_pstrdup(sl_cmd_pool(cmd), c->except_text);
    for (word = apr_strtok(words, ",", &rest); word != NULL;
         word = apr_strtok(NULL, ",", &rest)) {
        err = sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_NETS, word, &c->except);
        if (err != NULL)
            return sl_cmd_error(cmd, "except: %s, found \"%s\"", err, word);
    }
    return c->except != NULL ? NULL
                             : "except: expected networks with commas between them";
}

int
common_holds(const struct common *c, struct sl_req *r)
{
    int holds;

    if (c->except != NULL && sl_networks_has(c->except, sl_req_client(r)))
        return 0;
    if (c->cond == NULL)
        return 1;
    holds = sl_cond_holds(c->cond, r);
    if (holds < 0)
        sl_req_fail(r, 0, &sl_cause_condition_limit, "%s", c->place);
    return holds;
}
