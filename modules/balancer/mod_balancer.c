/* Pools of servers: <Balancer NAME> makes them, balancer://NAME leads to them.
 *
 * A pool may be named before it is defined, so the first of either makes it, and what is
 * missing in the end is told when the whole configuration has been read. */

/*man
NAME
    mod_balancer - pools of servers, sharing among them, health, another try after a failure
DESCRIPTION
    A <Balancer> section names a pool and its servers; ProxyPass balancer://NAME
    sends requests there.  Requests are shared by Method among the servers that may
    be used.

    A server is up, resting, probed or down.  It rests when requests fail there, as
    Eject says: for 1 second, then 2, 4, 8 and at most 10; after that it is probed: by
    a connection no request waits for, then by one request at a time, whose outcome
    decides.  It is down when its health checks fail, as HealthCheck says, and comes
    back when they succeed.  When no server is left, those that rest are used all the
    same; those that are down are not, and requests get 503 at once.  What is known of
    a server is kept through reloads and crashes; under another address it is a new
    one.

    A request that failed before any byte of an answer is tried on another server, as
    Retry says, when it is safe to repeat it.
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
    (1).  maxconn=N: it has at most N requests in flight, of all generations; more
    go to others or wait (Queue).  slowstart=TIME: a server that has come back, or
    was added by a reload, grows to its full share in this time.  priority=N, 0 to
    99: servers of a higher number are used when none of a lower one can be (0).
    backup keeps the server for when no other can be used.  drain gives it no new
    requests but those of clients that stay with it (Sticky).  check has its health
    checked, by tcp where there is no HealthCheck; check=off does not, where there
    is one; checkport=N: at another port.  A host name is looked up as mod_dns
    says; all its addresses are one server, and the first that can be reached is used.
    resolve or resolve=N: each of its addresses is a server, N at most (16), with a
    state and limits of its own, NAME@ADDRESS or ADDRESS in logs.  An address that
    leaves finishes what is in flight; one that comes back finds its state as it was.
    TARGET srv:NAME, such as srv:_http._tcp.example.com, with resolve: the servers of
    the SRV records of NAME, 64 at most; they have the weights these say (0 to 256, larger ones
    are scaled down), and lower priorities are used first, as with priority=.  Host
    and certificates are those of the name behind the underscores.  This needs mod_dns.
  Seats
    How many servers sluice ctl server add may bring into the pool.  They stand in
    no file: they are kept through reloads and crashes, with StateDir through a stop,
    too, until sluice ctl server remove.
  Method
    How requests are shared.  roundrobin, the default: in turn, by weight, in one
    rotation for all threads.  leastconn: to the server with the fewest requests
    in flight for its weight.  random2: two servers at random, and of these the one
    with fewer in flight.  ewma: the same, but the one that answers sooner, by a mean
    over its last responses.  first: the first server that has room (maxconn).  hash
    EXPR: equal values to the same server; when one comes or goes, only its own keys
    move.  bound=N passes a server over that has more than N per cent of the mean in
    flight.  iphash: the same by the client's address, of IPv6 its first half.  Other
    modules may bring more.
  HealthCheck
    HealthCheck tcp or HealthCheck uri=PATH: every server is asked, from thread 0.
    tcp is content with a connection (and the handshake of https://).  With uri=, the
    answer to method= (GET) with Host host= must have a status of expect= (200-399;
    several with commas) and, where body= is given, that text in its first 8 KiB.
    fall= checks that fail in a row (3) take a server out, rise= good ones (2) bring
    it back.  Checks come every interval= (2s), a tenth sooner or later, and every
    fast= (a quarter of it) while a server is in doubt or down; timeout= (1s) is for
    all of one.  Servers are up until a check says otherwise.
  Eject
    Which failures let a server rest.  errors=N: so many in a row (3); a refused or
    broken connection, no answer in time and a malformed one are failures.  ratio=N:
    N per cent of the attempts in the last window= (10s), if there were samples= (20)
    or more; for this a status of 500 to 599 is a failure, too (off).  panic=N: never
    when less than N per cent of the pool, by weight, would be left (25).
  Keepalive
    Keepalive N [idle=TIME] [life=TIME] keeps up to N idle connections to each server,
    per thread, for TIME.  0 or off closes each connection after its request.  Without
    the directive, 256 and 60s.  life=: no connection gets a request when it was opened
    that long ago, or up to a tenth less (off), so that servers behind another
    balancer, or behind a name, get new ones now and then.  A server that says how long
    it keeps a connection (Keep-Alive: timeout=N) is left a little sooner than that.
  Queue
    Queue N [timeout=TIME]: when every server that may be used has its maxconn= in
    flight, up to N requests wait, each for TIME (5s).  More, and those that waited
    in vain, get 503; the log says which.  maxconn=N limits the pool itself, within a
    generation.  priority=EXPR: a value of 0 to 9, 0 goes first; any other is 5.
    Without the directive nobody waits.
  Retry
    Retry on=LIST [max=N] [deadline=TIME] [budget=N]: which failures are tried on
    another server, N times at most.  LIST, with commas: connect (no connection came
    about), error (the connection broke before the head of an answer was whole, or the
    head is malformed), timeout (no connection or no answer in time), statuses of 400 to
    599, or none.  A request that a server may have acted on is tried elsewhere only if
    it may be repeated (GET, HEAD, OPTIONS, TRACE, PUT, DELETE), for a status only while
    there is another server.  deadline=: no retry when the request is older.  budget=N:
    at most N retries for a hundred requests, so that retries do not double the load of
    a pool that fails.  Without the directive, on=connect,error max=2.
  Sticky
    A client stays with the server it was given.  cookie=NAME: by a cookie that the
    server's answer is given, with path= (/), domain=, samesite= (Lax), secure,
    httponly (on) and maxage= (until the browser ends); its value tells nothing.
    route=EXPR: by a value of the request that is the server's NAME or ends with a
    dot and it, such as %{cookie:JSESSIONID}.  For a hash of the request, see Method.
    When its server is gone, full or out, the client is given another one; the log
    says so at level info.
  ServerTLS
    How https:// servers of the pool are spoken to: verify=, ca=, sni=, cert= and key=, as
    ProxyTLS of mod_tls says, which is needed.  Checks use the same.
  SendProxy
    Each connection to a server begins with a header of the PROXY protocol, which names the
    client and the address it came to, also before TLS. The server must expect it. Such a
    connection serves one request.
COMMANDS
    sluice ctl server tells of servers and gives them more or less to do while requests run:
        list [POOL]             states, weights, requests in flight
        why POOL/SERVER         what happened to it, the last first
        drain POOL/SERVER       no new clients; those of Sticky stay
        disable POOL/SERVER     nobody, whatever a cookie says
        enable POOL/SERVER      also one that the file drains
        weight POOL/SERVER N    at once
        reset POOL/SERVER       as the file says
        add POOL NAME ADDRESS   a server for one of the Seats
        remove POOL/SERVER      one that was added

    add takes weight=, maxconn=, slowstart=, priority=, backup and drain, as Server does. What was
    said holds through reloads and crashes, and with StateDir of sluice-core(8) beyond a stop; -T
    shows it below the line it was said of. With --json the answers are JSON.
EXAMPLE
    LoadModule route
    LoadModule balancer
    Listen 80
    <Balancer backend>
        Method leastconn
        Server 192.168.1.101:8080 slowstart=30s
        Server 192.168.1.102:8080 weight=2 maxconn=100
        Server spare=192.168.1.103:8080 backup
        HealthCheck uri=/healthz interval=2s rise=2 fall=3
        Eject errors=5 ratio=50 samples=50
        Queue 200 timeout=3s
        Retry on=connect,error,503 max=1 budget=20
        Sticky cookie=backend
        Keepalive 32 idle=30s
        Seats 8
    </Balancer>
    ProxyPass balancer://backend
*/

