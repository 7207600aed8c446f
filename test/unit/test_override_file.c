/* The file of overrides: what is written is read, and whatever else is told by its line. */
#include "unit.h"

#include "../../server/runtime/override_file.c"

#include <apr_general.h>

static apr_pool_t *pool;

static apr_array_header_t *
parsed(const char *text, const char **why)
{
    return overrides_parse(pool, apr_pstrdup(pool, text), why);
}

static void
reads_lines(void **state)
{
    const char *why;
    const apr_array_header_t *all =
        parsed(OVERRIDES_FORMAT "\n# a comment\n\n"
               "server \"p/a\" says \"drain weight=5\" of \"10.0.0.1:80 weight=1\" "
               "at 2026-11-25T19:16:39Z\n"
               "limit \"%22%25%0a\" says \"\" of \"\" at 1970-01-01T00:00:01Z", &why);
    const struct sl_override *o;

    (void)state;
    assert_null(why);
    assert_int_equal(all->nelts, 2);
    o = (const struct sl_override *)(const void *)all->elts;
    assert_string_equal(o[0].owner, "server");
    assert_string_equal(o[0].key, "p/a");
    assert_string_equal(o[0].says, "drain weight=5");
    assert_string_equal(o[0].of, "10.0.0.1:80 weight=1");
    assert_int_equal(o[0].at, 1795634199);
    assert_string_equal(o[1].key, "\"%\n");
    assert_int_equal(o[1].at, 1);
}

static void
refuses_others(void **state)
{
    static const char tail[] = " says \"\" of \"\" at 2026-11-25T19:16:39Z";
    static const struct {
        const char *line, *expected;
    } rows[] = {
        {"\"p/a\"", "line 2: expected a command's name"},
        {"server", "line 2: expected \"KEY\""},
        {"", "line 2: expected a command's name"},
        {"Server \"a\"", "line 2: expected a command's name"},
        {"server p/a", "line 2: expected \"KEY\""},
        {"server \"p/a", "line 2: expected \"KEY\""},
        {"server \"p\t\"", "line 2: expected \"KEY\""},
        {"server \"p%0\"", "line 2: expected \"KEY\""},
        {"server \"p%zz\"", "line 2: expected \"KEY\""},
        {"server \"p%00\"", "line 2: expected \"KEY\""},
        {"server \"a\" says \"b\"", "line 2: expected \"KEY\""},
        {"server \"a\" says \"\" of \"\" at noon", "line 2: expected a time"},
        {"server \"a\" says \"\" of \"\" at 2026-11-25T19:16:39Z more", "line 2: expected a time"},
    };
    const char *why;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *rest = strstr(rows[i].line, "says") == NULL ? tail : "";

        assert_null(parsed(apr_pstrcat(pool, OVERRIDES_FORMAT "\n", rows[i].line, rest, NULL), &why));
        assert_memory_equal(why, rows[i].expected, strlen(rows[i].expected));
    }
    assert_null(parsed("", &why));
    assert_null(parsed("sluice-overrides 2\n", &why));
    assert_string_equal(why, "line 1: expected " OVERRIDES_FORMAT);
}

static void
reads_what_was_written(void **state)
{
    char folder[] = "/tmp/sluice-overrides-XXXXXX";
    apr_array_header_t *all = apr_array_make(pool, 2, sizeof(struct sl_override));
    const struct sl_override *o;
    const char *why;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(overrides_read(pool, folder, &why)->nelts, 0);
    APR_ARRAY_PUSH(all, struct sl_override) =
        (struct sl_override){"server", "p/\"a\"\x7f%", "drain", "\xc3\xa4\n", 1795634199};
    assert_null(overrides_write(pool, folder, all));
    all = overrides_read(pool, folder, &why);
    assert_int_equal(all->nelts, 1);
    o = (const struct sl_override *)(const void *)all->elts;
    assert_string_equal(o->key, "p/\"a\"\x7f%");
    assert_string_equal(o->of, "\xc3\xa4\n");
    assert_int_equal(o->at, 1795634199);
    assert_int_equal(unlink(apr_pstrcat(pool, folder, "/" NAME, NULL)), 0);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left there */
    assert_non_null(overrides_write(pool, folder, all));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_lines),
        cmocka_unit_test(refuses_others),
        cmocka_unit_test(reads_what_was_written),
    };
    int rc;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return rc;
}
