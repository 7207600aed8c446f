/* The Server line: one server of the pool that is being read. */
#include "balancer.h"
#include "server_line.h"

#include <apr_strings.h>

#define WEIGHT_MAX 256
#define PORT_MAX 65535

static const char *const resolve_alone[] = {"16", NULL};

const struct sl_option server_options[] = {
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
    {"resolve", SL_SLOT_NUMBER, offsetof(struct server_line, n_seats), "off", resolve_alone,
     "All that the name leads to are servers, this many at most; alone: 16"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

/* What servers of a pool are told in nginx, HAProxy and httpd. */
static const struct {
    const char *word, *here;
} foreign[] = {
    {"down", "drain, or sluice ctl server disable while it runs"},
    {"max_fails", "Eject errors=N, a line of the Balancer"},
    {"fail_timeout", "Eject errors=N window=TIME, a line of the Balancer"},
    {"max_conns", "maxconn=N"},
    {"slow_start", "slowstart=TIME"},
    {"inter", "HealthCheck uri=PATH interval=TIME, a line of the Balancer"},
    {"rise", "HealthCheck uri=PATH rise=N, a line of the Balancer"},
    {"fall", "HealthCheck uri=PATH fall=N, a line of the Balancer"},
    {"ssl", "https:// before the address"},
    {"cookie", "Sticky cookie=NAME, a line of the Balancer"},
    {"route", "Sticky route=EXPR, a line of the Balancer, with the server's name"},
    {"loadfactor", "weight=N"},
    {"send-proxy", "SendProxy v1, a line of the Balancer"},
};

static const char *
foreign_check(struct sl_cmd *cmd)
{
    const char *arg;
    size_t k;
    int i;

    for (i = 1; (arg = sl_cmd_arg(cmd, i)) != NULL; i++)
        for (k = 0; k < sizeof foreign / sizeof foreign[0]; k++)
            if (strlen(foreign[k].word) == strcspn(arg, "=") &&
                strncmp(foreign[k].word, arg, strcspn(arg, "=")) == 0) {
                sl_cmd_cure(cmd, "here: %s", foreign[k].here);
                return "expected an option that servers have here";
            }
    return NULL;
}

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

/* The first that a line of its own names; NULL: none does yet. */
static const struct sl_server *
pool_first(const struct sl_pool *pool)
{
    unsigned i;

    for (i = 0; i < pool->n_servers; i++)
        if (!sl_server_is_gone(pool->servers[i]))
            return pool->servers[i];
    return NULL;
}

/* Pools speak one protocol over one transport: the first server decides. */
static const char *
pool_speak(struct sl_cmd *cmd, struct sl_pool *pool, const struct sl_scheme *scheme)
{
    const struct sl_server *first = pool_first(pool);

    if (first != NULL
        && (pool->protocol != scheme->protocol || pool->transport != scheme->transport))
        return sl_cmd_error(cmd, "the servers of a pool have one scheme; %s:// differs from "
                            "that of %s", scheme->name, first->name);
    pool->protocol = scheme->protocol;
    pool->transport = scheme->transport;
    return NULL;
}

static const char *
service_check(struct sl_cmd *cmd, const char *address, int64_t n_seats)
{
    if (strncmp(address, "srv:", 4) != 0)
        return NULL;
    if (n_seats < 0) {
        sl_cmd_cure(cmd, "Server %s resolve", address);
        return "srv: leads to servers, which need the option resolve";
    }
    if (sl_provider_name("resolver", 0) != NULL)
        return NULL;
    sl_cmd_cure(cmd, "LoadModule dns");
    return "srv: needs the module dns, which is not loaded";
}

static const char *
pool_add(struct sl_cmd *cmd, struct sl_pool *pool, const char *name, const char *target,
         int64_t n_seats, struct sl_server **server)
{
    struct sl_seats seats = {.name = name, .n = (unsigned)n_seats};
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
    err = service_check(cmd, address, n_seats);
    if (err == NULL)
        err = pool_speak(cmd, pool, &scheme);
    seats.target = address;
    seats.default_port = address != target ? scheme.default_port : 0;
    if (err == NULL && n_seats > 0)
        *server = sl_pool_add_seats(sl_cmd_pool(cmd), pool, &seats, &err);
    else if (err == NULL)
        *server = sl_pool_add(sl_cmd_pool(cmd), pool, name, address,
                              address != target ? scheme.default_port : 0, &err);
    return err;
}

const char *
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
    if (line->n_seats == 0 || line->n_seats > SEATS_MAX)
        return "expected resolve= of 1 to 1024, how many servers there may be";
    if (line->n_seats > 0 && strncmp(address, "srv:", 4) == 0 && line->weight != 1)
        return "the servers of SRV records have the weights of these";
    if (line->check_port < 0 || line->check_port > PORT_MAX)
        return "expected checkport= of 1 to 65535";
    if (line->check_port > 0 && strncmp(address, "unix:", 5) == 0)
        return "a Unix socket has no checkport=";
    return NULL;
}

unsigned
line_level(const struct server_line *line)
{
    return (unsigned)line->priority + (line->is_backup ? LEVEL_BACKUP : 0);
}

static void
server_fill(struct sl_server *s, struct server_line *line)
{
    s->weight = s->configured_weight = (unsigned)line->weight;
    s->maxconn = line->maxconn > 0 ? (unsigned)line->maxconn : 0;
    s->slowstart_ms = line->slowstart_ms > 0 ? (unsigned)line->slowstart_ms : 0;
    s->level = line_level(line);
    s->check_port = (int)line->check_port;
    s->flags = (line->is_backup ? SL_SERVER_BACKUP : 0u)
               | (line->is_drain ? SL_SERVER_DRAIN : 0u)
               | (s->flags & (SL_SERVER_SEAT | SL_SERVER_GONE));
    s->balancer_data = line;
}

const char *
server_parse(struct sl_cmd *cmd, void **item)
{
    struct server_line *line = apr_pcalloc(sl_cmd_pool(cmd), sizeof(*line));
    const char *text = sl_cmd_arg(cmd, 0), *name, *err;
    struct sl_server *server = NULL;
    unsigned i;

    section_pool->n_server_lines++;
    if (text == NULL)
        return "expected the address of a server";
    *line = SERVER_LINE_DEFAULT;
    line->place = sl_cmd_place(cmd);
    err = foreign_check(cmd);
    if (err == NULL)
        err = sl_cmd_options(cmd, 1, server_options, line);
    if (err != NULL)
        return err;
    name = server_name(cmd, &text);
    if (name != NULL && name[0] == '\0')
        return "expected a name before '='";
    err = line_check(line, text);
    if (err == NULL)
        err = pool_add(cmd, section_pool->pool, name, text, line->n_seats, &server);
    if (err != NULL)
        return err;
    for (i = 0; i < line->n_seats || i == 0; i++)
        server_fill(section_pool->pool->servers[server->index + i], line);
    *item = server;
    return NULL;
}