#include "balancer.h"
#include "override.h"
#include "server_line.h"
#include "sticky.h"

#define BUDGET_AT_FIRST 1000 /* hundredths of a retry: ten for a start */
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
    b->pool->data = b;
    b->retry_on = RETRY_CONNECT | RETRY_ERROR;
    b->retry_max = RETRY_MAX_DEFAULT;
    b->retry_deadline_ms = b->retry_budget = -1;
    b->budget = BUDGET_AT_FIRST;
    b->check = (struct check_conf){.is_tcp = 1, .method = "GET", .expect = "200-399",
                                   .interval_ms = 2000, .fast_ms = 500, .timeout_ms = 1000,
                                   .rise = 2, .fall = 3};
    b->rules = (struct health_rules){2, 3};
    b->eject = (struct eject_conf){.window_ms = 10000, .errors = 3, .ratio = -1, .samples = 20,
                                   .panic = 25};
    share_own(b);
    return b;
}

struct balancer *
balancer_next(const struct balancer *after)
{
    struct balancer *b = after != NULL ? after->next : all;

    while (b != NULL && b->defined_at == NULL)
        b = b->next;
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
    share_own(b);
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

/* What is known only when all lines of a section are. */
static void
balancer_finish(struct sl_worker *w, struct balancer *b)
{
    const struct sl_pool *pool = b->pool;
    unsigned i;

    for (i = 0; i < pool->n_servers; i++) {
        struct sl_server *s = pool->servers[i];
        const struct server_line *line = s->balancer_data;
        int is_checked = line->check == CHECK_UNSAID ? b->check_at != NULL : line->check;

        if (is_checked)
            s->flags |= SL_SERVER_CHECKED;
    }
    if (!b->check.is_tcp && pool->protocol != NULL)
        sl_worker_config_error(w, b->check_at, "HealthCheck: the servers of pool \"%s\" do not "
                               "speak HTTP/1.1, which a check does; use \"HealthCheck tcp\"",
                               pool->name);
}

static const struct sl_lint_rule unused_pool = {
    "unused-pool", "its servers get no request, and their checks are load for nothing",
    "name it in a ProxyPass, or take it away"};

/* Also under -t: a dry run asks the methods, too. */
static int
balancer_check(struct sl_worker *w)
{
    struct balancer *b;
    const char *name, *nearest;

    overrides_claim(w);
    for (b = all; b != NULL; b = b->next) {
        name = b->pool->name;
        if (b->defined_at != NULL) {
            if (b->n_server_lines == 0)
                sl_worker_config_error(w, b->defined_at, "Balancer: expected at least one "
                                       "Server line in the pool \"%s\"", name);
            balancer_finish(w, b);
            if (b->method != NULL && members_ready(b) < 0)
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
        if (members_ready(b) < 0)
            return -1;
    return 0;
}

/* Only one generation checks: the one that serves. */
static int
balancer_serves(struct sl_worker *w)
{
    if (overrides_take(w) != 0)
        return -1;
    checks_start(w);
    return 0;
}

static int
balancer_drains(struct sl_worker *w)
{
    (void)w;
    overrides_rest();
    checks_stop();
    return 0;
}

static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(balancer_check),
    SL_ON_POST_CONFIG(balancer_ready),
    SL_ON_READY(balancer_serves),
    SL_ON_DRAIN(balancer_drains),
    SL_HOOKS_END,
};

static const struct sl_target_provider target_provider = {.find = target_find};

static int
balancer_init(const struct sl_module *self)
{
    static const struct {
        const char *name;
        const struct sl_balance_method *method;
    } methods[] = {
        {"roundrobin", &roundrobin_method}, {"leastconn", &leastconn_method},
        {"random2", &random2_method},       {"ewma", &ewma_method},
        {"hash", &hash_method},             {"iphash", &iphash_method},
        {"first", &first_method},
    };
    size_t i;

    (void)self;
    if (sl_provider_register("target", "balancer", &target_provider) < 0
        || sl_provider_register("control", "server", &server_command) < 0)
        return -1;
    for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (sl_provider_register("balance", methods[i].name, methods[i].method) < 0)
            return -1;
    return 0;
}

SL_MODULE(balancer) = {
    .name = "balancer",
    .sections = sections,
    .hooks = hooks,
    .init = balancer_init,
};
