/* What a pick costs: each method over 100 servers, all up; leastconn and random2 with requests in
 * flight.  pick METHOD N: makes N picks and prints the ns of one; see test/bench/pick. */
#include "../../modules/balancer/first.c"
#include "../../modules/balancer/hash.c"
#include "../../modules/balancer/leastconn.c"
#include "../../modules/balancer/random2.c"
#include "../../modules/balancer/roundrobin.c"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SERVERS 100

static apr_pool_t *memory;
static struct sl_server_state states[SERVERS];
static atomic_uint counts[SERVERS];
static struct sl_server *servers[SERVERS];
static struct sl_pool pool = {.name = "p", .servers = servers, .n_servers = SERVERS};
static struct sl_span key = {"/a/path/of/usual/length", 23};

/* ---- what the core answers, as short as there ---- */

#include "../unit/balancer_doubles.h"

struct sl_loop *
sl_attempt_loop(struct sl_attempt *a)
{
    return (struct sl_loop *)a;
}

int64_t
sl_loop_now(const struct sl_loop *loop)
{
    (void)loop;
    return 1000000;
}

struct sl_span
sl_expr_text(const struct sl_expr *e, struct sl_req *r)
{
    (void)e;
    (void)r;
    return key;
}

const struct sl_sockaddr *
sl_req_client(struct sl_req *r)
{
    static struct sl_sockaddr a = {.len = sizeof a.u.in, .u.in = {.sin_family = AF_INET}};

    (void)r;
    return &a;
}

/* ---- the run ---- */

static const struct {
    const char *name;
    const struct sl_balance_method *method;
    int64_t bound;
} methods[] = {
    {"roundrobin", &roundrobin_method, 0}, {"leastconn", &leastconn_method, 0},
    {"random2", &random2_method, 0},       {"ewma", &ewma_method, 0},
    {"hash", &hash_method, 0},             {"bounded", &hash_method, 125},
    {"iphash", &iphash_method, 0},         {"first", &first_method, 0},
};

static void
make_servers(void)
{
    unsigned i;

    for (i = 0; i < SERVERS; i++) {
        servers[i] = apr_pcalloc(memory, sizeof(struct sl_server));
        *servers[i] = (struct sl_server){.name = apr_psprintf(memory, "10.0.0.%u:80", i),
                                         .pool = &pool, .index = i, .weight = 1,
                                         .n_active = &counts[i], .state = &states[i]};
        counts[i] = i % 7;
    }
}

static int64_t
clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A server that was picked has one more in flight, and the one 50 picks before one less. */
static void
run(const struct sl_balance_method *m, void *data, long n)
{
    struct sl_choice choice = {.attempt = (struct sl_attempt *)(void *)&pool, .now_ms = 1000000};
    struct sl_server *in_flight[50] = {0}, *s;
    long i;

    for (i = 0; i < n; i++) {
        s = m->pick(&choice, &pool, data);
        atomic_fetch_add_explicit(s->n_active, 1, memory_order_relaxed);
        if (in_flight[i % 50] != NULL)
            atomic_fetch_sub_explicit(in_flight[i % 50]->n_active, 1, memory_order_relaxed);
        in_flight[i % 50] = s;
    }
}

int
main(int argc, char **argv)
{
    long n = argc > 2 ? atol(argv[2]) : 0;
    void *data;
    size_t i;

    apr_initialize();
    apr_pool_create(&memory, NULL);
    make_servers();
    for (i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        int64_t began;

        if (n == 0 || strcmp(methods[i].name, argv[1]) != 0)
            continue;
        if (methods[i].method->setup(NULL, &pool, &data) != NULL
            || methods[i].method->ready(&pool, data) != 0)
            return 1;
        if (methods[i].bound > 0)
            ((struct hash *)data)->bound = methods[i].bound;
        began = clock_ns();
        run(methods[i].method, data, n);
        printf("%.1f\n", (double)(clock_ns() - began) / (double)n);
        return 0;
    }
    fprintf(stderr, "pick METHOD N\n");
    return 2;
}
