/* Answers with SRV records: what is read of them, and that no bytes harm. */
/* libs: libcares */
#include "unit.h"

#include "../../modules/dns/srv.c"

#define QUESTION "\5_http\4_tcp\3app\4test\0\0\41\0\1"
#define NAME "\xc0\x0c"
#define HEAD(answers) "\0\1\x81\x80\0\1\0" answers "\0\0\0\0"
#define SRV_TO(ttl, priority, weight, port, target, length) \
    NAME "\0\41\0\1\0\0\0" ttl "\0" length "\0" priority "\0" weight port target

#define ONE SRV_TO("\x3c", "\12", "\1", "\37\220", "\3ONE\4test\0", "\20")
#define TWO SRV_TO("\5", "\24", "\3", "\0\120", "\3two\xc0\x1b", "\14")
#define NONE SRV_TO("\1", "\0", "\0", "\0\120", "\0", "\7")

static int
parse(const char *bytes, size_t n, struct service *to, unsigned room, unsigned *ttl)
{
    return dns_services_parse((const unsigned char *)bytes, (int)n, to, room, ttl);
}

static void
end(struct service *to, int n)
{
    while (n > 0)
        free(to[--n].target);
}

static void
records_are_read(void **state)
{
    static const char both[] = HEAD("\2") QUESTION ONE TWO;
    struct service to[4];
    unsigned ttl;
    int n = parse(both, sizeof both - 1, to, 4, &ttl);

    (void)state;
    assert_int_equal(n, 2);
    assert_int_equal(ttl, 5);
    assert_string_equal(to[0].target, "one.test");
    assert_int_equal(to[0].port, 8080);
    assert_int_equal(to[0].priority, 10);
    assert_int_equal(to[0].weight, 1);
    assert_string_equal(to[1].target, "two.test");
    assert_int_equal(to[1].port, 80);
    end(to, n);
    n = parse(both, sizeof both - 1, to, 1, &ttl);
    assert_int_equal(n, 1);
    end(to, n);
}

static void
a_dot_is_no_service(void **state)
{
    static const char none[] = HEAD("\1") QUESTION NONE;
    struct service to[4];
    unsigned ttl;

    (void)state;
    assert_int_equal(parse(none, sizeof none - 1, to, 4, &ttl), 0);
}

static void
what_is_cut_is_refused(void **state)
{
    static const char both[] = HEAD("\2") QUESTION ONE TWO;
    struct service to[4];
    unsigned ttl;
    size_t n;

    (void)state;
    for (n = 0; n < sizeof both - 1; n++) {
        char *cut = malloc(n + 1);

        memcpy(cut, both, n);
        assert_int_equal(parse(cut, n, to, 4, &ttl), -1);
        free(cut);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read),
        cmocka_unit_test(a_dot_is_no_service),
        cmocka_unit_test(what_is_cut_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
