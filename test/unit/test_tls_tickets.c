/* Keys of tickets as they stand in a file. */
#include "unit.h"

#include "../../modules/tls/ticket_file.c"

int
sl_file_open(const char *name, sl_file_changed_f *changed, void *ctx)
{
    (void)name;
    (void)changed;
    (void)ctx;
    return -1;
}

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    (void)level;
    (void)id;
    (void)fmt;
}

/* What the parse function asks: not called here. */
const char *sl_cmd_path(const struct sl_cmd *cmd, const char *name) { (void)cmd; return name; }
const char *sl_cmd_error(struct sl_cmd *cmd, const char *fmt, ...) { (void)cmd; return fmt; }
void sl_cmd_cure(struct sl_cmd *cmd, const char *fmt, ...) { (void)cmd; (void)fmt; }
const char *
sl_cmd_file(struct sl_cmd *cmd, const char *name, size_t max, struct sl_span *bytes)
{
    (void)cmd;
    (void)max;
    (void)bytes;
    return name;
}

/* Byte i is i. */
static struct sl_span
counting(size_t n)
{
    static char bytes[2000];
    size_t i;

    for (i = 0; i < n; i++)
        bytes[i] = (char)i;
    return (struct sl_span){bytes, n};
}

static void
test_how_many(void **state)
{
    static const struct { size_t bytes; unsigned n, size; } rows[] = {
        {0, 0, 0},    {1, 0, 0},    {47, 0, 0},   {48, 1, 16},  {49, 0, 0},   {80, 1, 32}, {96, 2, 16},
        {128, 0, 0},  {160, 2, 32}, {240, 3, 32}, {192, 4, 16}, {288, 0, 0}, {336, 0, 0}, {640, 8, 32}, {641, 0, 0}, {720, 0, 0},
        {480, 6, 32}, {432, 0, 0},
    };
    struct tls_ticket_key keys[KEYS_MAX];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(tls_ticket_keys_read(counting(rows[i].bytes), keys, KEYS_MAX), rows[i].n);
        if (rows[i].n > 0)
            assert_int_equal(keys[rows[i].n - 1].size, rows[i].size);
    }
}

static void
test_what_stands_where(void **state)
{
    struct tls_ticket_key keys[2];

    (void)state;
    assert_int_equal(tls_ticket_keys_read(counting(160), keys, 2), 2);
    assert_int_equal(keys[0].name[0], 0);
    assert_int_equal(keys[0].mac[0], 16);
    assert_int_equal(keys[0].cipher[0], 48);
    assert_int_equal(keys[1].name[15], 95);
    assert_int_equal(keys[1].cipher[31], 159);
    assert_int_equal(tls_ticket_keys_read(counting(96), keys, 2), 2);
    assert_int_equal(keys[0].cipher[0], 16);
    assert_int_equal(keys[0].mac[0], 32);
    assert_int_equal(keys[1].mac[15], 95);
}

static void
test_the_set_in_force(void **state)
{
    struct sl_span two = counting(160);
    const struct tls_ticket_key *k;
    char name[TLS_TICKET_NAME];
    int is_first = 0;

    (void)state;
    memcpy(name, two.at + 80, sizeof name);
    assert_true(set_take(two));
    k = tls_ticket_file_key(NULL, &is_first);
    assert_true(k != NULL && is_first && k->name[0] == 0);
    k = tls_ticket_file_key((const unsigned char *)name, &is_first);
    assert_true(k != NULL && !is_first && k->name[0] == 80);
    assert_false(set_take(counting(81))); /* the old ones stay */
    assert_non_null(tls_ticket_file_key((const unsigned char *)name, &is_first));
    assert_true(set_take(counting(80)));
    assert_null(tls_ticket_file_key((const unsigned char *)name, &is_first));
    assert_non_null(retired);
    retired_free((time_t)INT64_MAX);
    assert_null(retired);
    sets_free(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_how_many),
        cmocka_unit_test(test_what_stands_where),
        cmocka_unit_test(test_the_set_in_force),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
