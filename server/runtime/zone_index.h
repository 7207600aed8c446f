/* Numbers for names, in a zone: the same name has the same number in all processes that hold
 * it, at the same time or one after the other.
 *
 * The table is in the shared part.  Who holds a number is in the holder's slot, one byte each,
 * so a process that dies lets go of all.  A number that nobody holds keeps its name, and what
 * belongs to it, until the table is full; then it is given to another. */
#ifndef RUNTIME_ZONE_INDEX_H
#define RUNTIME_ZONE_INDEX_H

#include "runtime/zone.h"

/* The table in memory. */
#define INDEX_TABLE(capacity)             \
    struct {                              \
        _Atomic(uint32_t) n_used;         \
        uint32_t padding[15];             \
        uint64_t hashes[capacity];        \
        char names[capacity][ZONE_NAME];  \
    }

struct zone_index {
    const char *zone; /* its name, for the lock */
    const struct sl_slots *slots;
    _Atomic(uint32_t) *n_used; /* numbers below it have been given out */
    uint64_t *hashes;          /* 0: the number stands for nothing */
    char (*names)[ZONE_NAME];  /* cut where longer: the hash is of the whole name */
    size_t holds;              /* where in a slot the bytes are, one for each number */
    unsigned capacity;
    /* What belongs to the number goes: another name has it now.  NULL: it stays. */
    void (*clear)(void *data, unsigned number);
    void *data;
};

#define INDEX_OF(zone_, slots_, table, holds_, capacity_, clear_, data_)                         \
    (struct zone_index){.zone = (zone_), .slots = (slots_), .n_used = &(table)->n_used,           \
                        .hashes = (table)->hashes, .names = (table)->names, .holds = (holds_),    \
                        .capacity = (capacity_), .clear = (clear_), .data = (data_)}

/* The number of a name, held until the process ends.  While the worker starts, main thread;
 * processes that start at the same time wait for each other.  -1: the table is full of names
 * that are held, or (SL0323 in the log) another process does not let go of the lock. */
int index_claim(const struct zone_index *ix, const char *name);

#endif
