/* The head parser: tables of good and bad heads, each good one also byte by byte and split at
 * every point, framing, hosts, targets and paths. */
/* with: server/http/field_names.c server/runtime/span.c server/runtime/causes.c server/http/framing.c server/http/target.c */
#include "unit.h"

#include "../../server/http/head.c"

static const struct head_limits limits = {8192, 32768, 100};
static struct sl_field fields[256];

static enum parse
parse(const char *text, size_t n, struct request_head *head)
{
    char *copy = malloc(n > 0 ? n : 1); /* exactly as long: reading past it is caught */
    enum parse rc;

    memcpy(copy, text, n);
    memset(head, 0, sizeof *head);
    rc = head_parse_request(copy, n, &limits, head, fields);
    free(copy);
    return rc;
}

static const char *const good[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "M-SEARCH /x?y HTTP/1.1\r\nHost: a\r\nEmpty:\r\nSpace:   b  \r\nTab:\tc\t\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: \xc3\xa9\r\n\r\n",
    "GET /0123456789abcdef0123456789abcdef HTTP/1.1\r\nHost: example.com\r\n"
    "User-Agent: a long agent with many bytes in it, more than thirty-two\r\nAccept: */*\r\n\r\n",
};

static void
good_heads_in_every_piece(void **state)
{
    struct request_head head;
    size_t i, n, k;

    (void)state;
    for (i = 0; i < sizeof good / sizeof good[0]; i++) {
        n = strlen(good[i]);
        for (k = 0; k < n; k++)
            assert_int_equal(parse(good[i], k, &head), PARSE_MORE);
        assert_int_equal(parse(good[i], n, &head), PARSE_OK);
        assert_int_equal(head.size, n);
    }
}

static const char *const bad[] = {
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: b\nc: d\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "GET / XTTP/1.1\r\nHost: a\r\n\r\n",
    "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: b\x01\r\n\r\n",
};

static void
bad_heads_are_never_good(void **state)
{
    struct request_head head;
    size_t i, k, n;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        n = strlen(bad[i]);
        assert_int_equal(parse(bad[i], n, &head), PARSE_BAD);
        assert_non_null(head.why);
        for (k = 0; k < n; k++)
            assert_int_not_equal(parse(bad[i], k, &head), PARSE_OK);
    }
}

static void
fields_are_found_and_named(void **state)
{
    static const char text[] = "GET /x HTTP/1.1\r\nhOST: a\r\nX-Odd:v\r\nAccept:  b \r\nVia: c\r\n\r\n";
    struct request_head head;

    (void)state;
    assert_int_equal(head_parse_request(text, sizeof text - 1, &limits, &head, fields), PARSE_OK);
    assert_int_equal(head.n_fields, 4);
    assert_int_equal(fields[0].id, SL_F_HOST);
    assert_int_equal(fields[1].id, SL_F_OTHER);
    assert_memory_equal(fields[2].value.at, "b", fields[2].value.n);
    assert_true(fields[0].flags & FIELD_CANONICAL);
    assert_false(fields[1].flags & FIELD_CANONICAL);
    assert_false(fields[2].flags & FIELD_CANONICAL);
    assert_memory_equal(field_line(&fields[3]).at, "Via: c\r\n", 8);
    assert_int_equal(field_line(&fields[3]).n, 8);
}

static void
every_well_known_name_has_its_id(void **state)
{
#define CHECK_NAME(id, name) assert_int_equal(sl_field_id(sl_span(name)), SL_F_##id);
    (void)state;
    SL_FIELD_NAMES(CHECK_NAME)
#undef CHECK_NAME
    assert_int_equal(sl_field_id(sl_span("Hosts")), SL_F_OTHER);
    assert_int_equal(sl_field_id(sl_span("")), SL_F_OTHER);
}

