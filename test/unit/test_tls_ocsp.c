/* When a certificate's OCSP response is asked for again. */
#include "unit.h"

#include "../../modules/tls/ocsp.c"

static void
responses_are_renewed(void **state)
{
    /* clang-format off */
    static const struct { int64_t lasts; unsigned random; int64_t from, to; } rows[] = {
        {3600, 0, 1620, 1620}, {3600, 100, 1800, 1800}, {3600, 200, 1980, 1980},
        {7 * 86400, 7, RENEW_MAX_S - 3600, RENEW_MAX_S}, /* not days: it may be revoked */
        {7 * 86400, 3599, RENEW_MAX_S - 3600, RENEW_MAX_S - 3599},
        {1, 5, RENEW_MIN_S, RENEW_MIN_S}, {-50, 5, RENEW_MIN_S, RENEW_MIN_S},
    };
    /* clang-format on */
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t wait = tls_ocsp_renew_s(1000000, 1000000 + rows[i].lasts, rows[i].random) - 1000000;

        assert_in_range(wait, rows[i].from, rows[i].to);
    }
}

static void
failures_back_off(void **state)
{
    static const struct { unsigned n; int64_t wait; } rows[] = {
        {1, 5}, {2, 10}, {3, 20}, {10, 2560}, {11, 3600}, {4000000000u, 3600},
    };
    unsigned i, random;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        for (random = 0; random < 200; random++)
            assert_in_range(tls_ocsp_backoff_s(rows[i].n, random), rows[i].wait - rows[i].wait / 4,
                            rows[i].wait + rows[i].wait / 4 + 1);
    assert_true(tls_ocsp_backoff_s(11, 0) < tls_ocsp_backoff_s(11, 50)); /* not all at once */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(responses_are_renewed),
        cmocka_unit_test(failures_back_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
