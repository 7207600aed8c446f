/* Pools of servers: <Balancer NAME> makes them, balancer://NAME leads to them.
 *
 * A pool may be named before it is defined, so the first of either makes it, and what is
 * missing in the end is told when the whole configuration has been read. */

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
    How https:// servers of the pool are spoken to: verify=, ca=, sni=, cert= and key=, as
    ProxyTLS of mod_tls says, which is needed.
  SendProxy
    Each connection to a server begins with a header of the PROXY protocol, which names the
    client and the address it came to, also before TLS. The server must expect it. Such a
    connection serves one request.
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

#define NAME_MAX_DISTANCE 3 /* names further off are not offered as meant */

/* One process has one configuration, and find() is called for other modules' lines: so
 * the pools are found here, and forgotten with the memory they are in. */
static struct balancer *all;

static apr_status_t
forget_all(void *unused)
{
    (void)unused;
    all = NULL;
    section_pool = NULL;
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
    section_pool = err == NULL ? b : balancer_make(sl_cmd_pool(cmd), "");
    section_pool->defined_at = sl_cmd_place(cmd);
    return err;
}

static const char *
section_close(struct sl_cmd *cmd, void *conf)
{
    struct balancer *b = section_pool;

    (void)conf;
    section_pool = NULL;
    return b->method_at == NULL ? method_set(cmd, b, "roundrobin") : NULL;
}

static const struct sl_section sections[] = {
    {
        .name = "Balancer",
        .kind = SL_SECTION_OBJECT,
        .where = SL_IN_GLOBAL,
        .open = section_open,
        .close = section_close,
        .directives = balancer_directives,
        .conf_size = sizeof(struct balancer_conf),
        .args = "NAME",
        .help = "A pool of servers, for ProxyPass balancer://NAME",
    },
    SL_SECTIONS_END,
};

/* ---- the whole ---- */

static const char *
nearest_defined(const char *name)
{
    const struct balancer *b;
    const char *nearest = NULL;
    unsigned distance, least = NAME_MAX_DISTANCE + 1;

    for (b = all; b != NULL; b = b->next) {
        distance = sl_name_distance(name, b->pool->name);
        if (b->defined_at != NULL && distance < least) {
            least = distance;
            nearest = b->pool->name;
        }
    }
    return nearest;
}

/* Also under -t: a dry run asks the methods, too. */
static const struct sl_lint_rule unused_pool = {
    "unused-pool", "its servers get no request, and their checks are load for nothing",
    "name it in a ProxyPass, or take it away"};

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
            if (b->method != NULL && b->method->ready(b->pool, b->method_data) < 0)
                return -1;
            if (b->used_at == NULL)
                sl_lint(w, &unused_pool, b->defined_at, "no line sends requests to balancer://%s",
                        name);
            continue;
        }
        nearest = nearest_defined(name);
        sl_worker_config_error(w, b->used_at, "balancer://%s: no <Balancer %s> defines it%s%s%s",
                               name, name, nearest != NULL ? "; did you mean \"" : "",
                               nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "");
    }
    return 0;
}

/* Again, for now it is known where servers are counted. */
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
