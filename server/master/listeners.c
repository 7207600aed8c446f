/* The listening sockets.  They are opened once and shared: a reload, a crash and a restart
 * find the same ones, with the clients that wait in their backlog. */
#include "master/generation.h"
#include "net/listener.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int
listener_find(const struct listeners *ls, const struct message *m)
{
    int i;

    for (i = 0; i < ls->n; i++) {
        const struct kept_listener *l = &ls->at[i];

        if (l->fd >= 0 && l->family == m->family && l->port == m->port &&
            strcmp(l->address, m->text) == 0)
            return i;
    }
    return -1;
}

/* A place nobody uses, or a new one; -1 when there is none. */
static int
listener_place(struct listeners *ls)
{
    int i;

    for (i = 0; i < ls->n; i++)
        if (ls->at[i].fd < 0)
            return i;
    return ls->n < LISTENERS_MAX ? ls->n++ : -1;
}

static int
listener_add(struct listeners *ls, const struct message *m, char *why, size_t n)
{
    struct kept_listener l = {.family = m->family, .port = m->port};
    int i;

    if (m->n_text >= sizeof l.address) {
        snprintf(why, n, "too long an address");
        return -1;
    }
    l.fd = listener_open(m->family, m->text, m->port, m->backlog, why, n);
    if (l.fd < 0)
        return -1;
    i = listener_place(ls);
    if (i < 0) {
        close(l.fd);
        snprintf(why, n, "more than %d listeners", LISTENERS_MAX);
        return -1;
    }
    memcpy(l.address, m->text, m->n_text + 1);
    ls->at[i] = l;
    return i;
}

void
listeners_answer(struct listeners *ls, struct generation *g, const struct message *asked)
{
    struct message m;
    char why[256] = "";
    int i = listener_find(ls, asked);

    if (i < 0)
        i = listener_add(ls, asked, why, sizeof why);
    if (i >= 0 && !g->uses[i]) {
        g->uses[i] = 1;
        ls->at[i].n_users++;
    }
    message_make(&m, MSG_LISTENER, i < 0 ? why : NULL);
    generation_send(g, &m, i < 0 ? -1 : ls->at[i].fd);
}

void
listeners_release(struct listeners *ls, struct generation *g)
{
    int i;

    for (i = 0; i < ls->n; i++) {
        struct kept_listener *l = &ls->at[i];

        if (!g->uses[i])
            continue;
        g->uses[i] = 0;
        if (--l->n_users > 0)
            continue;
        close(l->fd);
        l->fd = -1;
        if (l->family == AF_UNIX)
            unlink(l->address);
    }
}
