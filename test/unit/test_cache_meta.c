/* What is stored of a response beside its body, and of its forms: bytes there and back. */
/* with: server/runtime/span.c server/http/fields.c server/http/field_names.c server/http/head.c server/runtime/causes.c */
#include "unit.h"

#include "../../modules/cache_disk/meta.c"
#include "http/fields.h"

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

/* ---- which fields are stored, and what a 304 changes of them ---- */

#define N(table) (sizeof(table) / sizeof(table)[0])

/* "Name: value", or NULL behind the last. */
static struct sl_fields *
fields_of(const char *const *lines, size_t n)
{
    struct sl_fields *f = sl_fields_make(pool);
    size_t i;

    for (i = 0; i < n && lines[i] != NULL; i++) {
        const char *colon = strchr(lines[i], ':');
        struct sl_span name = {lines[i], (size_t)(colon - lines[i])};

        assert_int_equal(sl_fields_receive(f, name, sl_span(colon + 2)), 0);
    }
    return f;
}

static struct meta
meta_of(struct sl_fields *fields, unsigned ignore)
{
    struct meta m = {.status = 200};

    assert_int_equal(meta_read(meta_write(pool, &m, fields, ignore), &m), 0);
    return m;
}

/* "value|value" of all lines of the name; "": there is none. */
static const char *
values(const struct meta *m, const char *name)
{
    const char *all = "";
    struct sl_field x;
    unsigned i;

    for (i = 0; meta_field(m, i, &x); i++)
        if (sl_span_eqi(x.name, sl_span(name)))
            all = apr_pstrcat(pool, all, *all != '\0' ? "|" : "", sl_span_dup(pool, x.value), NULL);
    return all;
}

static const struct {
    const char *rfc, *line;
    unsigned ignore;
    int is_kept;
} kept_fields[] = {
    {"9111 3.1", "Unheard-Of: 1", 0, 1},
    {"9111 3.1", "Content-Type: a/b", 0, 1},
    {"9111 3.1", "Cache-Control: max-age=1", 0, 1},
    {"9111 3.1", "Warning: 110 - \"old\"", 0, 1},
    {"9111 3.1", "WWW-Authenticate: Basic", 0, 1},
    {"9111 3.1", "Authentication-Info: x", 0, 1},
    {"9111 3.1", "Proxy-Authenticate: Basic", 0, 0},
    {"9111 3.1", "Proxy-Authorization: x", 0, 0},
    {"9111 3.1", "proxy-authentication-info: x", 0, 0},
    {"9111 3.1", "Proxy-Authentication-Infos: x", 0, 1},
    {"9110 7.6.1", "Proxy-Connection: close", 0, 0},
    {"9110 7.6.1", "Keep-Alive: timeout=1", 0, 0},
    {"9110 7.6.1", "TE: trailers", 0, 0},
    {"9110 7.6.1", "Upgrade: h2c", 0, 0},
    {"9110 6.6.2", "Trailer: X", 0, 0},
    {"9110 8.6", "Content-Length: 3", 0, 0}, /* the body's own */
    {"9111 5.1", "Age: 3", 0, 0},            /* of the moment */
    {"9211 2", "Cache-Status: inner; hit", 0, 1},
    {"6265 3", "Set-Cookie: a=b", 0, 1},
    {"6265 3", "Set-Cookie: a=b", IGNORE_SET_COOKIE, 0},
};

static void
fields_that_are_stored(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(kept_fields); i++) {
        struct sl_fields *f = sl_fields_make(pool);
        const char *colon = strchr(kept_fields[i].line, ':');
        struct sl_span name = {kept_fields[i].line, (size_t)(colon - kept_fields[i].line)};
        struct meta m;

        fields_push(f, sl_field_id(name), name, sl_span(colon + 2));
        m = meta_of(f, kept_fields[i].ignore);
        if (m.n_fields != (unsigned)kept_fields[i].is_kept)
            fail_msg("RFC %s: %s", kept_fields[i].rfc, kept_fields[i].line);
    }
}

