/* States of coders are large (some 100 KiB to 2 MiB) and dear to make: a thread keeps those it
 * used, the last on top, and has no more than CODERS_BYTES of them in use, however many clients are slow. */
#include "http/coders.h"

#include <stdlib.h>

struct idle_coder {
    const struct sl_coder *coder;
    int level;
    void *state;
};

struct coders {
    size_t n_bytes; /* in use */
    unsigned n_idle;
    struct idle_coder idle[CODERS_IDLE]; /* the one used last at the end */
};

static struct coders *
coders_of(struct sl_loop *loop)
{
    if (loop->coders == NULL)
        loop->coders = calloc(1, sizeof *loop->coders);
    SL_ASSERT(loop->coders != NULL);
    return loop->coders;
}

int
coders_have_room(const struct sl_loop *loop, const struct sl_coder *coder, int level)
{
    return loop->coders == NULL || loop->coders->n_bytes + coder->size(level) <= CODERS_BYTES;
}

static void
idle_remove(struct coders *all, unsigned i)
{
    memmove(&all->idle[i], &all->idle[i + 1], (all->n_idle - i - 1) * sizeof *all->idle);
    all->n_idle--;
}

static void *
idle_take(struct coders *all, const struct sl_coder *coder, int level)
{
    unsigned i;
    void *state;

    for (i = all->n_idle; i-- > 0;)
        if (all->idle[i].coder == coder && all->idle[i].level == level) {
            state = all->idle[i].state;
            idle_remove(all, i);
            return state;
        }
    return NULL;
}

static void
idle_give(struct coders *all, const struct sl_coder *coder, int level, void *state)
{
    if (all->n_idle == CODERS_IDLE) { /* the one not used for longest */
        all->idle[0].coder->close(all->idle[0].state);
        idle_remove(all, 0);
    }
    all->idle[all->n_idle++] = (struct idle_coder){coder, level, state};
}

static apr_status_t
coding_cleanup(void *coding)
{
    coding_end(coding);
    return APR_SUCCESS;
}

struct coding *
coding_begin(struct sl_loop *loop, apr_pool_t *pool, const struct sl_coder *coder, int level,
             int64_t length)
{
    struct coding *c = apr_pcalloc(pool, sizeof *c);

    c->coder = coder;
    c->loop = loop;
    c->level = level;
    c->length = length;
    c->counted = coder->size(level);
    coders_of(loop)->n_bytes += c->counted;
    apr_pool_cleanup_register(pool, c, coding_cleanup, apr_pool_cleanup_null);
    return c;
}

void *
coding_state(struct coding *c)
{
    if (c->state != NULL)
        return c->state;
    c->state = idle_take(c->loop->coders, c->coder, c->level);
    if (c->state == NULL)
        c->state = c->coder->open(c->level);
    if (c->state != NULL && c->coder->reset(c->state, c->length) != 0) {
        c->coder->close(c->state);
        c->state = NULL;
    }
    return c->state;
}

void
coding_end(struct coding *c)
{
    if (c->state != NULL)
        idle_give(c->loop->coders, c->coder, c->level, c->state);
    c->state = NULL;
    c->loop->coders->n_bytes -= c->counted;
    c->counted = 0;
}

void
coders_close(struct sl_loop *loop)
{
    struct coders *all = loop->coders;

    while (all != NULL && all->n_idle > 0) {
        all->n_idle--;
        all->idle[all->n_idle].coder->close(all->idle[all->n_idle].state);
    }
    free(all);
    loop->coders = NULL;
}
