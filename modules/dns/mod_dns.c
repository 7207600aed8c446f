/* Names by c-ares, in the loop of thread 0.
 *
 * c-ares tells which of its sockets wait for what, and how long it waits for them; both become the
 * loop's.  While the loop does not run yet, the sockets are polled. */

/*man
NAME
    mod_dns - names of servers are looked up without a thread, for as long as records say
DESCRIPTION
    Where this module is loaded, names of servers are asked of name servers over
    UDP, and TCP where an answer is too long, from the loop of thread 0. /etc/hosts
    and the search list of /etc/resolv.conf hold as they do for the system;
    localhost, and what ends in .localhost, is what /etc/hosts says, or else the
    loopback addresses, and asked of no name server. An answer is used for the TTL of its
    records, or for 30 s where /etc/hosts has it, within ttl= of Resolver; then it is asked
    for again. After a failure, also of a part of the questions, that is tried after 1 s,
    then 2, 4, 8, at most 30 s.

    What was found last stays in use when a question fails, and when the name is
    said not to exist; the log tells it once, and when it is over. A record that
    changes breaks no request: those in flight end where they are, and the next
    ones go where the record leads. No name keeps the server from starting: it
    waits for answers for 2 s, and then starts without.

    Names of A and AAAA records are asked for both, by themselves: when one of the
    two fails, what was found of it last stays beside the other. SRV records
    (Server srv:NAME resolve, see mod_balancer) need this module.

    Without it names are looked up by the C library on other threads, every 30 s.
DIRECTIVES
  Resolver
    The name servers that are asked, in this order; without any, those of
    /etc/resolv.conf. timeout= is how long one is given for an answer; each is
    asked twice. ttl=MIN-MAX are the bounds of what records say of themselves.
EXAMPLE
    LoadModule route
    LoadModule balancer
    LoadModule dns
    Listen 80
    Resolver 192.168.1.2 192.168.1.3:5353 timeout=1s ttl=5s-2m
    <Balancer app>
        Server app.example.test:8080 resolve
    </Balancer>
    ProxyPass balancer://app
*/

#include "dns.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#define TIMEOUT_MAX_MS 60000
#define TTL_MAX_MS 86400000
#define TRIES 2

/* c-ares from 1.31 on keeps answers itself, for up to an hour; qcache_max_ttl 0 has it ask whenever
 * it is asked: how long an answer is used is for ttl= of Resolver to say. */
#ifdef ARES_OPT_QUERY_CACHE
#define NO_CACHE ARES_OPT_QUERY_CACHE
#else
#define NO_CACHE 0
#endif

struct resolver_conf {
    void *resolver; /* struct dns_conf */
};

static const struct dns_conf defaults = {.timeout_ms = 2000, .least_ms = 1000, .most_ms = 300000};

/* One of c-ares's sockets. */
struct socket {
    struct socket *next;
    int fd;
    unsigned what;
    struct sl_descriptor *descriptor;
};

/* Thread 0's. */
static struct {
    struct sl_loop *loop; /* NULL: nothing was asked yet */
    ares_channel channel;
    struct sl_timer timer;
    struct socket *sockets;
    const struct dns_conf *conf;
} dns;

/* ---- Resolver ---- */

struct options {
    int64_t timeout_ms;
    const char *ttl;
};

static const struct sl_option options[] = {
    {"timeout", SL_SLOT_DURATION, offsetof(struct options, timeout_ms), "2s", NULL,
     "How long a name server is given for an answer"},
    {"ttl", SL_SLOT_STRING, offsetof(struct options, ttl), "1s-5m", NULL,
     "The least and the longest time an answer is used"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
port_check(const char *text)
{
    size_t n = strspn(text, "0123456789");

    return n == 0 || n > 5 || text[n] != '\0' || atoi(text) < 1 || atoi(text) > 65535
               ? "expected a port between 1 and 65535 behind the colon" : NULL;
}

/* "192.168.1.2", "192.168.1.2:53", "2001:db8::1" or "[2001:db8::1]:53", as c-ares reads it. */
static const char *
server_parse(struct sl_cmd *cmd, const char *text, const char **server)
{
    const char *port = text[0] == '[' ? strchr(text, ']') : strrchr(text, ':');
    unsigned char bytes[16];
    const char *host;

    *server = text;
    if (inet_pton(AF_INET, text, bytes) == 1)
        return NULL;
    if (inet_pton(AF_INET6, text, bytes) == 1) {
        *server = apr_psprintf(sl_cmd_pool(cmd), "[%s]:53", text);
        return NULL;
    }
    host = text[0] == '[' && port != NULL
               ? apr_pstrndup(sl_cmd_pool(cmd), text + 1, (apr_size_t)(port - text - 1))
           : port != NULL ? apr_pstrndup(sl_cmd_pool(cmd), text, (apr_size_t)(port - text)) : "";
    if (inet_pton(text[0] == '[' ? AF_INET6 : AF_INET, host, bytes) != 1)
        return sl_cmd_error(cmd, "expected the address of a name server, found \"%s\"", text);
    port += text[0] == '[';
    return *port == '\0' ? NULL : *port == ':' ? port_check(port + 1)
                                               : "expected a colon and a port behind ']'";
}

/* "5s-2m" */
static const char *
ttl_parse(struct sl_cmd *cmd, const char *text, struct dns_conf *conf)
{
    const char *dash = strchr(text, '-'), *err = NULL;

    if (dash == NULL)
        return sl_cmd_error(cmd, "expected ttl=MIN-MAX, such as 5s-2m, found \"%s\"", text);
    err = sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_DURATION,
                        apr_pstrndup(sl_cmd_pool(cmd), text, (apr_size_t)(dash - text)),
                        &conf->least_ms);
    if (err == NULL)
        err = sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_DURATION, dash + 1, &conf->most_ms);
    if (err == NULL && (conf->least_ms < 100 || conf->most_ms < conf->least_ms
                        || conf->most_ms > TTL_MAX_MS))
        err = "expected ttl=MIN-MAX of 100ms or more, at most 1d, the shorter time first";
    return err;
}

