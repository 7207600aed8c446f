/* Memory shared by all generations of the server, and counters.
 *
 * A zone has a name, a layout and a size.  The master makes it and keeps it: it is there before
 * and after a reload, and lives through a crash; when no generation uses it any more, it goes.
 * A generation that asks for another layout or size under the same name gets a zone of its own,
 * zeroed, and the log says so; the generations before keep theirs.  Without a master (-XX) a
 * zone is the process's own.
 *
 * Zones are asked for while the worker starts, in post_config and until the ready hooks are
 * done, by the main thread; later, only one that this process has already is given.  The memory
 * stays the core's and is mapped until the process ends.
 *
 * What stands in a zone is read and written by threads of several processes, and any of them
 * may be killed between two instructions: single atomics, offsets instead of pointers, no lock.
 * Times in it are sl_loop_now()'s, CLOCK_MONOTONIC, which is the same in every process. */
#ifndef SLUICE_ZONE_H
#define SLUICE_ZONE_H

#include "sluice/base.h"

/* NULL, with a message in the log: no memory, the master refuses, a name that is empty, longer
 * than 63 bytes or has blanks, or a new zone when it is too late.  *is_fresh: no process that
 * uses it has been ready yet, so what has to stand in it is put there now, perhaps for a second
 * time; all else is zero. */
void *sl_zone(const char *name, unsigned layout, size_t size, int *is_fresh);

/* A zone with a slot for each process beside its shared part.  What counts something alive
 * (requests in flight, connections open) lives in the slot of its process: the master clears it
 * when the process has died, however it died, and a sum goes over mine and those of others. */
#define SL_PLACES 64 /* at most so many generations live at once */
struct sl_slots {
    void *shared; /* as long as was asked for; never cleared */
    char *first;
    size_t stride;
    unsigned mine; /* this process's place, the same in all zones */
};
/* As sl_zone(); both sizes are rounded up to whole pages.  The struct is the core's. */
const struct sl_slots *sl_zone_slots(const char *name, unsigned layout, size_t shared_size,
                                     size_t slot_size, int *is_fresh);
/* A bit for every place but ours whose process lives.  0 in most hours of the day: then a sum
 * is our own slot.  Any thread; one load. */
uint64_t sl_places_others(void);

static inline void *
sl_slot(const struct sl_slots *s, unsigned place)
{
    return s->first + place * s->stride;
}

/* Counters of what has happened, part of the metrics by themselves.  They only go up, and
 * nothing is lost when a process dies: each thread has a row of cells in the zone "counters",
 * which it alone writes and which the next owner of the same place goes on with.  A counter is
 * the same one in all generations by its name.  For what is alive: sl_zone_slots(); for what goes up
 * and down otherwise: gauge.h. */

/* Registered in init; again under the same name: the same one.  The texts stay the caller's.
 * -1: more than 512, or a name that is longer than 63 bytes or has blanks. */
int sl_counter(const char *name, const char *help);
/* On the loop's thread. */
void sl_count(struct sl_loop *loop, int counter, int64_t by);
/* Of all generations, those that have ended among them.  Any thread. */
int64_t sl_counter_sum(int counter);
const char *sl_counter_name(int counter); /* NULL past the last */
const char *sl_counter_help(int counter);

#endif
