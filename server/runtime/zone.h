/* The process's side of zones and counters. */
#ifndef RUNTIME_ZONE_H
#define RUNTIME_ZONE_H

struct sl_loop;

/* Which loops' cells a sum adds up; the array stays the caller's. */
void counters_watch(struct sl_loop *const *loops, unsigned n);
void zones_close(void);

#endif
