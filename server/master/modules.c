/* The modules of a generation as they were when it was accepted.  A file that is half installed,
 * or another one, is met by a reload, which can refuse it; not by a restart, which cannot. */
#include "master/generation.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
modules_keep(struct generation *g, const char *file, int fd)
{
    struct kept_module *k = calloc(1, sizeof *k);

    if (fd < 0 || k == NULL || (k->file = strdup(file)) == NULL) {
        if (fd >= 0)
            close(fd);
        free(k);
        return -1;
    }
    k->fd = fd;
    k->next = g->modules;
    g->modules = k;
    return 0;
}

int
modules_give(const struct generation *g)
{
    const struct kept_module *k;
    struct message m;

    for (k = g->modules; k != NULL; k = k->next) {
        message_make(&m, MSG_MODULE, k->file);
        if (generation_send(g, &m, k->fd) != 0)
            return -1;
    }
    return 0;
}

void
modules_release(struct generation *g)
{
    while (g->modules != NULL) {
        struct kept_module *k = g->modules;

        g->modules = k->next;
        close(k->fd);
        free(k->file);
        free(k);
    }
}
