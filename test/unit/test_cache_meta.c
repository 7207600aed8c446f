/* What is stored of a response beside its body, and of its forms: bytes there and back. */
/* with: server/runtime/span.c server/http/fields.c server/http/field_names.c server/http/head.c server/runtime/causes.c */
#include "unit.h"

#include "../../modules/cache_disk/meta.c"

static apr_pool_t *pool;

static struct sl_span
sample(void)
{
    struct sl_fields *f = sl_fields_make(pool);
    struct meta m = {.status = 200, .storing = {.lifetime = 60, .born = 1000, .date = 990},
                     .era = 5, .body = 7};

    sl_fields_add(f, "ETag", SL_SPAN("\"a\""));
    sl_fields_add(f, "Age", SL_SPAN("3"));
    sl_fields_add(f, "X-Empty", SL_SPAN(""));
    return meta_write(pool, &m, f, 0);
}

static void
what_is_written_is_read(void **state)
{
    struct meta m;

    (void)state;
    assert_int_equal(meta_read(sample(), &m), 0);
    assert_true(m.status == 200 && m.storing.lifetime == 60 && m.storing.born == 1000 &&
                m.storing.date == 990);
    assert_true(m.era == 5 && m.body == 7 && m.n_fields == 2);
    assert_true(sl_span_eq(meta_get(&m, SL_F_ETAG), SL_SPAN("\"a\"")));
    assert_true(meta_get(&m, SL_F_AGE).at == NULL);
}

static void
fields_are_lines(void **state)
{
    struct sl_field x = {{NULL, 0}, {NULL, 0}, SL_F_OTHER, 0};
    struct meta m;

    (void)state;
    assert_int_equal(meta_read(sample(), &m), 0);
    assert_true(sl_span_eq(m.lines, SL_SPAN("ETag: \"a\"\r\nX-Empty: \r\n")));
    assert_true(meta_field(&m, 1, &x) && x.id == SL_F_OTHER);
    assert_true(sl_span_eq(x.name, SL_SPAN("X-Empty")) && x.value.n == 0);
    assert_int_equal(meta_field(&m, 2, &x), 0);
}

static void
a_part_of_it_is_not(void **state)
{
    struct sl_span whole = sample();
    struct meta m;
    size_t n;

    (void)state;
    for (n = 0; n < whole.n; n++)
        assert_int_equal(meta_read((struct sl_span){sl_span_dup(pool, (struct sl_span){whole.at, n}), n}, &m), -1);
}

static void
forms(void **state)
{
    struct form form = {77, 9}, read;
    struct sl_span whole = form_write(pool, &form);
    char *other = sl_span_dup(pool, whole);
    struct meta m;

    (void)state;
    assert_int_equal(form_read(whole, &read), 0);
    assert_true(read.body == 77 && read.level == 9);
    assert_int_equal(form_read((struct sl_span){whole.at, whole.n - 1}, &read), -1);
    assert_int_equal(form_read(sample(), &read), -1);
    assert_int_equal(meta_read(whole, &m), -1);
    other[0] ^= 1; /* another version's */
    assert_int_equal(form_read((struct sl_span){other, whole.n}, &read), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(fields_are_lines),
        cmocka_unit_test(a_part_of_it_is_not),
        cmocka_unit_test(forms),
    };

    apr_initialize();
    apr_pool_create(&pool, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
