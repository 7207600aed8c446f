/* The server with the fewest attempts in flight for its weight, those of other generations
 * included.
 *
 * The counts are the core's and exact across threads and processes.  They lie side by side,
 * servers do not: so first the least is looked for in the counts alone, then a server that has it
 * and comes into question, from a place that moves on by one each time, so that equals are taken
 * in turn.  Where none of them does, the next least is looked for. */

#include "balancer.h"
#include "counts.h"

#define FINENESS (1u << 16) /* of weights: 1/256 is still told from 1/255 */

struct leastconn {
    apr_pool_t *pool;
    struct counts counts;
    atomic_uint *parts;         /* FINENESS over the weight; 0: it is gone */
    atomic_uint is_even;        /* all have the same, and none is gone */
    atomic_uint turn;
};

static const char *
leastconn_setup(struct sl_cmd *cmd, struct sl_pool *pool, void **data)
{
    struct leastconn *lc = apr_pcalloc(sl_cmd_pool(cmd), sizeof(struct leastconn));

    (void)pool;
    if (sl_cmd_argc(cmd) > 1)
        return "leastconn takes no arguments";
    lc->pool = sl_cmd_pool(cmd);
    *data = lc;
    return NULL;
}

static int
leastconn_ready(struct sl_pool *pool, void *data)
{
    struct leastconn *lc = data;
    unsigned i, part, first = 0, is_even = 1;

    counts_find(&lc->counts, lc->pool, pool);
    if (lc->parts == NULL)
        lc->parts = apr_pcalloc(lc->pool, (pool->n_servers + 1) * sizeof(*lc->parts));
    for (i = 0; i < pool->n_servers; i++) {
        part = sl_server_is_gone(pool->servers[i]) ? 0 : FINENESS / pool->servers[i]->weight;
        first = i == 0 ? part : first;
        is_even &= part == first && part > 0;
        atomic_store_explicit(&lc->parts[i], part, memory_order_relaxed);
    }
    atomic_store_explicit(&lc->is_even, is_even, memory_order_relaxed);
    return 0;
}

/* is_alone: no other generation has anything in flight. */
static inline uint64_t
load_of(const struct leastconn *lc, const struct sl_pool *pool, unsigned i, int is_alone)
{
    uint64_t n = counts_get(&lc->counts, i);
    unsigned part = atomic_load_explicit(&lc->parts[i], memory_order_relaxed);

    if (!is_alone)
        n += sl_server_active_elsewhere(pool->servers[i]);
    return part > 0 ? n * part : UINT64_MAX;
}

/* The least of the counts alone, the first that has it: idle ones need no further look. */
struct least {
    unsigned count, index;
};

static inline unsigned
count_at(const atomic_uint *row, size_t i)
{
    return atomic_load_explicit(&row[i], memory_order_relaxed);
}

static inline unsigned
least_of(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* By fours: mostly none of them is less than what was found before. */
static inline void
least_in_row(struct least *least, const atomic_uint *row, size_t from, size_t to)
{
    unsigned count;
    size_t i = from;

    while (i < to && least->count > 0) {
        if (to - i >= 4 && least_of(least_of(count_at(row, i), count_at(row, i + 1)),
                                    least_of(count_at(row, i + 2), count_at(row, i + 3)))
                               >= least->count) {
            i += 4;
            continue;
        }
        count = count_at(row, i);
        if (count < least->count)
            *least = (struct least){count, (unsigned)i};
        i++;
    }
}

/* Where all weigh the same and lie in a row: mostly that is all there is to look at. */
static struct sl_server *
pick_in_row(const struct leastconn *lc, const struct sl_choice *choice, struct sl_pool *pool,
            unsigned from)
{
    struct least least = {UINT32_MAX, from};
    struct sl_server *s;

    least_in_row(&least, lc->counts.row, from, pool->n_servers);
    least_in_row(&least, lc->counts.row, 0, from);
    s = pool->servers[least.index];
    return sl_choice_has(choice, s) ? s : NULL;
}

/* The least load of at least `from`; UINT64_MAX: there is none. */
static inline uint64_t
least_from(const struct leastconn *lc, const struct sl_pool *pool, uint64_t from, int is_alone)
{
    uint64_t least = UINT64_MAX;
    unsigned i;

    for (i = 0; i < pool->n_servers; i++) {
        uint64_t load = load_of(lc, pool, i, is_alone);

        if (load < least && load >= from)
            least = load;
    }
    return least;
}

/* Loads may change between the looks: one that has less by now is as good. */
static struct sl_server *
server_with(const struct leastconn *lc, const struct sl_choice *choice, struct sl_pool *pool,
            uint64_t load, unsigned from, int is_alone)
{
    unsigned i, at = from;

    for (i = 0; i < pool->n_servers; i++, at = at + 1 < pool->n_servers ? at + 1 : 0)
        if (load_of(lc, pool, at, is_alone) <= load && sl_choice_has(choice, pool->servers[at]))
            return pool->servers[at];
    return NULL;
}

static struct sl_server *
leastconn_pick(const struct sl_choice *choice, struct sl_pool *pool, void *data)
{
    struct leastconn *lc = data;
    unsigned turn = choice->is_dry
                        ? atomic_load_explicit(&lc->turn, memory_order_relaxed)
                        : atomic_fetch_add_explicit(&lc->turn, 1, memory_order_relaxed);
    int is_alone = sl_places_others() == 0;
    struct sl_server *s = NULL;
    uint64_t load = 0;

    turn %= pool->n_servers;
    if (is_alone && lc->counts.row != NULL && atomic_load_explicit(&lc->is_even, memory_order_relaxed))
        s = pick_in_row(lc, choice, pool, turn);
    while (s == NULL) {
        load = least_from(lc, pool, load, is_alone);
        if (load == UINT64_MAX)
            return choice_any(choice, pool, turn); /* one that has just come has no part yet */
        s = server_with(lc, choice, pool, load, turn, is_alone);
        load++;
    }
    return s;
}

const struct sl_balance_method leastconn_method = {
    .setup = leastconn_setup,
    .ready = leastconn_ready,
    .pick = leastconn_pick,
};
