/* The lines of a <Balancer> section but for its servers.  Each fills in the pool of the section
 * being read. */
#include "balancer.h"
#include "check_http.h"
#include "queue.h"
#include "sticky.h"

#include <apr_strings.h>

#define TIMES_MAX_MS 86400000

struct balancer *section_pool;

/* ---- Method, Keepalive, Retry ---- */

const char *
line_once(struct sl_cmd *cmd, const char **place)
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
    const char *err;

    if (method == NULL)
        return method_unknown(cmd, name);
    err = method->setup(cmd, b->pool, &b->method_data);
    if (err == NULL)
        b->method = method;
    return err;
}

static const char *
method_parse(struct sl_cmd *cmd, void **item)
{
    const char *err = line_once(cmd, &section_pool->method_at);

    *item = section_pool;
    if (err != NULL)
        return err;
    return method_set(cmd, section_pool, sl_cmd_argc(cmd) > 0 ? sl_cmd_arg(cmd, 0) : "");
}

struct keepalive_options {
    int64_t idle_ms, life_ms;
};

static const struct sl_option keepalive_options[] = {
    {"idle", SL_SLOT_DURATION, offsetof(struct keepalive_options, idle_ms), "60s", NULL,
     "How long an idle connection is kept"},
    {"life", SL_SLOT_DURATION, offsetof(struct keepalive_options, life_ms), "off", NULL,
     "How long a connection is used at all"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
keepalive_parse(struct sl_cmd *cmd, void **item)
{
    struct sl_pool *pool = section_pool->pool;
    struct keepalive_options options = {pool->keepalive_idle_ms, -1};
    const char *n = sl_cmd_arg(cmd, 0), *err = line_once(cmd, &section_pool->keepalive_at);

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
        err = sl_cmd_options(cmd, 1, keepalive_options, &options);
    if (err != NULL)
        return err;
    if (options.idle_ms == 0)
        return "expected idle= of 1ms or more, or off for no limit; Keepalive off keeps none";
    if (options.life_ms == 0)
        return "expected life= of 1ms or more, or off";
    pool->keepalive_idle_ms = options.idle_ms;
    pool->keepalive_life_ms = options.life_ms;
    return NULL;
}

struct retry_options {
    const char *on;
    int64_t max, deadline_ms, budget;
};

static const struct sl_option retry_options[] = {
    {"on", SL_SLOT_STRING, offsetof(struct retry_options, on), "connect,error", NULL,
     "Failures that are tried again: connect, error, timeout, statuses, or none"},
    {"max", SL_SLOT_NUMBER, offsetof(struct retry_options, max), "2", NULL,
     "Attempts beyond the first"},
    {"deadline", SL_SLOT_DURATION, offsetof(struct retry_options, deadline_ms), "off", NULL,
     "No retry when the request is older"},
    {"budget", SL_SLOT_NUMBER, offsetof(struct retry_options, budget), "off", NULL,
     "Retries a hundred requests may cause"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static int
is_status(const char *word, size_t n)
{
    return n == 3 && word[0] >= '4' && word[0] <= '5' && word[1] >= '0' && word[1] <= '9'
           && word[2] >= '0' && word[2] <= '9';
}

static void
statuses_add(struct sl_statuses *set, const char *word)
{
    unsigned i = (unsigned)((word[0] - '0') * 100 + (word[1] - '0') * 10 + word[2] - '0')
                 - SL_STATUS_FIRST;

    set->bits[i / 64] |= UINT64_C(1) << i % 64;
}

static const char *
retry_list_parse(struct sl_cmd *cmd, const char *list, struct balancer *b)
{
    static const struct {
        const char *word;
        unsigned bit;
    } words[] = {{"connect", RETRY_CONNECT}, {"error", RETRY_ERROR}, {"timeout", RETRY_TIMEOUT}};
    const size_t n_words = sizeof(words) / sizeof(words[0]);

    b->retry_on = 0;
    if (strcmp(list, "none") == 0)
        return NULL;
    for (;;) {
        size_t k = 0, n = strcspn(list, ",");

        while (k < n_words && !(strlen(words[k].word) == n && memcmp(list, words[k].word, n) == 0))
            k++;
        if (k < n_words)
            b->retry_on |= words[k].bit;
        else if (is_status(list, n))
            statuses_add(&b->retry_statuses, list);
        else
            return sl_cmd_error(cmd, "expected on= connect, error, timeout, statuses of 400 to "
                                "599 (several with commas) or none alone, found \"%.*s\"",
                                (int)n, list);
        if (list[n] == '\0')
            return NULL;
        list += n + 1;
    }
}

static const char *
retry_parse(struct sl_cmd *cmd, void **item)
{
    struct retry_options o = {"connect,error", RETRY_MAX_DEFAULT, -1, -1};
    struct balancer *b = section_pool;
    const char *err = line_once(cmd, &b->retry_at);

    *item = b;
    if (err == NULL && sl_cmd_argc(cmd) == 0)
        err = "expected on=LIST, max=N, deadline=TIME or budget=N";
    if (err == NULL)
        err = sl_cmd_options(cmd, 0, retry_options, &o);
    if (err == NULL)
        err = retry_list_parse(cmd, o.on, b);
    if (err != NULL)
        return err;
    if (o.max < 0 || o.max > 100)
        return "expected max= between 0 and 100";
    if (o.budget > 100)
        return "expected budget= between 0 and 100, retries a hundred requests may cause";
    b->retry_max = (unsigned)o.max;
    b->retry_deadline_ms = o.deadline_ms;
    b->retry_budget = o.budget;
    return NULL;
}

/* ---- HealthCheck, Eject ---- */

static const struct sl_option check_options[] = {
    {"tcp", SL_SLOT_FLAG, offsetof(struct check_conf, is_tcp), "off", NULL,
     "A connection is enough"},
    {"uri", SL_SLOT_STRING, offsetof(struct check_conf, uri), NULL, NULL,
     "The path that is asked for"},
    {"method", SL_SLOT_TOKEN, offsetof(struct check_conf, method), "GET", NULL, "The method"},
    {"host", SL_SLOT_STRING, offsetof(struct check_conf, host), NULL, NULL,
     "The Host that is asked for; by default the server's address"},
    {"expect", SL_SLOT_STRING, offsetof(struct check_conf, expect), "200-399", NULL,
     "Good statuses"},
    {"body", SL_SLOT_STRING, offsetof(struct check_conf, body), NULL, NULL,
     "A text the answer's body must have in its first 8 KiB"},
    {"interval", SL_SLOT_DURATION, offsetof(struct check_conf, interval_ms), "2s", NULL,
     "From one check to the next"},
    {"fast", SL_SLOT_DURATION, offsetof(struct check_conf, fast_ms), NULL, NULL,
     "The same while a server is in doubt or down; by default a quarter of it"},
    {"timeout", SL_SLOT_DURATION, offsetof(struct check_conf, timeout_ms), "1s", NULL,
     "Time for a whole check"},
    {"rise", SL_SLOT_NUMBER, offsetof(struct check_conf, rise), "2", NULL,
     "Good checks in a row that bring a server back"},
    {"fall", SL_SLOT_NUMBER, offsetof(struct check_conf, fall), "3", NULL,
     "Failed ones that take it out"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
request_check(const struct check_conf *c)
{
    const char *byte;

    if (c->is_tcp)
        return c->uri != NULL || c->body != NULL || c->host != NULL
            ? "tcp asks nothing: it has no uri=, host= and body=" : NULL;
    if (c->uri == NULL)
        return "expected tcp or uri=PATH";
    if (c->uri[0] != '/')
        return "expected uri= to begin with '/'";
    for (byte = c->uri; *byte != '\0'; byte++)
        if (*byte <= ' ' || *byte >= 0x7f)
            return "expected uri= without blanks; they are written %20";
    for (byte = c->host != NULL ? c->host : ""; *byte != '\0'; byte++)
        if (*byte <= ' ' || *byte >= 0x7f)
            return "expected host= without blanks";
    return NULL;
}

static const char *
check_parse(struct sl_cmd *cmd, void **item)
{
    struct balancer *b = section_pool;
    struct check_conf *c = &b->check;
    const char *err = line_once(cmd, &b->check_at);

    *item = b;
    c->is_tcp = 0;
    c->fast_ms = -1;
    if (err == NULL)
        err = sl_cmd_options(cmd, 0, check_options, c);
    if (err == NULL)
        err = request_check(c);
    if (err != NULL)
        return err;
    if (c->interval_ms < 100 || c->interval_ms > TIMES_MAX_MS)
        return "expected interval= between 100ms and 1d";
    if (c->timeout_ms < 1 || c->timeout_ms > TIMES_MAX_MS)
        return "expected timeout= between 1ms and 1d";
    if (c->rise < 1 || c->rise > 255 || c->fall < 1 || c->fall > 255)
        return "expected rise= and fall= between 1 and 255";
    if (c->fast_ms < 0)
        c->fast_ms = c->interval_ms / 4 > 100 ? c->interval_ms / 4 : 100;
    c->ranges = apr_palloc(sl_cmd_pool(cmd), sizeof(*c->ranges));
    b->rules = (struct health_rules){(unsigned)c->rise, (unsigned)c->fall};
    return check_ranges_parse(c->expect, c->ranges);
}

static const struct sl_option eject_options[] = {
    {"errors", SL_SLOT_NUMBER, offsetof(struct eject_conf, errors), "3", NULL,
     "Failures in a row that let a server rest"},
    {"ratio", SL_SLOT_NUMBER, offsetof(struct eject_conf, ratio), "off", NULL,
     "Per cent of failures and 5xx that do"},
    {"window", SL_SLOT_DURATION, offsetof(struct eject_conf, window_ms), "10s", NULL,
     "The time ratio= looks back"},
    {"samples", SL_SLOT_NUMBER, offsetof(struct eject_conf, samples), "20", NULL,
     "Attempts in it at least, for ratio="},
    {"panic", SL_SLOT_NUMBER, offsetof(struct eject_conf, panic), "25", NULL,
     "Per cent of the pool that is never taken out this way"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
eject_parse(struct sl_cmd *cmd, void **item)
{
    struct eject_conf *e = &section_pool->eject;
    const char *err = line_once(cmd, &section_pool->eject_at);

    *item = section_pool;
    if (err == NULL)
        err = sl_cmd_options(cmd, 0, eject_options, e);
    if (err != NULL)
        return err;
    if (e->errors == 0 || e->errors > 1000000)
        return "expected errors= of 1 or more, or off";
    if (e->ratio == 0 || e->ratio > 100)
        return "expected ratio= between 1 and 100, per cent, or off";
    if (e->window_ms < 100 || e->window_ms > TIMES_MAX_MS)
        return "expected window= between 100ms and 1d";
    if (e->samples < 1 || e->samples > 1000000)
        return "expected samples= of 1 or more";
    if (e->panic < 0 || e->panic > 100)
        return "expected panic= between 0 and 100, per cent";
    return NULL;
}

/* ---- Queue, Sticky ---- */

struct queue_options {
    int64_t timeout_ms, in_flight;
    const char *priority;
};

static const struct sl_option queue_options[] = {
    {"timeout", SL_SLOT_DURATION, offsetof(struct queue_options, timeout_ms), "5s", NULL,
     "How long a request waits"},
    {"maxconn", SL_SLOT_NUMBER, offsetof(struct queue_options, in_flight), "off", NULL,
     "Requests of the pool in flight at most"},
    {"priority", SL_SLOT_STRING, offsetof(struct queue_options, priority), NULL, NULL,
     "A value of 0, the first, to 9 that says who goes first; any other is 5"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
queue_parse(struct sl_cmd *cmd, void **item)
{
    struct queue_options o = {5000, -1, NULL};
    const char *n = sl_cmd_arg(cmd, 0), *err = line_once(cmd, &section_pool->queue_at);
    struct sl_expr *priority = NULL;
    int64_t n_max = 0;

    *item = section_pool;
    if (err == NULL && n == NULL)
        err = "expected how many requests may wait";
    if (err == NULL)
        err = sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_NUMBER, n, &n_max);
    if (err == NULL)
        err = sl_cmd_options(cmd, 1, queue_options, &o);
    if (err == NULL && o.priority != NULL)
        priority = sl_expr_compile(sl_cmd_pool(cmd), o.priority, SL_PHASE_ROUTED, &err);
    if (err != NULL)
        return err;
    if (n_max < 0 || n_max > 1000000)
        return "expected how many requests may wait, 0 to 1000000";
    if (o.timeout_ms < 1 || o.timeout_ms > TIMES_MAX_MS)
        return "expected timeout= between 1ms and 1d";
    if (o.in_flight == 0)
        return "expected maxconn= of 1 or more";
    section_pool->queue = queue_make(sl_cmd_pool(cmd), n_max, o.timeout_ms,
                                     o.in_flight > 0 ? o.in_flight : 0, priority);
    return NULL;
}

static const char *
sticky_parse(struct sl_cmd *cmd, void **item)
{
    const char *err = line_once(cmd, &section_pool->sticky_at);

    *item = section_pool;
    return err != NULL ? err : sticky_parse_line(cmd, &section_pool->sticky);
}

/* ---- others ---- */

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

const struct sl_directive balancer_directives[] = {
    SL_LINES("Server", struct balancer_conf, servers, server_parse, SL_IN_GLOBAL,
             "[NAME=]TARGET [weight=N] [maxconn=N] [slowstart=TIME] [priority=N] [backup] [drain] "
             "[check] [checkport=N] [resolve[=N]]", "One server of the pool, or what a name leads to"),
    {"Method", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, method), "roundrobin",
     "How requests are shared among servers",
     "roundrobin|leastconn|random2|ewma|first|iphash|hash EXPR [bound=N]|NAME [ARG ...]",
     method_parse, NULL, NULL},
    {"HealthCheck", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, check), NULL,
     "How the servers are checked; by default they are not",
     "tcp|uri=PATH [method=] [host=] [expect=] [body=] [interval=] [fast=] [timeout=] [rise=] "
     "[fall=]", check_parse, NULL, NULL},
    {"Eject", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, eject),
     "errors=3 panic=25", "Which failures of requests let a server rest",
     "[errors=N] [ratio=N] [window=TIME] [samples=N] [panic=N]", eject_parse, NULL, NULL},
    {"Keepalive", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, keepalive),
     "256 idle=60s", "Idle connections kept, per server and thread",
     "N [idle=TIME] [life=TIME]",
     keepalive_parse, NULL, NULL},
    {"Queue", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, queue), NULL,
     "How many requests wait for a server with room; by default none",
     "N [timeout=TIME] [maxconn=N] [priority=EXPR]", queue_parse, NULL, NULL},
    {"Retry", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, retry),
     "on=connect,error max=2", "Which failures are tried on another server",
     "on=LIST [max=N] [deadline=TIME] [budget=N]", retry_parse, NULL, NULL},
    {"Sticky", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, sticky), NULL,
     "How a client stays with a server; by default it does not",
     "cookie=NAME [path=] [domain=] [samesite=] [secure] [httponly] [maxage=]|route=EXPR",
     sticky_parse, NULL, NULL},
    {"Seats", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct balancer_conf, seats), NULL,
     "How many servers the operator may add at run time; by default none", "N", seats_parse, NULL, NULL},
    SL_PARSED("ServerTLS", struct balancer_conf, tls, server_tls_parse, SL_IN_GLOBAL,
              "[verify=] [ca=] [sni=] [cert=] [key=]", "How https:// servers are verified"),
    SL_PARSED("SendProxy", struct balancer_conf, send_proxy, send_proxy_parse, SL_IN_GLOBAL,
              "v1|v2",
              "Begins connections with a PROXY header that names the client"),
    SL_DIRECTIVES_END,
};