static int
is_option(const char *text)
{
    return strchr(text, '=') != NULL;
}

static const char *
resolver_parse(struct sl_cmd *cmd, void **item)
{
    struct dns_conf *conf = apr_pmemdup(sl_cmd_pool(cmd), &defaults, sizeof defaults);
    struct options o = {defaults.timeout_ms, NULL};
    const char *arg, *server, *err = sl_cmd_argc(cmd) > 0 ? NULL : "expected a name server";
    int i;

    *item = conf;
    for (i = 0; err == NULL && (arg = sl_cmd_arg(cmd, i)) != NULL && !is_option(arg); i++) {
        err = server_parse(cmd, arg, &server);
        conf->servers = conf->servers == NULL ? server
                        : apr_pstrcat(sl_cmd_pool(cmd), conf->servers, ",", server, NULL);
    }
    if (err == NULL)
        err = sl_cmd_options(cmd, i, options, &o);
    if (err == NULL && (o.timeout_ms < 1 || o.timeout_ms > TIMEOUT_MAX_MS))
        err = "expected timeout= between 1ms and 1m";
    conf->timeout_ms = o.timeout_ms;
    return err == NULL && o.ttl != NULL ? ttl_parse(cmd, o.ttl, conf) : err;
}

/* ---- c-ares in the loop ---- */

/* When it has to be called, whatever comes. */
static void
timer_match(void)
{
    struct timeval tv;

    if (ares_timeout(dns.channel, NULL, &tv) != NULL)
        sl_timer_set(dns.loop, &dns.timer,
                     sl_loop_now(dns.loop) + tv.tv_sec * 1000 + tv.tv_usec / 1000 + 1);
    else
        sl_timer_stop(&dns.timer);
}

