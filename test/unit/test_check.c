/* What a health check asks, and which answers are good ones. */
#include "unit.h"

#include "../../modules/balancer/check_http.c"

#include <apr_general.h>

static const struct answer {
    const char *expect, *body, *bytes;
    int is_all;
    enum check_verdict verdict;
    const char *why;
} answers[] = {
    {"200-399", NULL, "", 0, CHECK_MORE, NULL},
    {"200-399", NULL, "", 1, CHECK_BAD, "closed without an answer"},
    {"200-399", NULL, "HTTP/1.1 20", 0, CHECK_MORE, NULL},
    {"200-399", NULL, "HTTP/1.1 20", 1, CHECK_BAD, "no HTTP answer"},
    {"200-399", NULL, "HTTP/1.1 200", 0, CHECK_GOOD, "status 200"},
    {"200-399", NULL, "HTTP/1.0 399 x\r\n", 0, CHECK_GOOD, "status 399"},
    {"200-399", NULL, "HTTP/1.1 400 x\r\n", 0, CHECK_BAD, "status 400"},
    {"200-399", NULL, "HTTP/1.1 503 x\r\n", 0, CHECK_BAD, "status 503"},
    {"200,404", NULL, "HTTP/1.1 404 x\r\n", 0, CHECK_GOOD, "status 404"},
    {"200,404", NULL, "HTTP/1.1 301 x\r\n", 0, CHECK_BAD, "status 301"},
    {"200", NULL, "HTTP/2.0 200 OK\r\n", 0, CHECK_BAD, "no HTTP answer"},
    {"200", NULL, "SSH-2.0-OpenSSH_9", 0, CHECK_BAD, "no HTTP answer"},
    {"200", NULL, "HTTP/1.1 2x0 OK", 0, CHECK_BAD, "no HTTP answer"},
    {"200", "fine", "HTTP/1.1 200 fine\r\n\r\n", 0, CHECK_MORE, NULL}, /* not in the head */
    {"200", "fine", "HTTP/1.1 200 OK\r\n\r\nall is fi", 0, CHECK_MORE, NULL},
    {"200", "fine", "HTTP/1.1 200 OK\r\n\r\nall is fine.", 0, CHECK_GOOD,
     "status and body as expected"},
    {"200", "fine", "HTTP/1.1 200 OK\r\n\r\nall is bad", 1, CHECK_BAD,
     "the body is without what is expected"},
    {"200", "fine", "HTTP/1.1 500 OK\r\n\r\nall is fine", 1, CHECK_BAD, "status 500"},
};

static void
every_answer(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const struct answer *a = &answers[i];
        struct check_ranges ranges;
        struct check_conf conf = {.expect = a->expect, .body = a->body, .ranges = &ranges};
        char why[72] = "";

        assert_null(check_ranges_parse(a->expect, &ranges));
        if (check_answer(&conf, a->bytes, strlen(a->bytes), a->is_all, why, sizeof why)
                != a->verdict
            || (a->why != NULL && strcmp(a->why, why) != 0))
            fail_msg("row %zu: %s", i, why);
    }
}

static void
what_is_no_range(void **state)
{
    static const char *const wrong[] = {"", "x", "20", "200-", "200-600", "300-200", "200,", ",200",
                                        "200;300", "99", "1,2", "200-300-400",
                                        "200,201,202,203,204,205,206,207,208"};
    struct check_ranges ranges;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (check_ranges_parse(wrong[i], &ranges) == NULL)
            fail_msg("\"%s\" is taken", wrong[i]);
    assert_null(check_ranges_parse("200,201,202,203,204,205,206,207-599", &ranges));
}

static void
the_request(void **state)
{
    struct sl_server s = {.address = "10.0.0.1:80"};
    struct check_conf conf = {.uri = "/h", .method = "HEAD"};
    apr_pool_t *pool;

    (void)state;
    apr_initialize();
    apr_pool_create(&pool, NULL);
    assert_string_equal(check_request(pool, &conf, &s),
                        "HEAD /h HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: sluice-check\r\n"
                        "Accept: */*\r\nConnection: close\r\n\r\n");
    conf.host = "www.example";
    assert_non_null(strstr(check_request(pool, &conf, &s), "\r\nHost: www.example\r\n"));
    s.address = "unix:/run/x";
    conf.host = NULL;
    assert_non_null(strstr(check_request(pool, &conf, &s), "\r\nHost: localhost\r\n"));
    apr_pool_destroy(pool);
    apr_terminate();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_answer),
                                       cmocka_unit_test(what_is_no_range),
                                       cmocka_unit_test(the_request)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