static const struct {
    const char *rfc;
    const char *stored[3], *said[3]; /* by the 304 */
    const char *name, *want;
} merges[] = {
    {"9111 3.2", {"X: old"}, {"X: new"}, "X", "new"},
    {"9111 3.2", {"X: old"}, {"x: new"}, "X", "new"}, /* names have no case */
    {"9111 3.2", {"X: old"}, {"Y: new"}, "X", "old"},
    {"9111 3.2", {"X: old"}, {"Y: new"}, "Y", "new"}, /* added */
    {"9111 3.2", {"X: 1", "X: 2"}, {"X: new"}, "X", "new"}, /* all lines */
    {"9111 3.2", {"X: old"}, {"X: 1", "X: 2"}, "X", "1|2"},
    {"9111 3.2", {"X: 1", "X: 2"}, {NULL}, "X", "1|2"},
    {"9111 3.2", {"X: old"}, {"X: "}, "X", ""},
    {"9111 3.2", {"Cache-Control: max-age=1"}, {"Cache-Control: max-age=2"}, "Cache-Control", "max-age=2"},
    {"9111 3.2", {"Cache-Control: must-revalidate"}, {"Expires: 0"}, "Cache-Control", "must-revalidate"},
    {"9111 3.2", {"Expires: 0"}, {"Cache-Control: max-age=1"}, "Expires", "0"},
    {"9111 3.2", {NULL}, {"ETag: \"a\""}, "ETag", "\"a\""},
    {"9111 4.3.4", {"ETag: W/\"a\""}, {"ETag: \"a\""}, "ETag", "W/\"a\""}, /* not strong by that */
    {"9111 3.2", {"ETag: \"a\""}, {NULL}, "ETag", "\"a\""},
    {"9111 3.2", {"Last-Modified: a"}, {"Last-Modified: b"}, "Last-Modified", "b"},
    {"9111 3.2", {"Content-Type: a/a"}, {"Content-Type: b/b"}, "Content-Type", "b/b"},
    {"9111 3.2", {"Content-Language: de"}, {"Content-Language: en"}, "Content-Language", "en"},
    {"9111 3.2", {"Vary: A"}, {NULL}, "Vary", "A"},
    {"9111 3.2", {"Date: old"}, {"Date: new"}, "Date", "new"},
    {"9111 4.2.3", {"Date: old"}, {NULL}, "Date", ""}, /* nothing is as old as that any more */
    /* never: */
    {"9111 3.2", {"Content-Length: 3"}, {"Content-Length: 99"}, "Content-Length", ""},
    {"9111 3.2", {"Content-Encoding: br"}, {"Content-Encoding: gzip"}, "Content-Encoding", "br"},
    {"9111 3.2", {NULL}, {"Content-Encoding: gzip"}, "Content-Encoding", ""},
    {"9111 3.2", {NULL}, {"Content-Range: bytes 0-0/9"}, "Content-Range", ""},
    {"9111 3.1", {NULL}, {"Proxy-Authenticate: Basic"}, "Proxy-Authenticate", ""},
    {"9111 3.1", {NULL}, {"Proxy-Authentication-Info: x"}, "Proxy-Authentication-Info", ""},
    {"9111 5.1", {"Age: 3"}, {"Age: 4"}, "Age", ""},
    {"9111 7.3", {NULL}, {"Set-Cookie: a=b"}, "Set-Cookie", ""},
};

static void
what_a_304_changes(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(merges); i++) {
        struct meta old = meta_of(fields_of(merges[i].stored, N(merges[i].stored)), 0), m;
        struct sl_fields *said = fields_of(merges[i].said, N(merges[i].said));

        meta_merge(pool, said, &old);
        m = meta_of(said, 0);
        if (strcmp(values(&m, merges[i].name), merges[i].want) != 0)
            fail_msg("RFC %s, row %zu: %s is \"%s\"", merges[i].rfc, i, merges[i].name,
                     values(&m, merges[i].name));
    }
}

/* What is merged outlives what it was merged from: the store gives its memory back. */
static void
a_merge_holds_nothing(void **state)
{
    static const char *const lines[] = {"X: old"};
    struct sl_span bytes;
    struct meta m = {.status = 200};
    struct sl_fields *said = sl_fields_make(pool);
    char *copy;

    (void)state;
    bytes = meta_write(pool, &m, fields_of(lines, 1), 0);
    copy = malloc(bytes.n);
    memcpy(copy, bytes.at, bytes.n);
    assert_int_equal(meta_read((struct sl_span){copy, bytes.n}, &m), 0);
    meta_merge(pool, said, &m);
    memset(copy, '?', bytes.n);
    assert_true(sl_span_eq(sl_fields_get(said, "X"), SL_SPAN("old")));
    free(copy);
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
        cmocka_unit_test(fields_that_are_stored),
        cmocka_unit_test(what_a_304_changes),
        cmocka_unit_test(a_merge_holds_nothing),
        cmocka_unit_test(a_part_of_it_is_not),
        cmocka_unit_test(forms),
    };

    apr_initialize();
    apr_pool_create(&pool, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
