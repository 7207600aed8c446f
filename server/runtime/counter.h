/* The zone "counters", which workers fill and the master reads for "ctl counters".
 *
 * A row of cells for each thread of each place ("0/3" is thread 3 of place 0), a column for
 * each name.  A row has one writer at a time and is never cleared: the next process at the
 * place goes on with it, so that a sum of all rows is of all that ever happened. */
#ifndef RUNTIME_COUNTER_H
#define RUNTIME_COUNTER_H

#include "runtime/zone_index.h"

#define COUNTERS_ZONE "counters"
#define COUNTERS_LAYOUT 1
#define COUNTERS_MAX 512
#define COUNTERS_ROWS 1024

struct counters_zone {
    _Atomic(int64_t) cells[COUNTERS_ROWS][COUNTERS_MAX]; /* a row is a page */
    INDEX_TABLE(COUNTERS_MAX) columns;
    INDEX_TABLE(COUNTERS_ROWS) rows;
};

/* The core's own, registered before any other: a counter's number is its place here. */
#define CORE_COUNTERS(X)                                                         \
    X(CONNECTIONS, "connections", "clients accepted")                            \
    X(REQUESTS, "requests", "requests that have ended, answered or not")         \
    X(SERVER_CONNECTIONS, "server_connections", "connections made to servers")

#define CORE_COUNTER(nm, name, help) COUNT_##nm,
enum core_counter { CORE_COUNTERS(CORE_COUNTER) };
#undef CORE_COUNTER

void counters_register(void);

int64_t counters_column_sum(const struct counters_zone *z, unsigned column);

/* Rows for the threads of this process, once all counters are registered and zones are open.
 * Where the zone has no room, counts are the process's own, and the log says so.  0, or -1: no
 * memory. */
int counters_open(unsigned n_threads);
/* Gives a loop its row. */
void counters_attach(struct sl_loop *loop);
/* Gives the loop of a dry run a row that is in no sum. */
void counters_detach(struct sl_loop *loop);
/* One more, in a cell of this thread. */
static inline void
counter_step(_Atomic(int64_t) *cell)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}
/* Loops count no more. */
void counters_close(void);

#endif
