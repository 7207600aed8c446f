/* The chunked decoder: any split of the same bytes gives the same body. */
/* with: server/runtime/span.c */
#include "unit.h"

#include "../../server/http/chunked.c"

#include <stdio.h>

/* Feeds text in pieces of `step`; the body in out, what stopped it returned. */
static enum chunked_step
decode(const char *text, size_t n, size_t step, char *out, size_t *n_out, size_t *n_used)
{
    struct chunked c = {0};
    size_t at = 0, used, end;
    struct sl_span data;

    *n_out = 0;
    for (end = step < n ? step : n;; end = end + step < n ? end + step : n) {
        for (;;) {
            enum chunked_step s = chunked_next(&c, text + at, end - at, &used, &data);

            if (s == CHUNKED_BAD)
                return s;
            at += used;
            if (s == CHUNKED_DATA) {
                memcpy(out + *n_out, data.at, data.n);
                *n_out += data.n;
                continue;
            }
            *n_used = at;
            if (s == CHUNKED_TRAILERS)
                return s;
            break;
        }
        if (end == n)
            return CHUNKED_MORE;
    }
}

static void
any_split_gives_the_same_body(void **state)
{
    static const char text[] = "5\r\nhello\r\n1;a=b;c=\"d e\"\r\n \r\n00A\r\n0123456789\r\n0\r\n";
    char out[64];
    size_t step, n, used;

    (void)state;
    for (step = 1; step < sizeof text; step++) {
        assert_int_equal(decode(text, sizeof text - 1, step, out, &n, &used), CHUNKED_TRAILERS);
        assert_int_equal(n, 16);
        assert_memory_equal(out, "hello 0123456789", 16);
        assert_int_equal(used, sizeof text - 1);
    }
}

static void
what_is_wrong_is_refused(void **state)
{
    static const char *const bad[] = {"x\r\n", "\r\n", "-1\r\n", "5\nhello", "5\r\nhelloX\r\n", "5 \r\nhello\r\n",
                                      "0x5\r\n", "8000000000000000\r\n", "10000000000000000\r\n", "5;\x01\r\n",
                                      "5\rx"};
    char out[64];
    size_t i, n, used;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(decode(bad[i], strlen(bad[i]), 100, out, &n, &used), CHUNKED_BAD);
        assert_int_equal(decode(bad[i], strlen(bad[i]), 1, out, &n, &used), CHUNKED_BAD);
    }
}

static void
sizes_are_written(void **state)
{
    char to[24];

    (void)state;
    assert_int_equal(chunked_size_line(to, 500), 5);
    assert_memory_equal(to, "1f4\r\n", 5);
    assert_int_equal(chunked_size_line(to, UINT64_MAX), 18);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_split_gives_the_same_body),
                                       cmocka_unit_test(what_is_wrong_is_refused),
                                       cmocka_unit_test(sizes_are_written)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
