/* Zones as one process sees them: each is mapped once, when it is first asked for.  The list
 * only grows, until zones_close(), so that what was given stays good. */
#include "runtime/zone.h"

#include "runtime/dry.h"

#include "sluice/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct zone {
    struct zone *next;
    struct zone_shape shape; /* its name is here */
    char name[ZONE_NAME];
    struct sl_slots memory;
    int fd; /* -1 after the start */
};

static struct processes alone = {1};
static pthread_mutex_t zones_lock = PTHREAD_MUTEX_INITIALIZER;
static struct zone *zones;
static zone_source_f *zones_source;
static void *source_data;
static unsigned my_place;
static int is_shut;
static const struct processes *processes = &alone;

int
zone_name_is_good(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n < ZONE_NAME && strcspn(name, " \t\r\n") == n;
}

int
zone_memory(const struct zone_shape *shape)
{
    int fd = memfd_create(shape->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd >= 0 && ftruncate(fd, (off_t)zone_size(shape)) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int
source_own(void *data, const struct zone_shape *shape, int *is_fresh, char *why, size_t n)
{
    int fd = zone_memory(shape);

    (void)data;
    *is_fresh = 1;
    if (fd < 0)
        snprintf(why, n, "%s", strerror(errno));
    return fd;
}

static struct zone *
zone_find(const char *name)
{
    struct zone *z;

    for (z = zones; z != NULL && strcmp(z->name, name) != 0; z = z->next)
        ;
    return z;
}

static struct zone *
zone_failed(const char *name, const char *why)
{
    sl_log(SL_ERROR, "SL0322", "zone \"%s\": %s", name, why);
    return NULL;
}

/* Takes fd over. */
static struct zone *
zone_map(const struct zone_shape *shape, int fd)
{
    struct zone *z = calloc(1, sizeof *z);
    int may_write = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR; /* not "processes": the master does */
    void *at = z == NULL ? MAP_FAILED
                         : mmap(NULL, zone_size(shape), PROT_READ | (may_write ? PROT_WRITE : 0),
                                MAP_SHARED, fd, 0);

    if (at == MAP_FAILED) {
        close(fd);
        free(z);
        return zone_failed(shape->name, strerror(ENOMEM));
    }
    snprintf(z->name, sizeof z->name, "%s", shape->name);
    z->shape = *shape;
    z->shape.name = z->name;
    z->memory = (struct sl_slots){at, (char *)at + shape->shared, shape->stride, my_place};
    z->fd = fd;
    z->next = zones;
    return zones = z;
}

static struct zone *
zone_ask(const struct zone_shape *shape, int *is_fresh)
{
    char why[256] = "";
    int fd;

    if (is_shut)
        return zone_failed(shape->name, "new zones are asked for before the worker is ready");
    if (!zone_name_is_good(shape->name))
        return zone_failed(shape->name, "not a name of 1 to 63 bytes without blanks");
    if (shape->shared == 0 || shape->shared > ZONE_MAX || shape->stride > ZONE_MAX / SL_PLACES)
        return zone_failed(shape->name, "such a size is not to be had");
    fd = (zones_source != NULL ? zones_source : source_own)(source_data, shape, is_fresh, why,
                                                            sizeof why);
    return fd < 0 ? zone_failed(shape->name, why) : zone_map(shape, fd);
}

static struct zone *
zone_get(const struct zone_shape *shape, int *is_fresh)
{
    struct zone *z;

    *is_fresh = 0;
    if (dry_run_refuses("a zone"))
        return NULL;
    pthread_mutex_lock(&zones_lock);
    z = zone_find(shape->name);
    if (z == NULL)
        z = zone_ask(shape, is_fresh);
    else if (z->shape.layout != shape->layout || z->shape.shared != shape->shared ||
             z->shape.stride != shape->stride)
        z = zone_failed(shape->name, "this process has one of another layout or size");
    pthread_mutex_unlock(&zones_lock);
    return z;
}

void *
sl_zone(const char *name, unsigned layout, size_t size, int *is_fresh)
{
    struct zone_shape shape = {name, layout, size, 0};
    const struct zone *z = zone_get(&shape, is_fresh);

    return z != NULL ? z->memory.shared : NULL;
}

static uint64_t
whole_pages(size_t size)
{
    return ((uint64_t)size + ZONE_PAGE - 1) & ~(uint64_t)(ZONE_PAGE - 1);
}

const struct sl_slots *
sl_zone_slots(const char *name, unsigned layout, size_t shared_size, size_t slot_size,
              int *is_fresh)
{
    struct zone_shape shape = {name, layout, whole_pages(shared_size), whole_pages(slot_size)};
    const struct zone *z;

    if (shape.shared == 0) /* an empty part has a page, too */
        shape.shared = ZONE_PAGE;
    z = zone_get(&shape, is_fresh);
    return z != NULL ? &z->memory : NULL;
}

uint64_t
sl_places_others(void)
{
    return atomic_load_explicit(&processes->alive, memory_order_relaxed) &
           ~(UINT64_C(1) << my_place);
}

int
zones_open(zone_source_f *source, void *data, unsigned place)
{
    int is_fresh;

    zones_source = source;
    source_data = data;
    my_place = place;
    if (source == NULL)
        return 0;
    processes = sl_zone(ZONE_PROCESSES, ZONE_PROCESSES_LAYOUT, ZONE_PAGE, &is_fresh);
    return processes != NULL ? 0 : -1;
}

int
zone_descriptor(const char *name)
{
    const struct zone *z;
    int fd;

    pthread_mutex_lock(&zones_lock);
    z = zone_find(name);
    fd = z != NULL ? z->fd : -1;
    pthread_mutex_unlock(&zones_lock);
    return fd;
}

void
zones_shut(void)
{
    struct zone *z;

    pthread_mutex_lock(&zones_lock);
    is_shut = 1;
    for (z = zones; z != NULL; z = z->next) {
        if (z->fd >= 0)
            close(z->fd);
        z->fd = -1;
    }
    pthread_mutex_unlock(&zones_lock);
}

void
zones_close(void)
{
    zones_shut();
    processes = &alone;
    while (zones != NULL) {
        struct zone *z = zones;

        zones = z->next;
        munmap(z->memory.shared, zone_size(&z->shape));
        free(z);
    }
}
