/* Weighted round robin as one rotation for the whole worker.
 *
 * A request takes the next turn by one atomic addition, so over a whole number of cycles the
 * shares are exact, however many threads take part.  Each level has a rotation of its own.
 *
 * A turn of a server that does not come into question is passed on by taking another turn:
 * its share is spread over all others instead of falling to its neighbour in the cycle. */

#include "balancer.h"
#include "turns.h"

static apr_status_t
rotation_forget(void *data)
{
    turns_free(data);
    return APR_SUCCESS;
}

static const char *
roundrobin_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    struct turns_of *rotation = apr_pcalloc(sl_cmd_pool(cmd), sizeof(*rotation));

    (void)pool;
    if (sl_cmd_argc(cmd) > 1)
        return "roundrobin takes no arguments";
    apr_pool_cleanup_register(sl_cmd_pool(cmd), rotation, rotation_forget, apr_pool_cleanup_null);
    *data = rotation;
    return NULL;
}

static int
roundrobin_ready(struct sl_pool *pool, void *data)
{
    return turns_make(data, pool);
}

/* Turn number i from now on; taken, unless this is a dry run. */
static struct sl_server *
turn_take(struct turns *t, unsigned i, int is_dry)
{
    uint64_t turn = is_dry ? atomic_load_explicit(&t->next, memory_order_relaxed) + i
                           : atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);

    return t->at[turn % t->n];
}

/* Other threads take turns too, so a whole cycle of ours may miss the one that is left:
 * then the servers are gone through in order. */
static struct sl_server *
roundrobin_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct turns *t = turns_of_level(data, choice->level);
    struct sl_server *s;
    unsigned i;

    for (i = 0; t != NULL && i < t->n; i++) {
        s = turn_take(t, i, choice->is_dry);
        if (sl_choice_has(choice, s))
            return s;
    }
    return choice_any(choice, pool, 0);
}

const struct sl_balance_method roundrobin_method = {
    .setup = roundrobin_setup,
    .ready = roundrobin_ready,
    .pick = roundrobin_pick,
};
