/* Pools of servers: <Balancer NAME> makes them, balancer://NAME leads to them.
 *
 * A pool may be named before it is defined, so the first of either makes it, and what is
 * missing in the end is told when the whole configuration has been read.  What comes with a
 * later version is refused by name: a configuration never believes in a health check that
 * nobody makes. */

/*man
NAME
    mod_balancer - pools of servers, sharing among them, another try after a failure
DESCRIPTION
    A <Balancer> section names a pool and its servers; ProxyPass balancer://NAME
    sends requests there.  Requests are shared by Method.  A server that refuses
    or resets connections, or closes them without an answer, rests for 1 second,
    then 2, 4, 8 and at most 10; meanwhile the others do its work.  When all
    servers rest they are used all the same.  A request that failed before any
    byte of an answer is tried on another server, as Retry says, when it is safe
    to repeat it.
SECTIONS
  Balancer
    <Balancer NAME> defines a pool.  The name consists of letters, digits, '.',
    '_' and '-'.  The section stands outside all others; it may come before or
    after the ProxyPass lines that name it.
DIRECTIVES
  Server
    One server: Server [NAME=]TARGET [OPTION ...].  TARGET is HOST:PORT,
    [IPV6]:PORT, unix:/PATH, http://HOST[:PORT] or another scheme that a loaded
    module speaks, the same for all servers of the pool.  NAME appears in logs; it
    is the address if none is given.  weight=N, 1 to 256, is the server's share
    (1).  backup keeps the server for when no other can be used.  drain gives it
    no new requests.  The options maxconn, slowstart, priority, check and resolve
    are not in this version.  Host names are looked up at the start and every 30
    seconds.
  Method
    How requests are shared.  roundrobin, the default: in turn, by weight, in one
    rotation for all threads.  leastconn: to the server with the fewest requests
    in flight for its weight.  Other modules may bring more.
  Keepalive
    Keepalive N [idle=TIME] keeps up to N idle connections to each server, per
    thread, for TIME.  0 or off closes each connection after its request.  Without
    the directive, 64 and 60s.  life= is not in this version.
  Retry
    Retry on=LIST [max=N]: which failures are tried on another server, N times at
    most.  LIST, with commas: connect (no connection came about), error (the
    connection broke before an answer), timeout (no connection or no answer in
    time), or none.  Without the directive, on=connect,error max=2.  deadline= and
    budget= are not in this version.
  HealthCheck
    Not in this version: an error.
  Eject
    Not in this version: an error.
  Queue
    Not in this version: an error.
  Sticky
    Not in this version: an error.
  ServerTLS
    Not in this version: an error.
  SendProxy
    Not in this version: an error.
EXAMPLE
    <Balancer backend>
        Method leastconn
        Server 192.168.1.101:8080
        Server 192.168.1.102:8080 weight=2
        Server spare=192.168.1.103:8080 backup
        Keepalive 32 idle=30s
        Retry on=connect,error max=1
    </Balancer>
    ProxyPass balancer://backend
*/

#include "balancer.h"

#include <apr_strings.h>

#define WEIGHT_MAX 256
#define RETRY_MAX_DEFAULT 2
#define NAME_MAX_DISTANCE 3 /* names further off are not offered as meant */

/* The lines of one section; the pool itself is filled in as they are read. */
struct balancer_conf {
    apr_array_header_t *servers, *later;
    void *method, *keepalive, *retry;
};

/* One process has one configuration, and find() is called for other modules' lines: so
 * the pools are found here, and forgotten with the memory they are in. */
static struct balancer *all;
static struct balancer *open_section; /* NULL: none */

static apr_status_t
forget_all(void *unused)
{
    (void)unused;
    all = NULL;
    open_section = NULL;
    return APR_SUCCESS;
}

static struct balancer *
balancer_make(apr_pool_t *pool, const char *name)
{
    struct balancer *b = apr_pcalloc(pool, sizeof(*b));

    b->pool = sl_pool_make(pool, name);
    b->pool->owner = &share_owner;
    b->pool->data = b;
    b->retry_on = RETRY_CONNECT | RETRY_ERROR;
    b->retry_max = RETRY_MAX_DEFAULT;
    return b;
}

