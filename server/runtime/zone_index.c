/* See zone_index.h.  The lock is one of the kernel's on the zone's file, which a process that
 * dies does not keep.  The order of writing leaves nothing half done behind: what belongs to a
 * number is cleared while it stands for nothing, and a new number counts last. */
#include "runtime/zone_index.h"

#include "sluice/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#define LOCK_TRIES 200
#define LOCK_PAUSE_NS 10000000

static int
index_lock(const struct zone_index *ix, int fd)
{
    static const struct timespec pause = {0, LOCK_PAUSE_NS};
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int i;

    for (i = 0; i < LOCK_TRIES; i++) {
        if (fcntl(fd, F_SETLK, &lock) == 0)
            return 0;
        if (errno != EACCES && errno != EAGAIN && errno != EINTR)
            break;
        nanosleep(&pause, NULL);
    }
    sl_log(SL_ERROR, "SL0323", "zone %s cannot be locked: %s", ix->zone, strerror(errno));
    return -1;
}

static void
index_unlock(int fd)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    fcntl(fd, F_SETLK, &lock);
}

/* FNV-1a; never 0. */
static uint64_t
name_hash(const char *name)
{
    uint64_t h = UINT64_C(14695981039346656037);

    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return h != 0 ? h : 1;
}

static _Atomic(unsigned char) *
hold_of(const struct zone_index *ix, unsigned place, unsigned number)
{
    return (_Atomic(unsigned char) *)((char *)sl_slot(ix->slots, place) + ix->holds) + number;
}

static int
is_held(const struct zone_index *ix, unsigned number)
{
    uint64_t places = sl_places_others() | UINT64_C(1) << ix->slots->mine;

    for (; places != 0; places &= places - 1)
        if (atomic_load_explicit(hold_of(ix, (unsigned)__builtin_ctzll(places), number),
                                 memory_order_relaxed))
            return 1;
    return 0;
}

/* One never given out, else the first that nobody holds; -1: there is none. */
static int
number_free(const struct zone_index *ix, unsigned n_used)
{
    unsigned i;

    if (n_used < ix->capacity)
        return (int)n_used;
    for (i = 0; i < ix->capacity; i++)
        if (!is_held(ix, i))
            return (int)i;
    return -1;
}

static int
number_name(const struct zone_index *ix, const char *name, uint64_t hash, unsigned n_used)
{
    int i = number_free(ix, n_used);

    if (i < 0)
        return -1;
    ix->hashes[i] = 0;
    if (ix->clear != NULL)
        ix->clear(ix->data, (unsigned)i);
    snprintf(ix->names[i], ZONE_NAME, "%s", name);
    ix->hashes[i] = hash;
    if ((unsigned)i == n_used)
        atomic_store_explicit(ix->n_used, n_used + 1, memory_order_release);
    return i;
}

static int
number_of(const struct zone_index *ix, const char *name)
{
    unsigned n_used = atomic_load_explicit(ix->n_used, memory_order_acquire), i;
    uint64_t hash = name_hash(name);

    for (i = 0; i < n_used && i < ix->capacity; i++)
        if (ix->hashes[i] == hash && strncmp(ix->names[i], name, ZONE_NAME - 1) == 0)
            return (int)i;
    return number_name(ix, name, hash, n_used);
}

int
index_claim(const struct zone_index *ix, const char *name)
{
    int fd = zone_descriptor(ix->zone), i;

    if (fd < 0 || index_lock(ix, fd) != 0)
        return -1;
    i = number_of(ix, name);
    if (i >= 0)
        atomic_store_explicit(hold_of(ix, ix->slots->mine, (unsigned)i), 1, memory_order_relaxed);
    index_unlock(fd);
    return i;
}
