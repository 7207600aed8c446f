/* What the access log writes of a peer's bytes is always a valid JSON string. */
#include "unit.h"

#include "../../modules/log/escape.c"
#include "runtime/json.c"

/* A strict reader of one JSON string: 1 when text[0..n) is exactly one. */
static int
is_json_string(const unsigned char *p, size_t n)
{
    size_t i = 1, k;

    if (n < 2 || p[0] != '"' || p[n - 1] != '"')
        return 0;
    while (i < n - 1) {
        if (p[i] == '"' || p[i] < 0x20)
            return 0;
        if (p[i] == '\\') {
            if (p[i + 1] == 'u')
                for (k = 2; k < 6; k++)
                    if (strchr("0123456789abcdef", p[i + k]) == NULL)
                        return 0;
            if (strchr("u\"\\", p[i + 1]) == NULL)
                return 0;
            i += p[i + 1] == 'u' ? 6 : 2;
        } else if (p[i] < 0x80)
            i++;
        else if ((k = utf8_length(p + i, n - 1 - i)) > 0)
            i += k;
        else
            return 0;
    }
    return 1;
}

static void
any_bytes(void **state)
{
    char in[64], out[600], *end;
    unsigned round;
    size_t i, n;

    (void)state;
    srand(11);
    for (round = 0; round < 200000; round++) {
        n = (size_t)rand() % sizeof in;
        for (i = 0; i < n; i++)
            in[i] = (char)(rand() % 3 ? rand() : "\"\\\xc3\xa9\xe2\x82\xac"[rand() % 7]);
        end = sl_json_string(out, out + sizeof out, (struct sl_span){in, n});
        assert_true(is_json_string((unsigned char *)out, (size_t)(end - out)));
        end = sl_json_string(out, out + 20, (struct sl_span){in, n}); /* cut, and still one */
        assert_true(is_json_string((unsigned char *)out, (size_t)(end - out)));
    }
}

static void
no_line_can_be_forged(void **state)
{
    char out[64], *end = put_escaped(out, out + sizeof out, SL_SPAN("a\"\\\n\x7f\xffz"));

    (void)state;
    assert_memory_equal(out, "a\\\"\\\\\\x0a\\x7f\\xffz", (size_t)(end - out));
    assert_int_equal(end - out, 18);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_bytes),
                                       cmocka_unit_test(no_line_can_be_forged)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
