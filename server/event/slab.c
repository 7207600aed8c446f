/* Free lists of equal objects, cut from blocks of about 64 KiB.  A free object's first word
 * links the list; the blocks are kept until the loop ends. */
#include "event/loop.h"

#include "runtime/poison.h"

#include <stdlib.h>

#define BLOCK_BYTES 65536

struct block {
    struct block *next;
    char pad[56]; /* objects begin on a cache line */
};

static void
slab_grow(struct slab *slab)
{
    size_t n = (BLOCK_BYTES - sizeof(struct block)) / slab->size, i;
    struct block *b = aligned_alloc(64, BLOCK_BYTES);
    char *at = (char *)(b + 1);

    SL_ASSERT(b != NULL && n > 0);
    b->next = slab->blocks;
    slab->blocks = b;
    for (i = n; i > 0; i--)
        slab_give(slab, at + (i - 1) * slab->size);
}

void *
slab_take(struct slab *slab)
{
    void *object;

    if (slab->free == NULL)
        slab_grow(slab);
    object = slab->free;
    unpoison(object, slab->size);
    slab->free = *(void **)object;
    return object;
}

void
slab_give(struct slab *slab, void *object)
{
    *(void **)object = slab->free;
    slab->free = object;
    poison(object, slab->size);
}

void
slab_end(struct slab *slab)
{
    while (slab->blocks != NULL) {
        struct block *b = slab->blocks;

        slab->blocks = b->next;
        unpoison(b, BLOCK_BYTES);
        free(b);
    }
    slab->free = NULL;
}
