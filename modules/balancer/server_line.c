/* The Server line: one server of the pool that is being read. */
#include "balancer.h"
#include "server_line.h"

#include <apr_strings.h>

#define WEIGHT_MAX 256
#define PORT_MAX 65535

static const struct sl_option server_options[] = {
    {"weight", SL_SLOT_NUMBER, offsetof(struct server_line, weight), "1", NULL,
     "The server's share, 1 to 256"},
    {"maxconn", SL_SLOT_NUMBER, offsetof(struct server_line, maxconn), "off", NULL,
     "Requests in flight at most"},
    {"slowstart", SL_SLOT_DURATION, offsetof(struct server_line, slowstart_ms), "off", NULL,
     "Time to grow to its full share in"},
    {"priority", SL_SLOT_NUMBER, offsetof(struct server_line, priority), "0", NULL,
     "Servers of a higher number wait for those of the lower to fail, 0 to 99"},
    {"backup", SL_SLOT_FLAG, offsetof(struct server_line, is_backup), "off", NULL,
     "Used when no other server can be"},
    {"drain", SL_SLOT_FLAG, offsetof(struct server_line, is_drain), "off", NULL,
     "Gets no new requests"},
    {"check", SL_SLOT_FLAG, offsetof(struct server_line, check), "off", NULL,
     "Whether its health is checked"},
    {"checkport", SL_SLOT_NUMBER, offsetof(struct server_line, check_port), "0", NULL,
     "Another port for the check"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

/* "web1=10.0.0.1:80" -> "web1"; NULL: no name stands before the address. */
static const char *
server_name(struct sl_cmd *cmd, const char **text)
{
    size_t n = strcspn(*text, "=:/[");
    const char *name;

    if ((*text)[n] != '=')
        return NULL;
    name = apr_pstrndup(sl_cmd_pool(cmd), *text, n);
    *text += n + 1;
    return name;
}

/* Pools speak one protocol over one transport: the first server decides. */
static const char *
pool_speak(struct sl_cmd *cmd, struct sl_pool *pool, const struct sl_scheme *scheme)
{
    if (pool->n_servers > 0
        && (pool->protocol != scheme->protocol || pool->transport != scheme->transport))
        return sl_cmd_error(cmd, "the servers of a pool have one scheme; %s:// differs from "
                            "that of %s", scheme->name, pool->servers[0]->name);
    pool->protocol = scheme->protocol;
    pool->transport = scheme->transport;
    return NULL;
}

static const char *
pool_add(struct sl_cmd *cmd, struct sl_pool *pool, const char *name, const char *target,
         struct sl_server **server)
{
    struct sl_scheme scheme;
    const char *address, *err = sl_scheme_parse(cmd, target, &scheme, &address);
    int is_unix;
    unsigned i;

    if (err != NULL)
        return err;
    is_unix = strncmp(address, "unix:", 5) == 0;
    if (!is_unix && strchr(address, '/') != NULL)
        return "a server has no path; a path belongs to ProxyPass";
    for (i = 0; i < pool->n_servers; i++)
        if (strcmp(pool->servers[i]->name, name != NULL ? name : address) == 0)
            return sl_cmd_error(cmd, "the pool has a server %s already", pool->servers[i]->name);
    err = pool_speak(cmd, pool, &scheme);
    if (err == NULL)
        *server = sl_pool_add(sl_cmd_pool(cmd), pool, name, address,
                              address != target ? scheme.default_port : 0, &err);
    return err;
}

static const char *
line_check(const struct server_line *line, const char *address)
{
    if (line->weight < 1 || line->weight > WEIGHT_MAX)
        return "expected a weight of 1 to 256; drain keeps new requests away";
    if (line->maxconn == 0 || line->maxconn > INT32_MAX)
        return "expected maxconn= of 1 or more; drain keeps new requests away";
    if (line->priority < 0 || line->priority > LEVEL_MAX)
        return "expected priority= of 0 to 99";
    if (line->slowstart_ms > INT32_MAX)
        return "expected slowstart= of at most 24 days";
    if (line->check_port < 0 || line->check_port > PORT_MAX)
        return "expected checkport= of 1 to 65535";
    if (line->check_port > 0 && strncmp(address, "unix:", 5) == 0)
        return "a Unix socket has no checkport=";
    return NULL;
}

static void
server_fill(struct sl_server *s, struct server_line *line)
{
    s->weight = s->configured_weight = (unsigned)line->weight;
    s->maxconn = line->maxconn > 0 ? (unsigned)line->maxconn : 0;
    s->slowstart_ms = line->slowstart_ms > 0 ? (unsigned)line->slowstart_ms : 0;
    s->level = (unsigned)line->priority + (line->is_backup ? LEVEL_BACKUP : 0);
    s->check_port = (int)line->check_port;
    s->flags = (line->is_backup ? SL_SERVER_BACKUP : 0u)
               | (line->is_drain ? SL_SERVER_DRAIN : 0u);
    s->balancer_data = line;
}

const char *
server_parse(struct sl_cmd *cmd, void **item)
{
    static const char *const later[] = {"resolve", NULL};
    struct server_line *line = apr_pcalloc(sl_cmd_pool(cmd), sizeof(*line));
    const char *text = sl_cmd_arg(cmd, 0), *name, *err;
    struct sl_server *server = NULL;

    section_pool->n_server_lines++;
    if (text == NULL)
        return "expected the address of a server";
    *line = (struct server_line){.weight = 1, .maxconn = -1, .slowstart_ms = -1,
                                 .check = CHECK_UNSAID, .place = sl_cmd_place(cmd)};
    err = later_check(cmd, 1, later);
    if (err == NULL)
        err = sl_cmd_options(cmd, 1, server_options, line);
    if (err != NULL)
        return err;
    name = server_name(cmd, &text);
    if (name != NULL && name[0] == '\0')
        return "expected a name before '='";
    err = line_check(line, text);
    if (err == NULL)
        err = pool_add(cmd, section_pool->pool, name, text, &server);
    if (err != NULL)
        return err;
    server_fill(server, line);
    *item = server;
    return NULL;
}