static void
names_that_cgi_folds_are_known_as_such(void **state)
{
#define CHECK_RECEIVED(id, name)                                                             \
    assert_int_equal(field_id_received(sl_span(name)), SL_F_##id);
    (void)state;
    SL_FIELD_NAMES(CHECK_RECEIVED)
#undef CHECK_RECEIVED
    assert_int_equal(field_id_received(sl_span("x_real_ip")), FIELD_ID_FOLDED);
    assert_int_equal(field_id_received(sl_span("Content_Length")), FIELD_ID_FOLDED);
    assert_int_equal(field_id_received(sl_span("X-Forwarded_For")), FIELD_ID_FOLDED);
    assert_int_equal(field_id_received(sl_span("Content_Type")), SL_F_OTHER);
    assert_int_equal(field_id_received(sl_span("X.Real.IP")), SL_F_OTHER);
    assert_int_equal(sl_field_id(sl_span("X_Real_IP")), SL_F_OTHER);
}

static void
limits_hold_also_for_what_is_incomplete(void **state)
{
    struct head_limits small = {20, 60, 2};
    struct request_head head;
    char text[200];

    (void)state;
    memset(text, 'x', sizeof text);
    memcpy(text, "GET /", 5);
    assert_int_equal(head_parse_request(text, 100, &small, &head, fields), PARSE_BAD);
    assert_ptr_equal(head.why, &sl_cause_line_too_long);
    memcpy(text, "GET / HTTP/1.1\r\nHost: a\r\nA: ", 28);
    assert_int_equal(head_parse_request(text, 100, &small, &head, fields), PARSE_BAD);
    assert_ptr_equal(head.why, &sl_cause_head_too_large);
    strcpy(text, "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n");
    assert_int_equal(head_parse_request(text, strlen(text), &small, &head, fields), PARSE_BAD);
    assert_ptr_equal(head.why, &sl_cause_too_many_fields);
}

static enum framing
framing(const char *lines, uint64_t *length, enum parse *rc)
{
    static char text[1024];
    struct request_head head;
    const struct sl_cause *why;
    enum framing f = FRAMING_NONE;

    snprintf(text, sizeof text, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    *rc = head_parse_request(text, strlen(text), &limits, &head, fields);
    if (*rc == PARSE_OK)
        *rc = framing_of_request(&head, fields, &f, length, &why);
    return f;
}

static void
framing_is_never_guessed(void **state)
{
    static const char *const ambiguous[] = {
        "Content-Length: 1\r\nContent-Length: 2\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n", "Content-Length: -1\r\n", "Content-Length: \r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: identity\r\n", "Content-Length: 9223372036854775808\r\n",
        "Content-Length: 1 2\r\n"};
    uint64_t n = 0;
    enum parse rc;
    size_t i;

    (void)state;
    assert_int_equal(framing("", &n, &rc), FRAMING_NONE);
    assert_int_equal(framing("Content-Length: 9223372036854775807\r\n", &n, &rc), FRAMING_LENGTH);
    assert_int_equal(n, INT64_MAX);
    assert_int_equal(framing("Transfer-Encoding: Chunked\r\n", &n, &rc), FRAMING_CHUNKED);
    for (i = 0; i < sizeof ambiguous / sizeof ambiguous[0]; i++) {
        framing(ambiguous[i], &n, &rc);
        assert_int_equal(rc, PARSE_BAD);
    }
}

static void
responses(void **state)
{
    static const char ok[] = "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n",
                      odd[] = "HTTP/1.0 404 Not Here\r\n\r\n", worse[] = "HTTP/1.1 2000 OK\r\n\r\n";
    struct response_head head;
    const struct sl_cause *why;
    enum framing f;
    uint64_t n;
    size_t k;

    (void)state;
    for (k = 0; k < sizeof ok - 1; k++)
        assert_int_equal(head_parse_response(ok, k, &limits, &head, fields), PARSE_MORE);
    assert_int_equal(head_parse_response(ok, sizeof ok - 1, &limits, &head, fields), PARSE_OK);
    assert_int_equal(head.status, 200);
    assert_int_equal(framing_of_response(&head, fields, SL_SPAN("HEAD"), &f, &n, &why), PARSE_OK);
    assert_int_equal(f, FRAMING_NONE);
    assert_int_equal(head_parse_response(odd, sizeof odd - 1, &limits, &head, fields), PARSE_OK);
    assert_int_equal(framing_of_response(&head, fields, SL_SPAN("GET"), &f, &n, &why), PARSE_OK);
    assert_int_equal(f, FRAMING_CLOSE);
    assert_int_equal(head_parse_response(worse, sizeof worse - 1, &limits, &head, fields), PARSE_BAD);
}

static void
hosts(void **state)
{
    static const char *const sane[] = {"a", "a.b:80", "[::1]", "[::1]:8080", "1.2.3.4", "a_b", "a:"};
    static const char *const odd[] = {"", "a:b", "a:99999", "u@a", "a/b", "a b", "[::1", "[zz]", ":80"};
    struct sl_span name;
    int port;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof sane / sizeof sane[0]; i++)
        assert_int_equal(host_split(sl_span(sane[i]), &name, &port), 1);
    for (i = 0; i < sizeof odd / sizeof odd[0]; i++)
        assert_int_equal(host_split(sl_span(odd[i]), &name, &port), 0);
}

static void
paths(void **state)
{
    static const struct { const char *raw, *to; } table[] = {
        {"/a/b", "/a/b"}, {"/a//b", "/a/b"}, {"/a/./b", "/a/b"}, {"/a/../b", "/b"}, {"/../a", "/a"},
        {"/%61", "/a"}, {"/a%2Fb", "/a%2Fb"}, {"/a%2fb", "/a%2fb"}, {"/a/..", "/"}, {"/a/%2e%2e/b", "/b"},
        {"/%00", NULL}, {"/%g0", NULL}, {"/%4", NULL}};
    char to[64];
    size_t i;
    int n, same;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        n = path_normalise(sl_span(table[i].raw), to, &same);
        if (table[i].to == NULL) {
            assert_int_equal(n, -1);
            continue;
        }
        if (same) {
            assert_string_equal(table[i].raw, table[i].to);
            continue;
        }
        assert_int_equal(n, strlen(table[i].to));
        assert_memory_equal(to, table[i].to, (size_t)n);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_heads_in_every_piece), cmocka_unit_test(bad_heads_are_never_good),
        cmocka_unit_test(fields_are_found_and_named),
        cmocka_unit_test(every_well_known_name_has_its_id),
        cmocka_unit_test(names_that_cgi_folds_are_known_as_such),
        cmocka_unit_test(limits_hold_also_for_what_is_incomplete),
        cmocka_unit_test(framing_is_never_guessed), cmocka_unit_test(responses),
        cmocka_unit_test(hosts), cmocka_unit_test(paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
