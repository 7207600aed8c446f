/* Zones and counters.  A zone is private to the worker for now: its memory is a memfd, as
 * it will be when the master owns it.  A counter has a cell in every loop; a sum reads them
 * while they are written, which is why cells are atomics touched by one writer. */
#include "sluice/zone.h"

#include "event/loop.h"
#include "runtime/zone.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct zone {
    struct zone *next;
    char *name;
    unsigned layout;
    size_t size;
    void *memory;
};

static pthread_mutex_t zones_lock = PTHREAD_MUTEX_INITIALIZER;
static struct zone *zones;

static void *
zone_map(const char *name, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    void *memory = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

static struct zone *
zone_find(const char *name)
{
    struct zone *z;

    for (z = zones; z != NULL; z = z->next)
        if (strcmp(z->name, name) == 0)
            return z;
    z = calloc(1, sizeof *z);
    if (z == NULL || (z->name = strdup(name)) == NULL) {
        free(z);
        return NULL;
    }
    z->next = zones;
    zones = z;
    return z;
}

static void *
zone_get(const char *name, unsigned layout, size_t size, int *is_fresh)
{
    struct zone *z = zone_find(name);

    *is_fresh = 0;
    if (z == NULL)
        return NULL;
    if (z->memory != NULL && z->layout == layout && z->size == size)
        return z->memory;
    if (z->memory != NULL) {
        sl_log(SL_NOTICE, "SL0320", "zone %s: layout or size changed, it begins afresh", name);
        munmap(z->memory, z->size);
    }
    z->layout = layout;
    z->size = size;
    z->memory = zone_map(name, size);
    *is_fresh = 1;
    return z->memory;
}

void *
sl_zone(const char *name, unsigned layout, size_t size, int *is_fresh)
{
    void *memory;

    pthread_mutex_lock(&zones_lock);
    memory = zone_get(name, layout, size, is_fresh);
    pthread_mutex_unlock(&zones_lock);
    return memory;
}

void
zones_close(void)
{
    while (zones != NULL) {
        struct zone *z = zones;

        zones = z->next;
        if (z->memory != NULL)
            munmap(z->memory, z->size);
        free(z->name);
        free(z);
    }
}

static struct counter {
    const char *name;
    const char *help;
} counters[LOOP_COUNTERS];
static int n_counters;
static struct sl_loop *const *counted;
static unsigned n_counted;

int
sl_counter(const char *name, const char *help)
{
    if (n_counters == LOOP_COUNTERS)
        return -1;
    counters[n_counters] = (struct counter){name, help};
    return n_counters++;
}

void
sl_count(struct sl_loop *loop, int counter, int64_t by)
{
    _Atomic(int64_t) *cell = (_Atomic(int64_t) *)&loop->counters[counter];

    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

void
counters_watch(struct sl_loop *const *loops, unsigned n)
{
    counted = loops;
    n_counted = n;
}

int64_t
sl_counter_sum(int counter)
{
    int64_t sum = 0;
    unsigned i;

    for (i = 0; i < n_counted; i++)
        sum += atomic_load_explicit((_Atomic(int64_t) *)&counted[i]->counters[counter],
                                    memory_order_relaxed);
    return sum;
}

const char *
sl_counter_name(int counter)
{
    return counter < n_counters ? counters[counter].name : NULL;
}
