/* sluice ctl server: how servers fare, and what the operator says of them at run time; what
 * becomes of that is in override.c. */

#include "balancer.h"
#include "override.h"
#include "queue.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <time.h>

#define WEIGHT_MAX 256
#define NAME_JSON 600 /* room for a name as JSON */

struct balancer *
pool_find(const char *name, size_t n)
{
    struct balancer *b = NULL;

    while ((b = balancer_next(b)) != NULL)
        if (strlen(b->pool->name) == n && strncmp(b->pool->name, name, n) == 0)
            return b;
    return NULL;
}

/* The best of those that have this name or had it last: one that is there, one that leaves, one
 * that has left.  NULL: there is none. */
static struct sl_server *
name_find(const char *text)
{
    const char *slash = strchr(text, '/');
    struct balancer *b = slash != NULL ? pool_find(text, (size_t)(slash - text)) : NULL;
    struct sl_server *best = NULL;
    unsigned i;

    for (i = 0; b != NULL && i < b->pool->n_servers; i++) {
        struct sl_server *s = b->pool->servers[i];

        if (strcmp(s->name, slash + 1) != 0)
            continue;
        if (!sl_server_is_gone(s))
            return s;
        if (best == NULL || !server_is_shown(best))
            best = s;
    }
    return best;
}

struct sl_server *
server_find(const char *text)
{
    struct sl_server *s = name_find(text);

    return s != NULL && server_is_shown(s) ? s : NULL;
}

int
server_is_shown(const struct sl_server *s)
{
    return !sl_server_is_gone(s) || sl_server_active(s) > 0;
}

/* ---- list ---- */

static void
print_row(struct sl_control_call *call, const struct sl_server *s)
{
    apr_pool_t *pool = sl_control_pool(call);
    const char *said = override_text(pool, s), *when = override_when(pool, s);

    sl_control_print(call, "%-15s %-21s %-9s %6u %6u %7u  %s", s->pool->name, s->name,
                     condition_word(s), (unsigned)s->weight, s->level, sl_server_active(s),
                     s->flags & SL_SERVER_CHECKED ? "checked" : said[0] == '\0' ? "-" : "");
    if (said[0] != '\0')
        sl_control_print(call, "%s%s%s%s; the file says %s", s->flags & SL_SERVER_CHECKED ? ", " : "", said,
                         when[0] != '\0' ? " since " : "", when, override_line(pool, s));
    sl_control_print(call, "\n");
}

static void
print_json_text(struct sl_control_call *call, const char *key, const char *text, const char *end)
{
    char json[NAME_JSON];

    *sl_json_string(json, json + sizeof json - 1, sl_span(text)) = '\0';
    sl_control_print(call, "\"%s\": %s%s", key, json, end);
}

static void
print_json(struct sl_control_call *call, const struct sl_server *s)
{
    apr_pool_t *pool = sl_control_pool(call);

    print_json_text(call, "pool", s->pool->name, ", ");
    print_json_text(call, "server", s->name, ", ");
    print_json_text(call, "address", s->address, ", ");
    print_json_text(call, "state", condition_word(s), ", ");
    sl_control_print(call, "\"weight\": %u, \"level\": %u, \"active\": %u, \"maxconn\": %u, "
                     "\"is_checked\": %s, ", (unsigned)s->weight, s->level, sl_server_active(s),
                     s->maxconn, s->flags & SL_SERVER_CHECKED ? "true" : "false");
    print_json_text(call, "override", override_text(pool, s), ", ");
    print_json_text(call, "said_at", override_when(pool, s), ", ");
    print_json_text(call, "configured", override_line(pool, s), "");
}

/* name NULL: all pools.  The number of servers. */
static unsigned
list_print(struct sl_control_call *call, const char *name)
{
    int is_json = sl_control_wants_json(call);
    struct balancer *b = NULL;
    unsigned i, n = 0;

    while ((b = balancer_next(b)) != NULL)
        for (i = 0; i < b->pool->n_servers; i++) {
            if ((name != NULL && strcmp(b->pool->name, name) != 0)
                || !server_is_shown(b->pool->servers[i]))
                continue;
            if (is_json)
                sl_control_print(call, "%s\n  {", n > 0 ? "," : "");
            if (is_json)
                print_json(call, b->pool->servers[i]);
            else
                print_row(call, b->pool->servers[i]);
            if (is_json)
                sl_control_print(call, "}");
            n++;
        }
    return n;
}

static int
pool_is_defined(const char *name)
{
    struct balancer *b = NULL;

    while ((b = balancer_next(b)) != NULL)
        if (strcmp(b->pool->name, name) == 0)
            return 1;
    return 0;
}

