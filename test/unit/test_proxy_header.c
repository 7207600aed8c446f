/* The PROXY header as a table: read whole and byte by byte, and written. */
/* with: server/runtime/span.c */
#include "unit.h"

#include "../../server/net/proxy_header.c"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2(text) SIGNATURE text, sizeof(SIGNATURE text) - 1
#define V1(text) text, sizeof(text) - 1

static const struct {
    const char *bytes;
    size_t n;
    enum parse parse;
    const char *from; /* NULL: not said */
    int port;
} table[] = {
    {V1("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"), PARSE_OK, "192.0.2.1", 56324},
    {V1("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"), PARSE_OK, "2001:db8::1", 1},
    {V1("PROXY UNKNOWN\r\n"), PARSE_OK, NULL, 0},
    {V1("PROXY UNKNOWN ffff::1 whatever 1 2\r\n"), PARSE_OK, NULL, 0},
    {V1("PROXY TCP4 192.0.2.1 198.51.100.7 0 0\r\n"), PARSE_OK, "192.0.2.1", 0},
    {V1("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP4 192.0.2.1 198.51.100.7 056 443\r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY \r\n"), PARSE_BAD, NULL, 0},
    {V1("PROXY TCP4 192.0.2.1"), PARSE_MORE, NULL, 0},
    {V1("PROXY"), PARSE_MORE, NULL, 0},
    {V1("GET / HTTP/1.1\r\n"), PARSE_BAD, NULL, 0},
    {V1("proxy TCP4 192.0.2.1 198.51.100.7 1 2\r\n"), PARSE_BAD, NULL, 0},
    {V2("\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb"), PARSE_OK, "192.0.2.1", 56324},
    {V2("\x21\x11\0\x10\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb\x04\0\x01x"), PARSE_OK,
     "192.0.2.1", 56324},
    {V2("\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"
        "\0\x50\0\x51"),
     PARSE_OK, "2001:db8::1", 80},
    {V2("\x20\0\0\0"), PARSE_OK, NULL, 0},
    {V2("\x20\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb"), PARSE_OK, NULL, 0},
    {V2("\x21\0\0\0"), PARSE_OK, NULL, 0},
    {V2("\x21\x11\0\x0b\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01"), PARSE_BAD, NULL, 0},
    {V2("\x21\x12\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb"), PARSE_BAD, NULL, 0},
    {V2("\x11\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb"), PARSE_BAD, NULL, 0},
    {V2("\x22\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb"), PARSE_BAD, NULL, 0},
    {V2("\x21\x11\xff\xff"), PARSE_BAD, NULL, 0},
    {V2("\x21\x11\0\x0c\xc0\0\x02"), PARSE_MORE, NULL, 0},
    {SIGNATURE, 7, PARSE_MORE, NULL, 0},
};

static void
check_from(size_t i, const struct sl_sockaddr *from)
{
    char text[INET6_ADDRSTRLEN];

    if (table[i].from == NULL) {
        assert_int_equal(from->len, 0);
        return;
    }
    inet_ntop(from->u.sa.sa_family,
              from->u.sa.sa_family == AF_INET ? (const void *)&from->u.in.sin_addr
                                              : &from->u.in6.sin6_addr,
              text, sizeof text);
    assert_string_equal(text, table[i].from);
    assert_int_equal(ntohs(from->u.in.sin_port), table[i].port);
}

static void
reads(void **state)
{
    struct sl_sockaddr from;
    size_t i, size;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        char *exact = malloc(table[i].n);
        enum parse parse;

        memcpy(exact, table[i].bytes, table[i].n);
        parse = proxy_header_parse(exact, table[i].n, &from, &size);
        if (parse != table[i].parse)
            fail_msg("row %zu: %d", i, (int)parse);
        if (parse == PARSE_OK) {
            assert_int_equal(size, table[i].n);
            check_from(i, &from);
        }
        free(exact);
    }
}

/* What is whole is MORE at every shorter length, and bytes behind it are left. */
static void
reads_in_pieces(void **state)
{
    struct sl_sockaddr from;
    size_t i, n, size;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        char more[256];

        if (table[i].parse != PARSE_OK)
            continue;
        for (n = 0; n < table[i].n; n++)
            assert_int_equal(proxy_header_parse(table[i].bytes, n, &from, &size), PARSE_MORE);
        memcpy(more, table[i].bytes, table[i].n);
        memcpy(more + table[i].n, "GET /\r\n", 7);
        assert_int_equal(proxy_header_parse(more, table[i].n + 7, &from, &size), PARSE_OK);
        assert_int_equal(size, table[i].n);
        check_from(i, &from);
    }
}

static void
refuses_endless(void **state)
{
    struct sl_sockaddr from;
    char line[V1_MAX + 1];
    size_t size;

    (void)state;
    memset(line, ' ', sizeof line);
    memcpy(line, "PROXY UNKNOWN", 13);
    assert_int_equal(proxy_header_parse(line, V1_MAX - 1, &from, &size), PARSE_MORE);
    assert_int_equal(proxy_header_parse(line, V1_MAX, &from, &size), PARSE_BAD);
}

static struct sl_sockaddr
address(int family, const char *text, int port)
{
    struct sl_sockaddr a;
    struct in6_addr bytes;

    assert_int_equal(inet_pton(family, text, &bytes), 1);
    if (family == AF_INET)
        say_tcp4(&a, &bytes, port);
    else
        say_tcp6(&a, &bytes, port);
    return a;
}

static void
writes(void **state)
{
    struct sl_sockaddr v4 = address(AF_INET, "192.0.2.1", 56324), nobody = {.len = 0};
    struct sl_sockaddr mapped = address(AF_INET6, "::ffff:198.51.100.7", 443);
    struct sl_sockaddr v6 = address(AF_INET6, "2001:db8::1", 1);
    struct sl_sockaddr longest = address(AF_INET6, "1111:2222:3333:4444:5555:6666:7777:8888", 65535);
    char bytes[PROXY_HEADER_WRITES + 1];
    struct sl_sockaddr from;
    size_t n, size;

    (void)state;
    n = proxy_header_write(bytes, 1, &v4, &mapped);
    assert_int_equal(n, strlen("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"));
    assert_memory_equal(bytes, "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", n);
    n = proxy_header_write(bytes, 1, &v4, &v6);
    assert_memory_equal(bytes, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 56324 1\r\n", n);
    n = proxy_header_write(bytes, 2, &v4, &mapped);
    assert_int_equal(n, table[19].n);
    assert_memory_equal(bytes, table[19].bytes, n);
    n = proxy_header_write(bytes, 1, &nobody, &v4);
    assert_memory_equal(bytes, "PROXY UNKNOWN\r\n", n);
    n = proxy_header_write(bytes, 2, &v4, &nobody);
    assert_int_equal(proxy_header_parse(bytes, n, &from, &size), PARSE_OK);
    assert_int_equal(from.len, 0);
    n = proxy_header_write(bytes, 1, &longest, &longest);
    assert_true(n <= PROXY_HEADER_WRITES);
    n = proxy_header_write(bytes, 2, &longest, &longest);
    assert_int_equal(proxy_header_parse(bytes, n, &from, &size), PARSE_OK);
    assert_memory_equal(&from.u.in6.sin6_addr, &longest.u.in6.sin6_addr, 16);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(reads_in_pieces),
        cmocka_unit_test(refuses_endless),
        cmocka_unit_test(writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
