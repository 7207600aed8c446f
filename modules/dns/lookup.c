/* One name, asked for again and again.
 *
 *   a name:  its A and its AAAA records, side by side
 *   srv:     its SRV records, then A and AAAA of all targets, side by side
 *
 * What was found last of a host is kept for each of the two types: when one of them fails, that
 * stays for it, and the other one counts.  So a name server that is bad at one of them takes no
 * server away.  That a name does not exist is no failure, but an answer. */
#include "dns.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

#define CLASS_IN 1
#define FAMILIES 2
#define ADDRESSES_MAX 64 /* of one type and host; more are not used */
#define FILE_TTL 30      /* s; a file does not say */

static const int families[FAMILIES] = {AF_INET6, AF_INET};

struct family {
    struct host *host;
    int is_fresh; /* found this time */
    unsigned n;
    struct sl_sockaddr *at;
};

/* A host of which addresses are asked. */
struct host {
    struct host *next;
    struct question *q;
    char *name;
    int is_wanted; /* still a target */
    struct family of[FAMILIES];
};

/* A lookup's; lookup->resolver_data. */
struct question {
    struct question *next;
    struct sl_lookup *lookup;
    struct sl_loop *loop;
    ares_channel channel;
    const struct dns_conf *conf;
    struct host *hosts;
    unsigned n_services;
    struct service services[SERVICES_MAX]; /* of a plain name: the name itself */
    unsigned n_open;                       /* questions under way */
    unsigned ttl;                          /* the least, s */
    const char *why;                       /* the first failure */
    int has_failed;                        /* one of its questions, other than by a no */
};

static struct question *questions;

/* ---- what is kept ---- */

static void
host_free(struct host *h)
{
    free(h->of[0].at);
    free(h->of[1].at);
    free(h->name);
    free(h);
}

static void
services_free(struct question *q)
{
    while (q->n_services > 0)
        free(q->services[--q->n_services].target);
}

void
dns_forget_all(void)
{
    while (questions != NULL) {
        struct question *q = questions;

        questions = q->next;
        while (q->hosts != NULL) {
            struct host *h = q->hosts;

            q->hosts = h->next;
            host_free(h);
        }
        services_free(q);
        free(q);
    }
}

static struct host *
host_find(const struct question *q, const char *name)
{
    struct host *h = q->hosts;

    while (h != NULL && strcmp(h->name, name) != 0)
        h = h->next;
    return h;
}

static struct host *
host_add(struct question *q, const char *name)
{
    struct host *h = calloc(1, sizeof *h);
    unsigned i;

    if (h == NULL || (h->name = strdup(name)) == NULL) {
        free(h);
        return NULL;
    }
    h->q = q;
    for (i = 0; i < FAMILIES; i++)
        h->of[i].host = h;
    h->next = q->hosts;
    q->hosts = h;
    return h;
}

/* Hosts are those of the services: others go, new ones come. */
static void
hosts_match(struct question *q)
{
    struct host **at, *h;
    unsigned i;

    for (h = q->hosts; h != NULL; h = h->next)
        h->is_wanted = 0;
    for (i = 0; i < q->n_services; i++) {
        h = host_find(q, q->services[i].target);
        if (h == NULL)
            h = host_add(q, q->services[i].target);
        if (h != NULL)
            h->is_wanted = 1;
    }
    for (at = &q->hosts; (h = *at) != NULL;) {
        if (h->is_wanted) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        host_free(h);
    }
}

/* ---- the answer ---- */