static int
run_list(struct sl_control_call *call, int argc, const char *const *argv)
{
    const char *name = argc > 0 ? argv[0] : NULL;
    int is_json = sl_control_wants_json(call);
    unsigned n;

    if (name != NULL && !pool_is_defined(name)) {
        sl_control_print(call, "there is no pool \"%s\"\n", name);
        return 1;
    }
    if (is_json)
        sl_control_print(call, "[");
    else
        sl_control_print(call, "%-15s %-21s %-9s %6s %6s %7s  %s\n", "POOL", "SERVER", "STATE",
                         "WEIGHT", "LEVEL", "ACTIVE", "NOTES");
    n = list_print(call, name);
    if (is_json)
        sl_control_print(call, "%s]\n", n > 0 ? "\n" : "");
    else if (n == 0)
        sl_control_print(call, "there are no servers\n");
    return 0;
}

/* ---- why ---- */

static const char *
time_text(apr_pool_t *pool, int64_t at_us)
{
    time_t seconds = (time_t)(at_us / 1000000);
    struct tm tm;
    char text[32];

    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    return apr_psprintf(pool, "%s.%03dZ", text, (int)(at_us / 1000 % 1000));
}

static void
why_json(struct sl_control_call *call, const struct sl_server *s)
{
    struct sl_server_event e;
    unsigned i;

    sl_control_print(call, "{");
    print_json(call, s);
    sl_control_print(call, ", \"events\": [");
    for (i = 0; sl_server_event(s, i, &e); i++) {
        sl_control_print(call, "%s{", i > 0 ? ", " : "");
        print_json_text(call, "time", time_text(sl_control_pool(call), e.at_us), ", ");
        print_json_text(call, "event", e.text, "}");
    }
    sl_control_print(call, "]}\n");
}

/* What happened to it, the last first. */
static int
run_why(struct sl_control_call *call, struct sl_server *s, const char *unused)
{
    const struct balancer *b = s->pool->data;
    struct sl_server_event e;
    unsigned i;

    (void)unused;
    if (sl_control_wants_json(call)) {
        why_json(call, s);
        return 0;
    }
    sl_control_print(call, "%s/%s is %s, %u in flight", s->pool->name, s->name,
                     condition_word(s), sl_server_active(s));
    if (b->queue != NULL)
        sl_control_print(call, ", %u requests wait for the pool", queue_length(b->queue));
    sl_control_print(call, "\n");
    for (i = 0; sl_server_event(s, i, &e); i++)
        sl_control_print(call, "%s  %s\n", time_text(sl_control_pool(call), e.at_us), e.text);
    return 0;
}

/* ---- what the operator says ---- */

/* An answer that waits until what was said is kept. */
struct reply {
    struct sl_control_call *call;
    struct sl_server *s;
};

static void
print_kept(struct sl_control_call *call, enum sl_kept how, const char *why)
{
    switch (how) {
    case SL_KEPT:
        return;
    case SL_KEPT_NOWHERE:
        sl_control_print(call, "until the server stops: %s\n", why);
        return;
    case SL_KEPT_FAILED:
        sl_control_print(call, "it holds, but only until the server stops: it is not kept: %s\n", why);
        return;
    }
}

void
reply_end(void *data, enum sl_kept how, const char *why)
{
    struct reply *reply = data;
    struct sl_control_call *call = reply->call;
    const struct sl_server *s = reply->s;

    if (sl_control_wants_json(call)) {
        sl_control_print(call, "{");
        print_json(call, s);
        sl_control_print(call, ", \"is_kept\": %s, ", how == SL_KEPT ? "true" : "false");
        print_json_text(call, "why", how == SL_KEPT ? "" : why, "}\n");
    } else {
        sl_control_print(call, "%s/%s is %s, weight %u, %u in flight\n", s->pool->name, s->name,
                         condition_word(s), (unsigned)s->weight, sl_server_active(s));
        print_kept(call, how, why);
    }
    sl_control_end(&call, how == SL_KEPT_FAILED ? 1 : 0);
}

struct reply *
said(struct sl_control_call *call, struct sl_server *s, const char *what)
{
    struct reply *reply = apr_palloc(sl_control_pool(call), sizeof *reply);

    sl_server_note(s, sl_loop_wall_us(sl_loop_self()), apr_psprintf(sl_control_pool(call),
                                                                    "the operator: %s", what));
    sl_log(SL_NOTICE, "BALANCER0040", "pool %s: server %s: the operator says %s", s->pool->name,
           s->name, what);
    *reply = (struct reply){call, s};
    return reply;
}

static int
said_of(struct sl_control_call *call, struct sl_server *s, const char *what)
{
    override_keep(s, reply_end, said(call, s, what));
    return LATER;
}

