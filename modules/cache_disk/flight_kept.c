/* The memory of flights.  A loop keeps that of some which are over for those it begins next: they find
 * it in the processor's caches, and a server that is slow has more of them in the air than the
 * system's allocator keeps at hand. */
#include "flight.h"

#include <stdlib.h>

#define KEPT_BYTES 768u /* of a flight with its texts; longer ones go back to the system */
#ifndef __SANITIZE_ADDRESS__
#define KEPT_MAX 64u /* of a loop: at most 48 KB */
#else
#define KEPT_MAX 0u /* who uses one that was freed is to be found */
#endif

static struct kept {
    _Alignas(64) struct flight *first;
    unsigned n;
} *spare; /* by loop; NULL: nothing is kept */
static unsigned n_spare;

void
flights_open(unsigned n_loops)
{
    spare = aligned_alloc(64, n_loops * sizeof *spare);
    if (spare == NULL)
        return;
    memset(spare, 0, n_loops * sizeof *spare);
    n_spare = n_loops;
}

void
flights_close(void)
{
    unsigned i;

    for (i = 0; i < n_spare; i++)
        while (spare[i].first != NULL) {
            struct flight *f = spare[i].first;

            spare[i].first = f->next;
            free(f);
        }
    free(spare);
    spare = NULL;
    n_spare = 0;
}

/* Of the loop this thread is; NULL: it is none. */
static struct kept *
kept_here(void)
{
    const struct sl_loop *loop = sl_loop_self();

    return loop != NULL && spare != NULL ? &spare[sl_loop_index(loop)] : NULL;
}

struct flight *
flight_alloc(size_t n_texts)
{
    size_t size = sizeof(struct flight) + n_texts;
    struct kept *k = size <= KEPT_BYTES ? kept_here() : NULL;
    struct flight *f;

    if (k != NULL && k->first != NULL) {
        f = k->first;
        k->first = f->next;
        k->n--;
    } else
        f = malloc(size > KEPT_BYTES ? size : KEPT_BYTES);
    SL_ASSERT(f != NULL);
    memset(f, 0, sizeof *f);
    f->is_small = size <= KEPT_BYTES;
    return f;
}

void
flight_free(struct flight *f)
{
    struct kept *k = f->is_small ? kept_here() : NULL;

    if (k == NULL || k->n == KEPT_MAX) {
        free(f);
        return;
    }
    f->next = k->first;
    k->first = f;
    k->n++;
}
