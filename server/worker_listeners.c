/* The listeners of a worker: what each Listen line speaks, its descriptor, which the master
 * gives or, without one, is opened here, and when it is closed.  Opening a socket and accepting
 * from it are net/listener.c's; which sockets outlive a worker is master/listeners.c's. */
#include "worker_listeners.h"

#include "channel.h"
#include "config/load.h"
#include "net/listener.h"

#include "sluice/provider.h"

#include <stdio.h>
#include <unistd.h>

/* ---- made from the configuration ---- */

static struct sl_scope *
default_scope(const struct config *c)
{
    int i;

    for (i = 0; i < c->scopes->nelts; i++) {
        struct sl_scope *s = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *);

        if (s->kind == SL_SCOPE_HOST)
            return s;
    }
    return config_global(c);
}

static void
listener_protocols(apr_pool_t *pool, struct listener *l)
{
    const apr_array_header_t *names = l->scope->core->protocols;
    int n = names != NULL ? names->nelts : 0, i;

    l->protocols = apr_pcalloc(pool, (size_t)(n + 1) * sizeof *l->protocols);
    for (i = 0; i < n; i++) {
        const char *name = APR_ARRAY_IDX(names, i, const char *);
        const struct sl_protocol *p = sl_provider_find("protocol", name);

        if (p != NULL)
            l->protocols[l->n_protocols++] = p;
    }
    if (l->n_protocols == 0)
        l->protocols[l->n_protocols++] = sl_provider_find("protocol", "http/1.1");
}

static struct head_limits
limits_loosest(const struct config *c)
{
    struct head_limits most = {0, 0, 0};
    int i;

    for (i = 0; i < c->scopes->nelts; i++) {
        const struct core_conf *core = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *)->core;

        if ((size_t)core->limit_line > most.line)
            most.line = (size_t)core->limit_line;
        if ((size_t)core->limit_head > most.head)
            most.head = (size_t)core->limit_head;
        if ((unsigned)core->limit_fields > most.n_fields)
            most.n_fields = (unsigned)core->limit_fields;
    }
    return most;
}

static void
listener_make(struct sl_worker *w, apr_pool_t *pool, struct listener *l,
              const struct listen_conf *conf, const struct head_limits *limits)
{
    l->conf = conf;
    l->fd = -1;
    l->scope = default_scope(w->config);
    l->limits = *limits;
    listener_protocols(pool, l);
}

struct listener *
worker_listener_assumed(struct sl_worker *w, apr_pool_t *pool, const struct listen_conf *conf)
{
    struct head_limits limits = limits_loosest(w->config);
    struct listener *l = apr_pcalloc(pool, sizeof *l);

    listener_make(w, pool, l, conf, &limits);
    return l;
}

void
worker_listeners_make(struct sl_worker *w)
{
    struct head_limits limits = limits_loosest(w->config);
    const apr_array_header_t *lines = config_global(w->config)->core->listen;
    int i;

    w->n_listeners = lines != NULL ? (unsigned)lines->nelts : 0;
    w->listeners = apr_pcalloc(w->pool, (w->n_listeners + 1) * sizeof *w->listeners);
    for (i = 0; i < (int)w->n_listeners; i++)
        listener_make(w, w->pool, &w->listeners[i],
                      APR_ARRAY_IDX(lines, i, struct listen_conf *), &limits);
}

static void
protocol_unknown(struct sl_worker *w, const char *place, const char *name)
{
    int is_h2 = strcmp(name, "h2") == 0;

    sl_worker_config_error(w, place, "Protocols: no loaded module speaks \"%s\"\n    cure: %s", name,
                           is_h2 ? "write \"LoadModule http2\""
                                 : "http/1.1 is always there, h2 is brought by LoadModule http2");
}

void
worker_protocols_check(struct sl_worker *w)
{
    int i, k;

    for (i = 0; i < w->config->scopes->nelts; i++) {
        const struct sl_scope *s = APR_ARRAY_IDX(w->config->scopes, i, struct sl_scope *);
        const apr_array_header_t *names = s->core->protocols;

        if (names == NULL || (s->parent != NULL && s->parent->core->protocols == names))
            continue;
        for (k = 0; k < names->nelts; k++)
            if (sl_provider_find("protocol", APR_ARRAY_IDX(names, k, const char *)) == NULL)
                protocol_unknown(w, core_place(w->config, s, "Protocols"), APR_ARRAY_IDX(names, k, const char *));
    }
}

int
sl_worker_listen(const struct sl_worker *w, unsigned i, struct sl_listen *l)
{
    if (i >= w->n_listeners)
        return 0;
    *l = (struct sl_listen){w->listeners[i].conf->text, w->listeners[i].conf->place,
                            w->listeners[i].conf->transport, w->listeners[i].scope};
    return 1;
}

/* ---- opened and closed ---- */

static int
listener_ask(int channel, const struct listen_conf *conf, const char *address, char *why, size_t n)
{
    struct message m;
    int fd = -1;

    message_make(&m, MSG_LISTEN, address);
    m.family = conf->family;
    m.port = conf->port;
    m.backlog = conf->backlog;
    if (channel_ask(channel, &m, &fd) != 0 || m.kind != MSG_LISTENER) {
        snprintf(why, n, "the master does not answer");
        return -1;
    }
    if (fd < 0)
        snprintf(why, n, "%s", m.text);
    return fd;
}

int
worker_listeners_open(struct sl_worker *w)
{
    unsigned i, n_failed = 0;

    for (i = 0; i < w->n_listeners; i++) {
        struct listener *l = &w->listeners[i];
        char text[64], why[CHANNEL_TEXT] = "";
        const char *address = listener_address(l->conf, text, sizeof text);

        l->fd = w->channel >= 0
                    ? listener_ask(w->channel, l->conf, address, why, sizeof why)
                    : listener_open(l->conf->family, address, l->conf->port, l->conf->backlog, why,
                                    sizeof why);
        if (l->fd < 0) {
            config_error(w->config, l->conf->place, NULL, "Listen %s: %s", l->conf->text, why);
            n_failed++;
        }
    }
    return n_failed > 0 ? -1 : 0;
}

void
worker_listeners_close(struct sl_worker *w)
{
    unsigned i;

    if (atomic_load(&w->n_accepting) > 0 || atomic_load(&w->leaving) == LEAVING_NOT ||
        atomic_exchange(&w->listeners_closed, 1))
        return;
    for (i = 0; i < w->n_listeners; i++) {
        close(w->listeners[i].fd);
        w->listeners[i].fd = -1;
    }
}
