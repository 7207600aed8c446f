/* Merging: inner, else outer, else default; lists add up; options key by key. */
/* with: server/[!m]*.c server/metrics.c server/config/[a-z]*.c server/event/[a-z]*.c server/http/[a-z]*.c server/master/[a-z]*.c server/net/[a-z]*.c server/runtime/[a-z]*.c server/upstream/[a-z]*.c */
#include "unit.h"

#include "config/load.h"

#include <arpa/inet.h>

#include <apr_general.h>

static apr_pool_t *pool;

static const struct core_conf *
core_of(const char *text, int *n_errors)
{
    struct config_source source = {.text = text, .name = "t", .module_dir = "/nonexistent"};
    struct config *c = config_load(pool, &source);

    *n_errors = c->errors->nelts;
    return config_global(c)->core;
}

static void
defaults_and_options(void **state)
{
    int n;
    const struct core_conf *core = core_of("Timeout header=3s keepalive=1m\n", &n);

    (void)state;
    assert_int_equal(n, 0);
    assert_int_equal(core->header_ms, 3000);
    assert_int_equal(core->keepalive_ms, 60000);
    assert_int_equal(core->body_ms, 30000);
    assert_int_equal(core->limit_head, 32768);
    assert_int_equal(core->keepalive_requests, -1);
    assert_string_equal(core->error_log->where, "stderr");
}

static void
lists_add_up_and_begin_anew(void **state)
{
    int n;
    const struct core_conf *core = core_of("Protocols a b\nProtocols c\n", &n);

    (void)state;
    assert_int_equal(core->protocols->nelts, 3);
    core = core_of("Protocols a b\nProtocols - c\n", &n);
    assert_int_equal(core->protocols->nelts, 1);
    assert_string_equal(APR_ARRAY_IDX(core->protocols, 0, const char *), "c");
}

static void
networks(void **state)
{
    static const struct { const char *addr; int in; } table[] = {
        {"10.1.2.3", 1}, {"11.0.0.0", 0}, {"192.168.1.7", 1}, {"192.168.1.8", 0}, {"fd00::1", 1}, {"fe80::1", 0}};
    const struct core_conf *core;
    struct sl_sockaddr a;
    unsigned i;
    int n;

    (void)state;
    core = core_of("TrustedProxies 10.0.0.0/8 192.168.1.7 fd00::/8\n", &n);
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        memset(&a, 0, sizeof a);
        a.len = 1;
        a.u.sa.sa_family = strchr(table[i].addr, ':') ? AF_INET6 : AF_INET;
        inet_pton(a.u.sa.sa_family, table[i].addr,
                  a.u.sa.sa_family == AF_INET ? (void *)&a.u.in.sin_addr : (void *)&a.u.in6.sin6_addr);
        assert_int_equal(sl_networks_has(core->trusted, &a), table[i].in);
    }
}

static void
slots(void **state)
{
    static const struct { enum sl_slot type; const char *text; int64_t value; } table[] = {
        {SL_SLOT_SIZE, "4k", 4096}, {SL_SLOT_SIZE, "1g", 1 << 30}, {SL_SLOT_DURATION, "2h", 7200000},
        {SL_SLOT_DURATION, "500ms", 500}, {SL_SLOT_RATE, "10r/s", 10000}, {SL_SLOT_RATE, "600r/m", 10000},
        {SL_SLOT_NUMBER, "unlimited", -1}};
    static const struct { enum sl_slot type; const char *text; } bad[] = {
        {SL_SLOT_SIZE, "4x"}, {SL_SLOT_SIZE, "-1"}, {SL_SLOT_SIZE, ""}, {SL_SLOT_DURATION, "5"},
        {SL_SLOT_DURATION, "9999999999999999d"}, {SL_SLOT_RATE, "10"}, {SL_SLOT_TOKEN, "a b"}};
    int64_t value;
    const char *text;
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_null(sl_parse_slot(pool, table[i].type, table[i].text, &value));
        assert_int_equal(value, table[i].value);
    }
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_non_null(sl_parse_slot(pool, bad[i].type, bad[i].text,
                                      bad[i].type == SL_SLOT_TOKEN ? (void *)&text : (void *)&value));
}

static void
values(void **state)
{
    const char *err;

    (void)state;
    core_of("", &(int){0});
    assert_non_null(sl_expr_compile(pool, "a %{host} %% 5% %{req:X-A}", SL_PHASE_ROUTED, &err));
    assert_null(sl_expr_compile(pool, "%{nope}", SL_PHASE_ROUTED, &err));
    assert_non_null(strstr(err, "nope"));
    assert_null(sl_expr_compile(pool, "%{status}", SL_PHASE_ROUTED, &err));
    assert_non_null(strstr(err, "the response is"));
    assert_null(sl_expr_compile(pool, "%{req}", SL_PHASE_ROUTED, &err));
    assert_null(sl_expr_compile(pool, "%{host", SL_PHASE_ROUTED, &err));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_and_options), cmocka_unit_test(lists_add_up_and_begin_anew),
        cmocka_unit_test(networks), cmocka_unit_test(slots), cmocka_unit_test(values)};
    int rc;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return rc;
}