static struct balancer *
balancer_find(apr_pool_t *pool, const char *name)
{
    struct balancer **at;

    if (all == NULL)
        apr_pool_cleanup_register(pool, NULL, forget_all, apr_pool_cleanup_null);
    for (at = &all; *at != NULL; at = &(*at)->next)
        if (strcmp((*at)->pool->name, name) == 0)
            return *at;
    *at = balancer_make(pool, name);
    return *at;
}

static const char *
name_check(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._-";

    if (name == NULL || name[0] == '\0')
        return "expected the name of a pool";
    if (name[strspn(name, allowed)] != '\0')
        return "the name of a pool may have letters, digits, '.', '_' and '-'";
    return NULL;
}

static const char *
target_find(struct sl_cmd *cmd, const char *name, struct sl_pool **pool)
{
    const char *err = name_check(name);
    struct balancer *b;

    if (err != NULL)
        return err;
    b = balancer_find(sl_cmd_pool(cmd), name);
    if (b->used_at == NULL)
        b->used_at = sl_cmd_place(cmd);
    *pool = b->pool;
    return NULL;
}

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

    open_section->n_server_lines++;
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
    err = pool_add(cmd, open_section->pool, name, text, &server);
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

static const char *
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
    const char *err = once(cmd, &open_section->method_at);

    *item = open_section;
    if (err != NULL)
        return err;
    return method_set(cmd, open_section, sl_cmd_argc(cmd) > 0 ? sl_cmd_arg(cmd, 0) : "");
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
    struct sl_pool *pool = open_section->pool;
    struct keepalive_options options = {.idle_ms = pool->keepalive_idle_ms};
    const char *n = sl_cmd_arg(cmd, 0), *err = once(cmd, &open_section->keepalive_at);

    *item = open_section;
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
    const char *err = once(cmd, &open_section->retry_at);

    *item = open_section;
    if (err == NULL && sl_cmd_argc(cmd) == 0)
        err = "expected on=LIST, max=N or both";
    if (err == NULL)
        err = later_check(cmd, 0, later);
    if (err == NULL)
        err = sl_cmd_options(cmd, 0, retry_options, &options);
    if (err == NULL)
        err = retry_list_parse(cmd, options.on, &open_section->retry_on);
    if (err != NULL)
        return err;
    if (options.max < 0 || options.max > 100)
        return "expected max= between 0 and 100";
    open_section->retry_max = (unsigned)options.max;
    return NULL;
}

static const char *
later_parse(struct sl_cmd *cmd, void **item)
{
    (void)item;
    sl_cmd_cure(cmd, "leave the line out");
    return "is not in this version";
}

