/* See worker_zones.h.  What a zone is to a process is runtime/zone.c's; who keeps it, and clears
 * the slots of the dead, is master/zones.c. */
#include "worker_zones.h"

#include "channel.h"
#include "runtime/counter.h"
#include "upstream/shared.h"

#include <stdio.h>
#include <unistd.h>

static int
zone_ask(void *data, const struct zone_shape *shape, int *is_fresh, char *why, size_t n)
{
    const struct sl_worker *w = data;
    struct message m;
    int fd;

    message_make(&m, MSG_ZONE, shape->name);
    m.port = (int32_t)shape->layout;
    m.number = (int64_t)shape->shared;
    m.backlog = (int32_t)(shape->stride / ZONE_PAGE);
    if (channel_ask(w->channel, &m, &fd) != 0 || m.kind != MSG_ZONE_LENT) {
        snprintf(why, n, "the master does not answer");
        return -1;
    }
    *is_fresh = m.number != 0;
    if (fd < 0)
        snprintf(why, n, "%s", m.text);
    return fd;
}

int
worker_zones_open(struct sl_worker *w)
{
    if (zones_open(w->channel >= 0 ? zone_ask : NULL, w, w->place) != 0 ||
        counters_open(w->n_threads) != 0)
        return -1;
    servers_share();
    return 0;
}