/* Whether there is a way to it: connect() of a datagram socket sends nothing. */
static int
is_reachable(const struct sl_sockaddr *to)
{
    int fd = socket(to->u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = fd >= 0 ? connect(fd, &to->u.sa, to->len) : -1;

    if (fd >= 0)
        close(fd);
    return rc == 0;
}

static void
port_set(struct sl_sockaddr *a, int port)
{
    if (a->u.sa.sa_family == AF_INET6)
        a->u.in6.sin6_port = htons((uint16_t)port);
    else
        a->u.in.sin_port = htons((uint16_t)port);
}

static unsigned
found_add(const struct service *service, const struct family *f, struct sl_found *to)
{
    unsigned i;

    for (i = 0; i < f->n; i++) {
        to[i] = (struct sl_found){f->at[i], service->weight, service->priority};
        port_set(&to[i].at, service->port);
    }
    return f->n;
}

/* IPv6 before IPv4, where it leads anywhere (RFC 6724, 5: rule 1, then precedence). */
static unsigned
service_found(const struct service *service, const struct host *h, struct sl_found *to)
{
    const struct family *v6 = &h->of[0], *v4 = &h->of[1];
    int is_v6_first = v6->n > 0 && (v4->n == 0 || is_reachable(&v6->at[0]));
    unsigned n = found_add(service, is_v6_first ? v6 : v4, to);

    return n + found_add(service, is_v6_first ? v4 : v6, to + n);
}

static unsigned
n_found(const struct question *q)
{
    const struct host *h;
    unsigned i, n = 0;

    for (i = 0; i < q->n_services; i++)
        if ((h = host_find(q, q->services[i].target)) != NULL)
            n += h->of[0].n + h->of[1].n;
    return n;
}

static int
is_any_fresh(const struct question *q)
{
    const struct host *h = q->hosts;

    while (h != NULL && !h->of[0].is_fresh && !h->of[1].is_fresh)
        h = h->next;
    return h != NULL;
}

static int64_t
good_ms(const struct question *q)
{
    int64_t ms = (int64_t)q->ttl * 1000;

    return ms < q->conf->least_ms ? q->conf->least_ms
           : ms > q->conf->most_ms ? q->conf->most_ms : ms;
}

static void
question_answer(struct question *q)
{
    struct sl_answer answer = {.why = q->why != NULL ? q->why : "no such record"};
    struct sl_found *found = NULL;
    const struct host *h;
    unsigned i;

    if (is_any_fresh(q) && n_found(q) > 0)
        found = calloc(n_found(q), sizeof *found);
    for (i = 0; found != NULL && i < q->n_services; i++)
        if ((h = host_find(q, q->services[i].target)) != NULL)
            answer.n += service_found(&q->services[i], h, found + answer.n);
    answer.found = found;
    answer.good_ms = good_ms(q);
    answer.is_partial = q->has_failed;
    q->lookup->done(q->loop, q->lookup, &answer);
    free(found);
}

/* The last of its questions makes the answer. */
static void
question_left(struct question *q)
{
    if (--q->n_open == 0)
        question_answer(q);
}

static int
is_over(int status)
{
    return status == ARES_EDESTRUCTION || status == ARES_ECANCELLED;
}

static void
question_failed(struct question *q, int status)
{
    if (q->why == NULL || status == ARES_ETIMEOUT)
        q->why = ares_strerror(status);
    q->has_failed |= status != ARES_ENOTFOUND && status != ARES_ENODATA;
}

/* ---- addresses ---- */

static int
is_in_file(const struct family *f)
{
    struct hostent *found = NULL;
    int rc = ares_gethostbyname_file(f->host->q->channel, f->host->name, f->at[0].u.sa.sa_family,
                                     &found);

    ares_free_hostent(found);
    return rc == ARES_SUCCESS;
}

/* c-ares gives 0 for what it has from the file, too. */
static void
family_is_good(const struct family *f, unsigned ttl)
{
    struct question *q = f->host->q;

    if (ttl == 0 && is_in_file(f))
        ttl = FILE_TTL;
    if (ttl < q->ttl)
        q->ttl = ttl;
}

static void
family_take(struct family *f, const struct ares_addrinfo_node *node)
{
    struct sl_sockaddr *at = calloc(ADDRESSES_MAX, sizeof *at);
    unsigned ttl = UINT32_MAX;

    if (at == NULL)
        return;
    free(f->at);
    f->at = at;
    f->n = 0;
    f->is_fresh = 1;
    for (; node != NULL && f->n < ADDRESSES_MAX; node = node->ai_next) {
        memcpy(&at[f->n].u, node->ai_addr, node->ai_addrlen);
        at[f->n++].len = node->ai_addrlen;
        if ((unsigned)node->ai_ttl < ttl)
            ttl = (unsigned)node->ai_ttl;
    }
    family_is_good(f, ttl);
}

static void
family_answered(void *data, int status, int timeouts, struct ares_addrinfo *info)
{
    struct family *f = data;
    struct question *q = f->host->q;

    (void)timeouts;
    if (is_over(status))
        return;
    if (status == ARES_SUCCESS && info->nodes != NULL)
        family_take(f, info->nodes);
    else if (status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_SUCCESS)
        f->n = 0;
    if (status != ARES_SUCCESS)
        question_failed(q, status);
    ares_freeaddrinfo(info);
    question_left(q);
}

/* ---- localhost: of this machine's file, and of nobody else (RFC 6761, 6.3) ---- */

static int
is_localhost(const char *name)
{
    size_t n = strlen(name), k = sizeof "localhost" - 1;

    return n >= k && strcmp(name + n - k, "localhost") == 0 && (n == k || name[n - k - 1] == '.');
}

static void
family_hold(struct family *f, int af, const void *bytes)
{
    struct sl_sockaddr *a = &f->at[f->n++];

    memset(a, 0, sizeof *a);
    a->u.sa.sa_family = (sa_family_t)af;
    a->len = af == AF_INET ? sizeof a->u.in : sizeof a->u.in6;
    memcpy(af == AF_INET ? (void *)&a->u.in.sin_addr : (void *)&a->u.in6.sin6_addr, bytes,
           af == AF_INET ? sizeof a->u.in.sin_addr : sizeof a->u.in6.sin6_addr);
}

/* How many of its addresses the file has. */
static unsigned
family_read(struct family *f, ares_channel channel, int af)
{
    struct hostent *found = NULL;
    unsigned i;

    f->n = 0;
    if (ares_gethostbyname_file(channel, f->host->name, af, &found) != ARES_SUCCESS)
        return 0;
    for (i = 0; found->h_addr_list[i] != NULL && i < ADDRESSES_MAX; i++)
        family_hold(f, af, found->h_addr_list[i]);
    ares_free_hostent(found);
    return f->n;
}

static void
localhost_find(struct question *q, struct host *h)
{
    const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    struct family *v6 = &h->of[0], *v4 = &h->of[1];
    unsigned i;

    for (i = 0; i < FAMILIES; i++)
        if (h->of[i].at == NULL && (h->of[i].at = calloc(ADDRESSES_MAX, sizeof *h->of[i].at)) == NULL)
            return;
    if (family_read(v6, q->channel, AF_INET6) + family_read(v4, q->channel, AF_INET) == 0) {
        family_hold(v6, AF_INET6, &in6addr_loopback);
        family_hold(v4, AF_INET, &loopback);
    }
    v6->is_fresh = v4->is_fresh = 1;
    if (q->ttl > FILE_TTL)
        q->ttl = FILE_TTL;
}

/* ---- all others ---- */

static void
host_ask(struct question *q, struct host *h)
{
    static const struct ares_addrinfo_hints both = {.ai_flags = ARES_AI_NOSORT,
                                                    .ai_socktype = SOCK_STREAM};
    struct ares_addrinfo_hints hints = both;
    unsigned i;

    for (i = 0; i < FAMILIES; i++) {
        hints.ai_family = families[i];
        h->of[i].is_fresh = 0;
        q->n_open++;
        ares_getaddrinfo(q->channel, h->name, NULL, &hints, family_answered, &h->of[i]);
    }
}

static void
hosts_ask(struct question *q)
{
    struct host *h;

    for (h = q->hosts; h != NULL; h = h->next)
        if (is_localhost(h->name))
            localhost_find(q, h);
        else
            host_ask(q, h);
}

/* ---- services ---- */

static void
services_take(struct question *q, const unsigned char *bytes, int n)
{
    struct service services[SERVICES_MAX];
    unsigned ttl;
    int k = dns_services_parse(bytes, n, services, SERVICES_MAX, &ttl);

    if (k <= 0) {
        question_failed(q, k < 0 ? ARES_EBADRESP : ARES_ENODATA);
        return;
    }
    services_free(q);
    memcpy(q->services, services, (unsigned)k * sizeof services[0]);
    q->n_services = (unsigned)k;
    q->ttl = ttl;
    hosts_match(q);
    hosts_ask(q);
}

static void
services_answered(void *data, int status, int timeouts, unsigned char *bytes, int n)
{
    struct question *q = data;

    (void)timeouts;
    if (is_over(status))
        return;
    if (status == ARES_SUCCESS)
        services_take(q, bytes, n);
    else
        question_failed(q, status);
    question_left(q);
}

/* ---- asking ---- */

static struct question *
question_of(struct sl_lookup *l)
{
    struct question *q = l->resolver_data;

    if (q != NULL || (q = calloc(1, sizeof *q)) == NULL)
        return q;
    q->lookup = l;
    q->next = questions;
    questions = q;
    l->resolver_data = q;
    if (!l->is_service && (q->services[0].target = strdup(l->name)) != NULL) {
        q->services[0].port = l->port;
        q->n_services = 1;
        hosts_match(q);
    }
    return q;
}

static void
forget_fresh(struct question *q)
{
    struct host *h;

    for (h = q->hosts; h != NULL; h = h->next)
        h->of[0].is_fresh = h->of[1].is_fresh = 0;
}

/* The one that is open until all are asked keeps an answer that comes at once from being the
 * last. */
void
dns_ask(ares_channel channel, const struct dns_conf *conf, struct sl_loop *loop,
        struct sl_lookup *l)
{
    static const struct sl_answer no_memory = {.why = "no memory"};
    struct question *q = question_of(l);

    if (q == NULL) {
        l->done(loop, l, &no_memory);
        return;
    }
    q->channel = channel;
    q->conf = conf;
    q->loop = loop;
    q->ttl = UINT32_MAX;
    q->why = NULL;
    q->has_failed = 0;
    q->n_open = 1;
    forget_fresh(q);
    if (l->is_service) {
        q->n_open++;
        ares_query(channel, l->name, CLASS_IN, TYPE_SRV, services_answered, q);
    } else
        hosts_ask(q);
    question_left(q);
}
