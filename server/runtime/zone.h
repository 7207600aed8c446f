/* The process's side of zones: where their memory comes from, and until when. */
#ifndef RUNTIME_ZONE_H
#define RUNTIME_ZONE_H

#include "sluice/zone.h"

#include <stdatomic.h>

#define ZONE_NAME 64 /* with its NUL */
#define ZONE_PAGE 4096
#define ZONE_MAX (INT64_C(1) << 40)
#define ZONE_PROCESSES "processes"
#define ZONE_PROCESSES_LAYOUT 1

/* The shared part, then SL_PLACES slots; stride 0: none. */
struct zone_shape {
    const char *name;
    unsigned layout;
    uint64_t shared, stride;
};

static inline uint64_t
zone_size(const struct zone_shape *z)
{
    return z->shared + SL_PLACES * z->stride;
}

/* The zone "processes": the master alone writes it. */
struct processes {
    _Atomic(uint64_t) alive; /* by place */
};

/* A name as zones and counters have it. */
int zone_name_is_good(const char *name);
/* Its memory by itself, zeroed, never to shrink: a descriptor, or -1 with errno. */
int zone_memory(const struct zone_shape *shape);

/* A descriptor, the caller's, or -1 with a phrase in why. */
typedef int zone_source_f(void *data, const struct zone_shape *shape, int *is_fresh, char *why,
                          size_t n);
/* From whom zones come from now on, and which place is ours; source NULL: they are made here.
 * 0, or -1 with a message in the log. */
int zones_open(zone_source_f *source, void *data, unsigned place);
/* The descriptor of a zone that this process has, to lock it; -1 when there is none (any
 * more).  It stays the zone's. */
int zone_descriptor(const char *name);
/* The start is over: no new zones, and no descriptors any more. */
void zones_shut(void);
/* Nobody looks into one any more. */
void zones_close(void);

#endif
