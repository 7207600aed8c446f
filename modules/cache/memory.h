/* Objects in memory, and the tier that keeps those in use: of one process, for all its threads.
 *
 * An object's struct is never given back to the system, only used again for another one.  So a
 * thread may look at any that the table names: it takes a hold if the object lives, and then
 * sees whether it is the right one.  A hit takes no lock.  What changes the table takes one.
 *
 * Eviction is S3-FIFO: new objects pass a small queue (a tenth of the bytes), from which only
 * those that were used move on to the main one; those that were not leave their tag behind in their
 * seat of the table (a ghost), by which the next of that key goes to the main queue at once.  A
 * flood of keys asked for once passes through the tenth. */
#ifndef CACHE_MEMORY_H
#define CACHE_MEMORY_H

#include "segment.h"

#include <pthread.h>
#include <stdatomic.h>

struct arriving;

/* Bytes that are held by several. */
struct store_bytes {
    _Atomic(uint32_t) holds;
    size_t size;
    _Alignas(16) char at[];
};
struct store_bytes *bytes_new(size_t size); /* NULL: no memory */
/* What is not needed of them goes back; nobody else holds them.  They may move. */
struct store_bytes *bytes_trim(struct store_bytes *b, size_t size);
struct store_bytes *bytes_hold(struct store_bytes *b);
void bytes_drop(struct store_bytes **b);

struct memory;
/* Three cache lines: what is given, what the tier looks at, where the body is. */
struct object {
    _Alignas(64) struct store_object pub;
    _Atomic(uint64_t) holds; /* with OBJECT_LIVES while it is in the tier */

    struct store_hash hash;
    struct object *prev, *next; /* the tier's, as are charge and is_main */
    struct store_bytes *head;
    uint64_t change; /* what the cell of changes said when it was right */
    uint32_t id, charge;
    _Atomic(uint32_t) hits;
    _Atomic(uint8_t) used; /* 0 to 3 */
    uint8_t is_main;

    struct store_bytes *body; /* NULL: in the extents, or there is none; the head's need no second hold */
    const char *body_at;
    uint64_t size;
    const struct store_extent *extents;
    _Atomic(uint64_t) *checked; /* a bit an extent: its checksum was found right */
    struct arriving *arriving;  /* NULL: complete */
    uint32_t n_extents;
};
#define OBJECT_LIVES (UINT64_C(1) << 63)

static inline struct object *
object_of(const struct store_object *o)
{
    return (struct object *)(uintptr_t)o;
}
/* The bytes of its record before an inline body, which may stand behind them in `head`. */
static inline size_t
object_head_size(const struct object *o)
{
    return (size_t)(o->pub.meta.at + o->pub.meta.n - o->head->at);
}

struct memory_stats {
    uint64_t n_objects, bytes, n_evicted;
};

/* size 0: objects only, nothing is kept. */
struct memory *memory_open(uint64_t size); /* NULL: no memory */
void memory_close(struct memory **m);
void memory_stats(struct memory *m, struct memory_stats *stats);

/* One that is held once and empty, with a head of at least n bytes (0: without); NULL: no memory. */
struct object *object_new(struct memory *m, size_t n);
void object_hold(struct object *o);
void object_drop(struct object **o);
/* Lets it be what the record in its head says; takes the body's bytes over from the caller, if they
 * are not the head's; body_at NULL: it has none in memory.  -1: no memory; they are the caller's. */
int object_fill(struct object *o, const struct record *r, struct store_bytes *body,
                const char *body_at);
/* store_write.c: what an object that arrives has beside; an object frees it with itself. */
void arriving_free(struct arriving *a);

/* Sends for what memory_find() touches first. */
void memory_send_for(const struct memory *m, struct store_hash hash);
/* Held, or NULL. */
struct object *memory_find(struct memory *m, struct store_hash hash);
/* Whether it would find one; seldom it says so of another's hash. */
int memory_may_have(const struct memory *m, struct store_hash hash);
/* Keeps o, in place of another of its hash; 0: it is too large. */
int memory_put(struct memory *m, struct object *o);
/* Keeps o if there is none of its hash whose change is that of o or later. */
void memory_put_read(struct memory *m, struct object *o);
void memory_forget(struct memory *m, struct store_hash hash);
/* Takes out this object, if it is in. */
void memory_remove(struct memory *m, struct object *o);
int memory_has_room_for(const struct memory *m, uint64_t bytes);
/* Held for the caller, the most used first, of those that are wanted (NULL: all).  Looks at all there
 * are, without the lock. */
typedef int memory_wants_f(const void *data, const struct store_object *o);
unsigned memory_top(struct memory *m, memory_wants_f *wants, const void *data, struct object **to,
                    unsigned max);

#endif