static const struct sl_directive directives[] = {
    SL_LINES("Server", struct balancer_conf, servers, server_parse, SL_IN_GLOBAL,
             "[NAME=]TARGET [weight=N] [backup] [drain]", "One server of the pool"),
    SL_PARSED("Method", struct balancer_conf, method, method_parse, SL_IN_GLOBAL,
              "roundrobin|leastconn|NAME [ARG ...]", "How requests are shared among servers"),
    SL_PARSED("Keepalive", struct balancer_conf, keepalive, keepalive_parse, SL_IN_GLOBAL,
              "N [idle=TIME]", "Idle connections kept, per server and thread"),
    SL_PARSED("Retry", struct balancer_conf, retry, retry_parse, SL_IN_GLOBAL,
              "on=LIST [max=N]", "Which failures are tried on another server"),
    SL_LINES("HealthCheck", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_LINES("Eject", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_LINES("Queue", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_LINES("Sticky", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_LINES("ServerTLS", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_LINES("SendProxy", struct balancer_conf, later, later_parse, SL_IN_GLOBAL, "...",
             "Not in this version"),
    SL_DIRECTIVES_END,
};

/* ---- the section ---- */

/* A section whose opening is wrong still gets a pool, which nobody else knows, so that its
 * lines are checked as well. */
static const char *
section_open(struct sl_cmd *cmd, struct sl_scope *scope)
{
    const char *name = sl_cmd_arg(cmd, 0), *err = name_check(name);
    struct balancer *b = NULL;

    (void)scope;
    if (err == NULL && sl_cmd_argc(cmd) > 1)
        err = "expected one name";
    if (err == NULL)
        b = balancer_find(sl_cmd_pool(cmd), name);
    if (b != NULL && b->defined_at != NULL)
        err = sl_cmd_error(cmd, "the pool %s is defined already at %s", name, b->defined_at);
    open_section = err == NULL ? b : balancer_make(sl_cmd_pool(cmd), "");
    open_section->defined_at = sl_cmd_place(cmd);
    return err;
}

static const char *
section_close(struct sl_cmd *cmd, void *conf)
{
    struct balancer *b = open_section;

    (void)conf;
    open_section = NULL;
    return b->method_at == NULL ? method_set(cmd, b, "roundrobin") : NULL;
}

static const struct sl_section sections[] = {
    {
        .name = "Balancer",
        .kind = SL_SECTION_OBJECT,
        .where = SL_IN_GLOBAL,
        .open = section_open,
        .close = section_close,
        .directives = directives,
        .conf_size = sizeof(struct balancer_conf),
        .args = "NAME",
        .help = "A pool of servers, for ProxyPass balancer://NAME",
    },
    SL_SECTIONS_END,
};

/* ---- the whole ---- */

/* Letters to insert, delete or replace until a is b; names are short. */
static size_t
name_distance(const char *a, const char *b)
{
    size_t row[64], i, k, n = strlen(b), diagonal, above;

    if (n >= sizeof(row) / sizeof(row[0]))
        return NAME_MAX_DISTANCE + 1;
    for (k = 0; k <= n; k++)
        row[k] = k;
    for (i = 0; a[i] != '\0'; i++) {
        diagonal = row[0];
        row[0] = i + 1;
        for (k = 1; k <= n; k++) {
            above = row[k];
            row[k] = diagonal + (a[i] != b[k - 1]);
            if (row[k] > above + 1)
                row[k] = above + 1;
            if (row[k] > row[k - 1] + 1)
                row[k] = row[k - 1] + 1;
            diagonal = above;
        }
    }
    return row[n];
}

static const char *
nearest_defined(const char *name)
{
    const struct balancer *b;
    const char *nearest = NULL;
    size_t distance, least = NAME_MAX_DISTANCE + 1;

    for (b = all; b != NULL; b = b->next) {
        distance = name_distance(name, b->pool->name);
        if (b->defined_at != NULL && distance < least) {
            least = distance;
            nearest = b->pool->name;
        }
    }
    return nearest;
}

static int
balancer_check(struct sl_worker *w)
{
    const struct balancer *b;
    const char *name, *nearest;

    for (b = all; b != NULL; b = b->next) {
        name = b->pool->name;
        if (b->defined_at != NULL) {
            if (b->n_server_lines == 0)
                sl_worker_config_error(w, b->defined_at, "Balancer: expected at least one "
                                       "Server line in the pool \"%s\"", name);
            continue;
        }
        nearest = nearest_defined(name);
        sl_worker_config_error(w, b->used_at, "balancer://%s: no <Balancer %s> defines it%s%s%s",
                               name, name, nearest != NULL ? "; did you mean \"" : "",
                               nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "");
    }
    return 0;
}

static int
balancer_ready(struct sl_worker *w)
{
    struct balancer *b;

    (void)w;
    for (b = all; b != NULL; b = b->next)
        if (b->method->ready(b->pool, b->method_data) < 0)
            return -1;
    return 0;
}

static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(balancer_check),
    SL_ON_POST_CONFIG(balancer_ready),
    SL_HOOKS_END,
};

static const struct sl_target_provider target_provider = {.find = target_find};

static int
balancer_init(const struct sl_module *self)
{
    (void)self;
    if (sl_provider_register("target", "balancer", &target_provider) < 0
        || sl_provider_register("balance", "roundrobin", &roundrobin_method) < 0
        || sl_provider_register("balance", "leastconn", &leastconn_method) < 0)
        return -1;
    return 0;
}

SL_MODULE(balancer) = {
    .name = "balancer",
    .sections = sections,
    .hooks = hooks,
    .init = balancer_init,
};
