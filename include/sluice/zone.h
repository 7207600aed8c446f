/* Shared zones and counters. */
#ifndef SLUICE_ZONE_H
#define SLUICE_ZONE_H

#include "sluice/base.h"

/* Memory with a name, a layout and a size, zeroed when fresh.  Asked for in post_config;
 * holds offsets, never pointers.  A zone of the same name with another layout or size is
 * made afresh, and the log says so.  NULL: no memory. */
void *sl_zone(const char *name, unsigned layout, size_t size, int *is_fresh);

/* Counters and histograms: one cell a thread, summed when read, and part of the metrics by
 * themselves.  Registered in init; -1 when there are too many. */
int sl_counter(const char *name, const char *help);
void sl_count(struct sl_loop *loop, int counter, int64_t by);
int64_t sl_counter_sum(int counter);
const char *sl_counter_name(int counter); /* NULL past the last */

#endif
