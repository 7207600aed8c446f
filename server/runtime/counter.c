/* Counters: see counter.h.  A sum reads cells while they are written, which is why they are
 * atomics; each has one writer, which is why adding is a load and a store. */
#include "runtime/counter.h"

#include "event/loop.h"

#include "sluice/log.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(sizeof(((struct counters_zone *)0)->cells[0]) == ZONE_PAGE, "a row is a page");

struct counters_slot {
    _Atomic(unsigned char) columns[COUNTERS_MAX], rows[COUNTERS_ROWS];
};

static struct counter {
    const char *name;
    const char *help;
    unsigned column;
} counters[COUNTERS_MAX];
static int n_counters;

static struct counters_zone *zone;         /* NULL: the rows are our own */
static _Atomic(int64_t) (*own)[COUNTERS_MAX]; /* NULL: they are in the zone */
static unsigned *rows;                     /* by thread */
static unsigned n_threads;

int
sl_counter(const char *name, const char *help)
{
    int i;

    for (i = 0; i < n_counters; i++)
        if (strcmp(counters[i].name, name) == 0)
            return i;
    if (n_counters == COUNTERS_MAX || !zone_name_is_good(name))
        return -1;
    counters[n_counters] = (struct counter){name, help, (unsigned)n_counters};
    return n_counters++;
}

void
counters_register(void)
{
#define CORE_COUNTER(nm, name, help) SL_ASSERT(sl_counter(name, help) == COUNT_##nm);
    CORE_COUNTERS(CORE_COUNTER)
#undef CORE_COUNTER
}

const char *
sl_counter_name(int counter)
{
    return counter < n_counters ? counters[counter].name : NULL;
}

const char *
sl_counter_help(int counter)
{
    return counters[counter].help;
}

void
sl_count(struct sl_loop *loop, int counter, int64_t by)
{
    _Atomic(int64_t) *cell = &loop->counters[counters[counter].column];

    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

int64_t
counters_column_sum(const struct counters_zone *z, unsigned column)
{
    unsigned n = atomic_load_explicit(&z->rows.n_used, memory_order_acquire), i;
    int64_t sum = 0;

    for (i = 0; i < n && i < COUNTERS_ROWS; i++)
        sum += atomic_load_explicit(&z->cells[i][column], memory_order_relaxed);
    return sum;
}

int64_t
sl_counter_sum(int counter)
{
    unsigned column = counters[counter].column, i;
    int64_t sum = 0;

    if (zone != NULL)
        return counters_column_sum(zone, column);
    for (i = 0; own != NULL && i < n_threads; i++)
        sum += atomic_load_explicit(&own[i][column], memory_order_relaxed);
    return sum;
}

/* ---- places in the zone ---- */

/* Nobody counts this any more; another name begins at 0. */
static void
column_clear(void *data, unsigned column)
{
    struct counters_zone *z = data;
    unsigned n = atomic_load_explicit(&z->rows.n_used, memory_order_acquire), i;

    for (i = 0; i < n && i < COUNTERS_ROWS; i++)
        atomic_store_explicit(&z->cells[i][column], 0, memory_order_relaxed);
}

static int
columns_claim(struct counters_zone *z, const struct sl_slots *slots)
{
    struct zone_index ix = INDEX_OF(COUNTERS_ZONE, slots, &z->columns,
                                    offsetof(struct counters_slot, columns), COUNTERS_MAX,
                                    column_clear, z);
    int i, column;

    for (i = 0; i < n_counters; i++) {
        if ((column = index_claim(&ix, counters[i].name)) < 0)
            return -1;
        counters[i].column = (unsigned)column;
    }
    return 0;
}

static int
rows_claim(struct counters_zone *z, const struct sl_slots *slots)
{
    struct zone_index ix = INDEX_OF(COUNTERS_ZONE, slots, &z->rows,
                                    offsetof(struct counters_slot, rows), COUNTERS_ROWS, NULL,
                                    NULL);
    char name[32];
    unsigned i;
    int row;

    for (i = 0; i < n_threads; i++) {
        snprintf(name, sizeof name, "%u/%u", slots->mine, i);
        if ((row = index_claim(&ix, name)) < 0)
            return -1;
        rows[i] = (unsigned)row;
    }
    return 0;
}

static int
counters_share(void)
{
    int is_fresh;
    const struct sl_slots *slots = sl_zone_slots(COUNTERS_ZONE, COUNTERS_LAYOUT,
                                                 sizeof(struct counters_zone),
                                                 sizeof(struct counters_slot), &is_fresh);

    if (slots == NULL || columns_claim(slots->shared, slots) != 0 ||
        rows_claim(slots->shared, slots) != 0)
        return -1;
    zone = slots->shared;
    return 0;
}

static int
counters_own(void)
{
    unsigned i;

    sl_log(SL_WARN, "SL0324", "no room in the zone " COUNTERS_ZONE ": this generation's counters "
           "begin at 0 and are not in the sums of others");
    for (i = 0; i < (unsigned)n_counters; i++)
        counters[i].column = i;
    for (i = 0; i < n_threads; i++)
        rows[i] = i;
    own = calloc(n_threads, sizeof *own);
    return own != NULL ? 0 : -1;
}

int
counters_open(unsigned n)
{
    n_threads = n;
    rows = calloc(n, sizeof *rows);
    if (rows == NULL)
        return -1;
    return counters_share() == 0 ? 0 : counters_own();
}

void
counters_attach(struct sl_loop *loop)
{
    unsigned row = rows[loop->index];

    loop->counters = own != NULL ? own[row] : zone->cells[row];
    loop->n_requests = &loop->counters[counters[COUNT_REQUESTS].column];
}

void
counters_detach(struct sl_loop *loop)
{
    static _Atomic(int64_t) nowhere[COUNTERS_MAX];

    loop->counters = nowhere;
    loop->n_requests = &nowhere[counters[COUNT_REQUESTS].column];
}

void
counters_close(void)
{
    free(rows);
    free(own);
    rows = NULL;
    own = NULL;
    zone = NULL;
}