static int
run_drain(struct sl_control_call *call, struct sl_server *s, const char *unused)
{
    (void)unused;
    override_admin(s, s->flags & SL_SERVER_DRAIN ? SL_ADMIN_NONE : SL_ADMIN_DRAIN);
    return said_of(call, s, "drain");
}

static int
run_disable(struct sl_control_call *call, struct sl_server *s, const char *unused)
{
    (void)unused;
    override_admin(s, SL_ADMIN_OFF);
    return said_of(call, s, "disable");
}

static int
run_enable(struct sl_control_call *call, struct sl_server *s, const char *unused)
{
    (void)unused;
    override_admin(s, s->flags & SL_SERVER_DRAIN ? SL_ADMIN_ON : SL_ADMIN_NONE);
    return said_of(call, s, "enable");
}

static int
no_memory(struct sl_control_call *call)
{
    sl_control_print(call, "no memory\n");
    return 1;
}

static int
run_reset(struct sl_control_call *call, struct sl_server *s, const char *unused)
{
    (void)unused;
    override_admin(s, SL_ADMIN_NONE);
    return override_weight(s, 0) < 0 ? no_memory(call) : said_of(call, s, "reset");
}

static int
run_weight(struct sl_control_call *call, struct sl_server *s, const char *text)
{
    char *end;
    long weight = strtol(text, &end, 10);

    if (*end != '\0' || weight < 1 || weight > WEIGHT_MAX) {
        sl_control_print(call, "expected a weight of 1 to 256, found \"%s\"; drain keeps new "
                         "requests away\n", text);
        return 2;
    }
    if (override_weight(s, (unsigned)weight) < 0)
        return no_memory(call);
    return said_of(call, s, apr_psprintf(sl_control_pool(call), "weight %ld", weight));
}

/* What was said of a server that is not configured any more. */
static void
forgotten(void *data, enum sl_kept how, const char *why)
{
    struct sl_control_call *call = data;

    if (how == SL_KEPT)
        sl_control_print(call, "what was said of it is forgotten\n");
    else
        sl_control_print(call, "it is not forgotten: %s\n", why);
    sl_control_end(&call, how == SL_KEPT ? 0 : 1);
}

static int
no_server(struct sl_control_call *call, const char *name)
{
    sl_control_print(call, "no server \"%s\": expected POOL/SERVER, as \"server list\" shows them\n",
                     name);
    return 1;
}

/* Reset, of one that is not there. */
static int
run_forget(struct sl_control_call *call, const char *name)
{
    struct sl_server *s = name_find(name);

    if (s != NULL && override_is_said(s))
        return run_reset(call, s, NULL);
    return override_forget(name, forgotten, call) ? LATER : no_server(call, name);
}

/* ---- the command ---- */

static const struct verb {
    const char *word;
    int argc; /* the server, and what follows it */
    /* The exit status, or LATER. */
    int (*run)(struct sl_control_call *call, struct sl_server *s, const char *arg);
} verbs[] = {
    {"why", 1, run_why},         {"drain", 1, run_drain}, {"enable", 1, run_enable},
    {"disable", 1, run_disable}, {"reset", 1, run_reset}, {"weight", 2, run_weight},
};

int
wrong_words(struct sl_control_call *call)
{
    sl_control_print(call, "expected server %s\n", server_command.usage);
    return 2;
}

static int
run_verb(struct sl_control_call *call, int argc, const char *const *argv)
{
    struct sl_server *s;
    size_t i;

    for (i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(argv[0], verbs[i].word) == 0)
            break;
    if (i == sizeof verbs / sizeof verbs[0] || argc - 1 != verbs[i].argc)
        return wrong_words(call);
    s = server_find(argv[1]);
    if (s == NULL && verbs[i].run == run_reset)
        return run_forget(call, argv[1]);
    if (s == NULL)
        return no_server(call, argv[1]);
    return verbs[i].run(call, s, argc > 2 ? argv[2] : NULL);
}

static void
server_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    int status;

    if (argc == 0 || (strcmp(argv[0], "list") == 0 && argc <= 2))
        status = run_list(call, argc > 0 ? argc - 1 : 0, argv + (argc > 0));
    else if (strcmp(argv[0], "add") == 0)
        status = run_add(call, argc - 1, argv + 1);
    else if (strcmp(argv[0], "remove") == 0)
        status = run_remove(call, argc - 1, argv + 1);
    else
        status = run_verb(call, argc, argv);
    if (status != LATER)
        sl_control_end(&call, status);
}

const struct sl_control_command server_command = {
    .usage = "list [POOL] | why|drain|enable|disable|reset POOL/SERVER | weight POOL/SERVER N | "
             "add POOL NAME ADDRESS [OPTION ...] | remove POOL/SERVER",
    .help = "how the servers of pools fare; gives them less or no new requests; adds some",
    .run = server_run,
};
