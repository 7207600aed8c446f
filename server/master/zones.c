/* See zones.h. */
#include "master/zones.h"

#include "master/control.h"
#include "master/state.h"
#include "runtime/counter.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZONES_MAX 256

static uint64_t
bit(const struct generation *g)
{
    return UINT64_C(1) << g->place;
}

int
zones_place_take(struct zones *zs)
{
    int place;

    if (~zs->places == 0)
        return -1;
    place = __builtin_ctzll(~zs->places);
    zs->places |= UINT64_C(1) << place;
    return place;
}

void
zones_place_give(struct zones *zs, unsigned place)
{
    zs->places &= ~(UINT64_C(1) << place);
}

/* ---- what generations ask for ---- */

static struct zone_shape
shape_asked(const struct message *m)
{
    return (struct zone_shape){m->text, (unsigned)m->port, (uint64_t)m->number,
                               (uint64_t)m->backlog * ZONE_PAGE};
}

static int
is_shape(const struct zone_shape *a, const struct zone_shape *b)
{
    return strcmp(a->name, b->name) == 0 && a->layout == b->layout && a->shared == b->shared &&
           a->stride == b->stride;
}

static const char *
shape_refused(const struct generation *g, const struct message *m)
{
    if (g->is_ready)
        return "zones are asked for before the worker is ready";
    if (!zone_name_is_good(m->text) || m->number <= 0 || m->number > ZONE_MAX || m->backlog < 0)
        return "the master cannot read this";
    return NULL;
}

static struct kept_zone *
zone_find(const struct zones *zs, const struct zone_shape *shape)
{
    struct kept_zone *z;

    for (z = zs->first; z != NULL && !is_shape(&z->shape, shape); z = z->next)
        ;
    return z;
}

/* The newest of this name, of whatever shape, that is in use. */
static const struct kept_zone *
zone_before(const struct zones *zs, const char *name)
{
    const struct kept_zone *z;

    for (z = zs->first; z != NULL && strcmp(z->name, name) != 0; z = z->next)
        ;
    return z;
}

/* Takes fd over, when it succeeds. */
static struct kept_zone *
zone_keep(struct zones *zs, const struct zone_shape *shape, int fd)
{
    struct kept_zone *z = calloc(1, sizeof *z);

    if (z == NULL)
        return NULL;
    z->fd = fd;
    snprintf(z->name, sizeof z->name, "%s", shape->name);
    z->shape = *shape;
    z->shape.name = z->name;
    z->is_fresh = 1;
    z->next = zs->first;
    zs->first = z;
    zs->n++;
    return z;
}

static struct kept_zone *
zone_add(struct zones *zs, const struct zone_shape *shape)
{
    int fd = zone_memory(shape);
    struct kept_zone *z = fd >= 0 ? zone_keep(zs, shape, fd) : NULL;

    if (z == NULL && fd >= 0)
        close(fd);
    return z;
}

static void
zone_say_afresh(const struct kept_zone *before, const struct zone_shape *now,
                const struct generation *g)
{
    if (before != NULL)
        sl_log(SL_NOTICE, "SL0320", "zone %s: layout %u of %llu bytes instead of layout %u of "
               "%llu: it begins afresh with generation %u; others keep theirs", now->name,
               now->layout, (unsigned long long)zone_size(now), before->shape.layout,
               (unsigned long long)zone_size(&before->shape), g->id);
}

static void
processes_map(struct zones *zs, const struct kept_zone *z)
{
    void *at;

    if (zs->processes != NULL || strcmp(z->name, ZONE_PROCESSES) != 0 ||
        z->shape.layout != ZONE_PROCESSES_LAYOUT)
        return;
    at = mmap(NULL, zone_size(&z->shape), PROT_READ | PROT_WRITE, MAP_SHARED, z->fd, 0);
    if (at != MAP_FAILED)
        zs->processes = at;
}

int
zones_take_over(struct zones *zs, const struct kept_zone *from, int is_test)
{
    struct kept_zone *z = zone_name_is_good(from->shape.name)
                              ? zone_keep(zs, &from->shape, from->fd) : NULL;

    if (z == NULL)
        return -1;
    z->is_fresh = from->is_fresh;
    z->users = from->users;
    if (!is_test)
        processes_map(zs, z);
    return 0;
}

static struct kept_zone *
zone_lend(struct zones *zs, const struct generation *g, const struct zone_shape *shape)
{
    struct kept_zone *z = zone_find(zs, shape);

    if (z == NULL) {
        const struct kept_zone *before = zone_before(zs, shape->name);

        errno = ENOSPC; /* too many zones */
        if (zs->n >= ZONES_MAX)
            return NULL;
        z = zone_add(zs, shape);
        if (z == NULL)
            return NULL;
        zone_say_afresh(before, shape, g);
    }
    z->users |= bit(g);
    processes_map(zs, z);
    if (zs->processes != NULL)
        atomic_fetch_or(&zs->processes->alive, bit(g));
    return z;
}