static void
timer_rang(struct sl_loop *loop, struct sl_timer *timer)
{
    (void)loop;
    (void)timer;
    ares_process_fd(dns.channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    timer_match();
}

static void
socket_ready(struct sl_loop *loop, int fd, unsigned what, void *data)
{
    (void)loop;
    (void)data;
    ares_process_fd(dns.channel, what & SL_READABLE ? fd : ARES_SOCKET_BAD,
                    what & SL_WRITABLE ? fd : ARES_SOCKET_BAD);
    timer_match();
}

static void
socket_forget(struct socket **at)
{
    struct socket *s = *at;

    *at = s->next;
    if (s->descriptor != NULL)
        sl_descriptor_forget(&s->descriptor);
    free(s);
}

/* A socket waits for this now; for nothing: it is about to be closed.  One that cannot be watched
 * is late: the timer ends what it waits for. */
static void
socket_changed(void *data, ares_socket_t fd, int reads, int writes)
{
    unsigned what = (reads ? SL_READABLE : 0u) | (writes ? SL_WRITABLE : 0u);
    struct socket **at = &dns.sockets, *s;

    (void)data;
    while (*at != NULL && (*at)->fd != fd)
        at = &(*at)->next;
    if (*at != NULL && what == 0) {
        socket_forget(at);
        return;
    }
    if (*at != NULL) {
        (*at)->what = what;
        if ((*at)->descriptor != NULL)
            sl_descriptor_want((*at)->descriptor, what);
        return;
    }
    s = what != 0 ? calloc(1, sizeof *s) : NULL;
    if (s == NULL)
        return;
    s->fd = fd;
    s->what = what;
    s->descriptor = sl_descriptor_watch(dns.loop, fd, what, socket_ready, NULL);
    s->next = dns.sockets;
    dns.sockets = s;
}

/* 0, or -1: the log says why. */
static int
channel_open(struct sl_loop *loop)
{
    struct ares_options o = {.timeout = (int)dns.conf->timeout_ms, .tries = TRIES,
                             .sock_state_cb = socket_changed};
    int rc = ares_init_options(&dns.channel, &o,
                               ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB |
                                   NO_CACHE);

    if (rc == ARES_SUCCESS && dns.conf->servers != NULL) {
        rc = ares_set_servers_ports_csv(dns.channel, dns.conf->servers);
        if (rc != ARES_SUCCESS)
            ares_destroy(dns.channel);
    }
    if (rc != ARES_SUCCESS) {
        sl_log(SL_ERROR, "DNS0001", "names cannot be asked for: %s", ares_strerror(rc));
        return -1;
    }
    dns.loop = loop;
    dns.timer.fn = timer_rang;
    dns.timer.due = INT64_MAX;
    return 0;
}

/* ---- the resolver ---- */

static void
resolver_ask(struct sl_loop *loop, struct sl_lookup *l)
{
    static const struct sl_answer unable = {.why = "the resolver does not start"};

    if (dns.loop == NULL && channel_open(loop) != 0) {
        l->done(loop, l, &unable);
        return;
    }
    dns_ask(dns.channel, dns.conf, loop, l);
    timer_match();
}

/* -1: nothing is under way. */
static int
wait_ms(int64_t left)
{
    struct timeval most = {left / 1000, left % 1000 * 1000}, tv;
    struct timeval *t = ares_timeout(dns.channel, NULL, &tv);

    if (t == NULL)
        return -1;
    t = ares_timeout(dns.channel, &most, &tv);
    return (int)(t->tv_sec * 1000 + t->tv_usec / 1000 + 1);
}

static void
sockets_poll(int ms)
{
    struct pollfd fds[ARES_GETSOCK_MAXNUM];
    const struct socket *s;
    nfds_t n = 0, i;

    for (s = dns.sockets; s != NULL && n < ARES_GETSOCK_MAXNUM; s = s->next)
        fds[n++] = (struct pollfd){s->fd, (short)((s->what & SL_WRITABLE ? POLLOUT : 0) | POLLIN), 0};
    poll(fds, n, ms);
    for (i = 0; i < n; i++)
        if (fds[i].revents != 0)
            ares_process_fd(dns.channel, fds[i].revents & ~POLLOUT ? fds[i].fd : ARES_SOCKET_BAD,
                            fds[i].revents & POLLOUT ? fds[i].fd : ARES_SOCKET_BAD);
    ares_process_fd(dns.channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static int64_t
clock_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void
resolver_settle(int timeout_ms)
{
    int64_t until = clock_ms() + timeout_ms, now;
    int ms;

    if (dns.loop == NULL)
        return;
    while ((now = clock_ms()) < until && (ms = wait_ms(until - now)) >= 0)
        sockets_poll(ms);
    timer_match();
}

static const struct sl_resolver resolver = {.ask = resolver_ask, .settle = resolver_settle};

/* ---- the module ---- */

static int
resolver_configured(struct sl_worker *w)
{
    const struct resolver_conf *conf = sl_scope_conf(sl_worker_global(w), &sl_module_record);

    dns.conf = conf->resolver != NULL ? conf->resolver : &defaults;
    return 0;
}

static int
resolver_ends(struct sl_worker *w)
{
    (void)w;
    if (dns.loop != NULL)
        ares_destroy(dns.channel);
    dns.loop = NULL;
    dns_forget_all();
    ares_library_cleanup();
    return 0;
}

static int
resolver_init(const struct sl_module *self)
{
    (void)self;
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        return -1;
    return sl_provider_register("resolver", "dns", &resolver);
}

static const struct sl_directive directives[] = {
    {"Resolver", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct resolver_conf, resolver),
     "timeout=2s ttl=1s-5m", "Which name servers are asked for the names of servers",
     "[ADDR[:PORT] ...] [timeout=TIME] [ttl=MIN-MAX]", resolver_parse, options, NULL},
    SL_DIRECTIVES_END,
};

static const struct sl_hook hooks[] = {
    SL_ON_POST_CONFIG(resolver_configured),
    SL_HOOK_W(SL_HOOK_WORKER_EXIT, resolver_ends),
    SL_HOOKS_END,
};

SL_MODULE(dns) = {
    .name = "dns",
    .conf_size = sizeof(struct resolver_conf),
    .directives = directives,
    .hooks = hooks,
    .init = resolver_init,
};
