/* How many lines failures of clients make: one a client and minute, with the count of the rest. */
#include "unit.h"
#include "panic_double.h"

#include "../../server/net/failures.c"

/* with: server/runtime/span.c */

static unsigned n_told;
static char told[256];

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    int n = snprintf(told, sizeof told, "%s ", id);
    va_list ap;

    (void)level;
    n_told++;
    va_start(ap, fmt);
    vsnprintf(told + n, sizeof told - (size_t)n, fmt, ap);
    va_end(ap);
}

int sl_log_wants(enum sl_level level) { (void)level; return 1; }
struct sl_span conn_peer_text(struct sl_conn *c) { (void)c; return sl_span(""); }
void sl_random_bytes(void *to, size_t n) { memset(to, 7, n); }
void sl_timer_set(struct sl_loop *l, struct sl_timer *t, int64_t due) { (void)l; (void)t; (void)due; }
void sl_timer_unlink(struct sl_timer *t) { (void)t; }

static void
a_client_has_a_line_a_minute(void **state)
{
    static struct failures f;

    (void)state;
    n_told = 0;
    assert_true(failures_see(&f, "192.0.2.1", "first", 1000));
    assert_false(failures_see(&f, "192.0.2.1", "second", 2000));
    assert_true(failures_see(&f, "192.0.2.2", "first", 2000)); /* another client */
    assert_false(failures_see(&f, "192.0.2.1", "third", 3000));
    failures_tell(&f, 1000 + MINUTE_MS - 1);
    assert_int_equal(n_told, 0);
    failures_tell(&f, 1000 + MINUTE_MS);
    assert_int_equal(n_told, 1);
    assert_string_equal(told, "SL0218 client 192.0.2.1: 2 more within a minute; the last: third");
    assert_true(failures_see(&f, "192.0.2.1", "again", 70000));
    failures_tell(&f, INT64_MAX);
    assert_int_equal(n_told, 1); /* nothing beside the lines themselves */
}

static void
addresses_of_one_client(void **state)
{
    static struct failures f;
    static const struct { const char *name; int has_line; } rows[] = {
        {"2001:db8:1:2::1", 1}, {"2001:db8:1:2:ffff::9", 0}, {"2001:db8:1:3::1", 1},
        {"192.0.2.1", 1}, {"::ffff:192.0.2.1", 0}, {"::ffff:192.0.2.3", 1}, {"", 1}, {"unix:", 0},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(failures_see(&f, rows[i].name, "", 5), rows[i].has_line);
}

static void
a_crowd_is_counted_together(void **state)
{
    static struct failures f;
    unsigned i, n = 0;
    char name[32];

    (void)state;
    for (i = 0; i < 100000; i++) {
        snprintf(name, sizeof name, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        n += (unsigned)failures_see(&f, name, "x", 1 + i / 100);
    }
    assert_int_equal(n, SETS * WAYS);
    assert_int_equal(atomic_load(&f.n_rest), 100000 - SETS * WAYS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_has_a_line_a_minute),
        cmocka_unit_test(addresses_of_one_client),
        cmocka_unit_test(a_crowd_is_counted_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
