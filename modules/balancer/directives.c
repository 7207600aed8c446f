/* The lines of a <Balancer> section: servers and how they are used.  Each fills in the pool of
 * the section being read.  What comes with a later version is refused by name: a configuration
 * never believes in a health check that nobody makes. */
#include "balancer.h"

#include <apr_strings.h>

#define WEIGHT_MAX 256

struct balancer *section_pool;

/* ---- Server ---- */

struct server_options {
    int64_t weight;
    int is_backup;
    int is_drain;
};

static const struct sl_option server_options[] = {
    {"weight", SL_SLOT_NUMBER, offsetof(struct server_options, weight), "1", NULL,
     "The server's share, 1 to 256"},
    {"backup", SL_SLOT_FLAG, offsetof(struct server_options, is_backup), "off", NULL,
     "Used when no other server can be"},
    {"drain", SL_SLOT_FLAG, offsetof(struct server_options, is_drain), "off", NULL,
     "Gets no new requests"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

/* An option of a later version must not look like a misspelt one. */
static const char *
later_check(struct sl_cmd *cmd, int from, const char *const *later)
{
    int i;

    for (i = from; i < sl_cmd_argc(cmd); i++) {
        const char *arg = sl_cmd_arg(cmd, i);
        size_t k, n = strcspn(arg, "=");

        for (k = 0; later[k] != NULL; k++)
            if (strlen(later[k]) == n && strncmp(later[k], arg, n) == 0)
                return sl_cmd_error(cmd, "the option %s is not in this version", later[k]);
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
server_parse(struct sl_cmd *cmd, void **item)
{
    static const char *const later[] = {"maxconn",  "slowstart", "priority",
                                        "check",    "resolve",   NULL};
    struct server_options options = {.weight = 1};
    const char *text = sl_cmd_arg(cmd, 0), *name, *err;
    struct sl_server *server = NULL;

    section_pool->n_server_lines++;
    if (text == NULL)
        return "expected the address of a server";
    err = later_check(cmd, 1, later);
    if (err == NULL)
        err = sl_cmd_options(cmd, 1, server_options, &options);
    if (err != NULL)
        return err;
    if (options.weight < 1 || options.weight > WEIGHT_MAX)
        return "expected a weight of 1 to 256; drain keeps new requests away";
    name = server_name(cmd, &text);
    if (name != NULL && name[0] == '\0')
        return "expected a name before '='";
    err = pool_add(cmd, section_pool->pool, name, text, &server);
    if (err != NULL)
        return err;
    server->weight = (unsigned)options.weight;
    server->flags = (options.is_backup ? SL_SERVER_BACKUP : 0u)
                    | (options.is_drain ? SL_SERVER_DRAIN : 0u);
    *item = server;
    return NULL;
}

/* ---- Method, Keepalive, Retry ---- */

/* A line that may stand once in a section: *place is where it stood first. */
static const char *
once(struct sl_cmd *cmd, const char **place)
{
    if (*place != NULL)
        return sl_cmd_error(cmd, "already given for this pool at %s", *place);
    *place = sl_cmd_place(cmd);
    return NULL;
}

static const char *
method_unknown(struct sl_cmd *cmd, const char *name)
{
    const char *known, *list = "";
    unsigned i;

    for (i = 0; (known = sl_provider_name("balance", i)) != NULL; i++)
        list = apr_psprintf(sl_cmd_pool(cmd), "%s%s%s", list, i > 0 ? ", " : "", known);
    return sl_cmd_error(cmd, "expected a method (%s), found \"%s\"", list, name);
}

const char *
method_set(struct sl_cmd *cmd, struct balancer *b, const char *name)
{
    const struct sl_balance_method *method = sl_provider_find("balance", name);

    if (method == NULL)
        return method_unknown(cmd, name);
    b->method = method;
    return method->setup(cmd, b->pool, &b->method_data);
}

static const char *
method_parse(struct sl_cmd *cmd, void **item)
{
    const char *err = once(cmd, &section_pool->method_at);

    *item = section_pool;
    if (err != NULL)
        return err;
    return method_set(cmd, section_pool, sl_cmd_argc(cmd) > 0 ? sl_cmd_arg(cmd, 0) : "");
}

struct keepalive_options {
    int64_t idle_ms;
};

static const struct sl_option keepalive_options[] = {
    {"idle", SL_SLOT_DURATION, offsetof(struct keepalive_options, idle_ms), "60s", NULL,
     "How long an idle connection is kept"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
keepalive_parse(struct sl_cmd *cmd, void **item)
{
    static const char *const later[] = {"life", NULL};
    struct sl_pool *pool = section_pool->pool;
    struct keepalive_options options = {.idle_ms = pool->keepalive_idle_ms};
    const char *n = sl_cmd_arg(cmd, 0), *err = once(cmd, &section_pool->keepalive_at);

    *item = section_pool;
    if (err != NULL)
        return err;
    if (n == NULL)
        return "expected how many idle connections are kept";
    if (strcmp(n, "off") == 0)
        pool->keepalive = 0;
    else
        err = sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_NUMBER, n, &pool->keepalive);
    if (err == NULL && pool->keepalive < 0)
        err = "expected how many idle connections are kept, a number";
    if (err == NULL)
        err = later_check(cmd, 1, later);
    if (err == NULL)
        err = sl_cmd_options(cmd, 1, keepalive_options, &options);
    pool->keepalive_idle_ms = options.idle_ms;
    return err;
}

struct retry_options {
    const char *on;
    int64_t max;
};

static const struct sl_option retry_options[] = {
    {"on", SL_SLOT_STRING, offsetof(struct retry_options, on), "connect,error", NULL,
     "Failures that are tried again: connect, error, timeout or none"},
    {"max", SL_SLOT_NUMBER, offsetof(struct retry_options, max), "2", NULL,
     "Attempts beyond the first"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
retry_list_parse(struct sl_cmd *cmd, const char *list, unsigned *on)
{
    static const struct {
        const char *word;
        unsigned bit;
    } words[] = {{"connect", RETRY_CONNECT}, {"error", RETRY_ERROR}, {"timeout", RETRY_TIMEOUT}};
    const size_t n_words = sizeof(words) / sizeof(words[0]);

    *on = 0;
    if (strcmp(list, "none") == 0)
        return NULL;
    for (;;) {
        size_t k = 0, n = strcspn(list, ",");

        while (k < n_words && !(strlen(words[k].word) == n && memcmp(list, words[k].word, n) == 0))
            k++;
        if (k == n_words)
            return sl_cmd_error(cmd, "expected on= connect, error, timeout (several with "
                                "commas) or none alone, found \"%.*s\"", (int)n, list);
        *on |= words[k].bit;
        if (list[n] == '\0')
            return NULL;
        list += n + 1;
    }
}

static const char *
retry_parse(struct sl_cmd *cmd, void **item)
{
    static const char *const later[] = {"deadline", "budget", NULL};
    struct retry_options options = {.on = "connect,error", .max = RETRY_MAX_DEFAULT};
    const char *err = once(cmd, &section_pool->retry_at);

    *item = section_pool;
    if (err == NULL && sl_cmd_argc(cmd) == 0)
        err = "expected on=LIST, max=N or both";
    if (err == NULL)
        err = later_check(cmd, 0, later);
    if (err == NULL)
        err = sl_cmd_options(cmd, 0, retry_options, &options);
    if (err == NULL)
        err = retry_list_parse(cmd, options.on, &section_pool->retry_on);
    if (err != NULL)
        return err;
    if (options.max < 0 || options.max > 100)
        return "expected max= between 0 and 100";
    section_pool->retry_max = (unsigned)options.max;
    return NULL;
}

/* The options are the transport's own. */
static const char *
server_tls_parse(struct sl_cmd *cmd, void **item)
{
    const struct sl_transport *tls = sl_provider_find("transport", "tls");

    *item = section_pool;
    if (tls != NULL && tls->server_options != NULL)
        return tls->server_options(cmd, section_pool->pool);
    sl_cmd_cure(cmd, "LoadModule tls");
    return "needs the module tls, which is not loaded";
}

static const char *
send_proxy_parse(struct sl_cmd *cmd, void **item)
{
    const char *version = sl_cmd_arg(cmd, 0);

    *item = section_pool;
    if (version == NULL || (strcmp(version, "v1") != 0 && strcmp(version, "v2") != 0))
        return "expected v1 or v2";
    section_pool->pool->send_proxy = version[1] - '0';
    return sl_cmd_argc(cmd) == 1 ? NULL : "expected nothing behind the version";
}

static const char *
later_parse(struct sl_cmd *cmd, void **item)
{
    (void)item;
    sl_cmd_cure(cmd, "leave the line out");
    return "is not in this version";
}

const struct sl_directive balancer_directives[] = {
    SL_LINES("Server", struct balancer_conf, servers, server_parse, SL_IN_GLOBAL,
             "[NAME=]TARGET [weight=N] [backup] [drain]", "One server of the pool"),
    {"Method", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, method), "roundrobin",
     "How requests are shared among servers", "roundrobin|leastconn|NAME [ARG ...]", method_parse,
     NULL, NULL},
    {"Keepalive", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, keepalive),
     "64 idle=60s", "Idle connections kept, per server and thread", "N [idle=TIME]",
     keepalive_parse, NULL, NULL},
    {"Retry", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, retry),
     "on=connect,error max=2", "Which failures are tried on another server", "on=LIST [max=N]",
     retry_parse, NULL, NULL},
    SL_LINES("HealthCheck", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_LINES("Eject", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_LINES("Queue", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_LINES("Sticky", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_PARSED("ServerTLS", struct balancer_conf, tls, server_tls_parse, SL_IN_GLOBAL,
              "[verify=] [ca=] [sni=] [cert=] [key=]", "How https:// servers are verified"),
    SL_PARSED("SendProxy", struct balancer_conf, send_proxy, send_proxy_parse, SL_IN_GLOBAL,
              "v1|v2",
              "Begins connections with a PROXY header that names the client"),
    SL_DIRECTIVES_END,
};