/* "processes" is only read by workers, and whoever has dropped its privileges cannot open it anew
 * for more.  The caller's to close; -1 with errno. */
static int
processes_descriptor(const struct kept_zone *z)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", z->fd);
    return fchmod(z->fd, 0600) == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

void
zones_answer(struct zones *zs, const struct generation *g, const struct message *asked)
{
    struct zone_shape shape = shape_asked(asked);
    const char *why = shape_refused(g, asked);
    const struct kept_zone *z = why == NULL ? zone_lend(zs, g, &shape) : NULL;
    int is_processes = z != NULL && strcmp(z->name, ZONE_PROCESSES) == 0;
    int fd = z == NULL ? -1 : is_processes ? processes_descriptor(z) : z->fd;
    struct message m;

    message_make(&m, MSG_ZONE_LENT, fd >= 0 ? NULL : why != NULL ? why : strerror(errno));
    m.number = z != NULL && z->is_fresh;
    generation_send(g, &m, fd);
    if (is_processes && fd >= 0)
        close(fd);
}

void
zones_filled(struct zones *zs, const struct generation *g)
{
    struct kept_zone *z;

    for (z = zs->first; z != NULL; z = z->next)
        if (z->users & bit(g))
            z->is_fresh = 0;
}

/* ---- ends ---- */

void
zones_process_ended(struct zones *zs, const struct generation *g)
{
    const struct kept_zone *z;

    for (z = zs->first; z != NULL; z = z->next)
        if ((z->users & bit(g)) && z->shape.stride > 0 &&
            fallocate(z->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(z->shape.shared + g->place * z->shape.stride),
                      (off_t)z->shape.stride) != 0)
            sl_log(SL_ERROR, "SL0325", "zone %s: what a dead process left cannot be cleared: %s",
                   z->name, strerror(errno));
    if (zs->processes != NULL)
        atomic_fetch_and(&zs->processes->alive, ~bit(g));
}

static void
zone_free(struct zones *zs, struct kept_zone *z)
{
    if (strcmp(z->name, ZONE_PROCESSES) == 0 && zs->processes != NULL) {
        munmap(zs->processes, zone_size(&z->shape));
        zs->processes = NULL;
    }
    close(z->fd);
    free(z);
    zs->n--;
}

void
zones_release(struct zones *zs, const struct generation *g)
{
    struct kept_zone **at = &zs->first, *z;

    while ((z = *at) != NULL) {
        z->users &= ~bit(g);
        if (z->users != 0) {
            at = &z->next;
            continue;
        }
        *at = z->next;
        zone_free(zs, z);
    }
    zones_place_give(zs, g->place);
}

/* ---- what the operator sees ---- */

void
zones_print(const struct master *ma, int client)
{
    const struct generation *g;
    const struct kept_zone *z;
    const char *between;

    control_print(client, "%-20s %-6s %-12s %s\n", "name", "layout", "size", "generations");
    for (z = ma->zones.first; z != NULL; z = z->next) {
        control_print(client, "%-20s %-6u %-12llu ", z->name, z->shape.layout,
                      (unsigned long long)zone_size(&z->shape));
        for (between = "", g = ma->generations; g != NULL; g = g->next)
            if (z->users & bit(g)) {
                control_print(client, "%s%u", between, g->id);
                between = ",";
            }
        control_print(client, "\n");
    }
}

/* The zone with counters of the generation that serves, in the layout that this program knows. */
static const struct kept_zone *
counters_zone(const struct master *ma)
{
    const struct kept_zone *z;

    for (z = ma->zones.first; z != NULL && ma->serving != NULL; z = z->next)
        if (strcmp(z->name, COUNTERS_ZONE) == 0 && (z->users & bit(ma->serving)))
            return z->shape.layout == COUNTERS_LAYOUT &&
                           z->shape.shared >= sizeof(struct counters_zone) ? z : NULL;
    return NULL;
}

void
counters_print(const struct master *ma, int client)
{
    const struct kept_zone *z = counters_zone(ma);
    const struct counters_zone *c = z == NULL ? MAP_FAILED
        : mmap(NULL, sizeof *c, PROT_READ, MAP_SHARED, z->fd, 0);
    unsigned n, i;

    if (c == MAP_FAILED) {
        control_print(client, "there are no counters this master can read\n");
        return;
    }
    n = atomic_load_explicit(&c->columns.n_used, memory_order_acquire);
    for (i = 0; i < n && i < COUNTERS_MAX; i++)
        control_print(client, "%.*s %lld\n", ZONE_NAME - 1, c->columns.names[i],
                      (long long)counters_column_sum(c, i));
    munmap((void *)(uintptr_t)c, sizeof *c);
}
