/* Patterns: what matches, what is captured, what gives up; and the groups templates name. */
/* with: server/[!m]*.c server/metrics.c server/config/[a-z]*.c server/event/[a-z]*.c server/http/[a-z]*.c server/master/[a-z]*.c server/net/[a-z]*.c server/runtime/[a-z]*.c server/upstream/[a-z]*.c */
#include "unit.h"

#include "config/pattern.h"

#include <apr_general.h>

static apr_pool_t *pool;

static struct sl_pattern *
compiled(const char *text)
{
    const char *why = "";
    unsigned at;
    struct sl_pattern *p = sl_pattern_compile(pool, text, &why, &at);

    if (p == NULL)
        fail_msg("%s: %s", text, why);
    return p;
}

/* groups: those of the match, "|" between them. */
static const struct {
    const char *pattern, *subject;
    size_t from;
    int found;
    const char *groups;
} matches[] = {
    {"b", "abc", 0, 1, "b"},
    {"^b", "abc", 0, 0, NULL},
    {"^b", "abc", 1, 0, NULL}, /* what stands before is still there */
    {"(?<=a)b", "abc", 1, 1, "b"},
    {"b", "abcb", 2, 1, "b"},
    {"", "", 0, 1, ""},
    {"^$", "", 0, 1, ""},
    {"", "abc", 3, 1, ""},
    {"(a)|(b)", "b", 0, 1, "b||b"},
    {"(b)?a", "a", 0, 1, "a|"},
    {"(?<year>\\d{4})-(\\d\\d)", "in 2026-11", 0, 1, "2026-11|2026|11"},
    {"a.c", "a\nc", 0, 1, "a\nc"},
    {"c$", "abc\n", 0, 0, NULL}, /* the very end */
    {"(?i)ABC", "abc", 0, 1, "abc"},
    {"ABC", "abc", 0, 0, NULL},
    {"(1)(2)(3)(4)(5)(6)(7)(8)(9)(10)(11)", "1234567891011", 0, 1,
     "1234567891011|1|2|3|4|5|6|7|8|9"},
    {"\xff(.)", "\xff\xfe", 0, 1, "\xff\xfe|\xfe"}, /* bytes, not characters */
    {"(?=(abc))a\\Kb", "abc", 0, 1, "b|abc"},
    {"^(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 0, -1, NULL},
    {"(*NO_JIT)^(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 0, -1, NULL},
    {"(*NO_JIT)(b)(c)", "abc", 0, 1, "bc|b|c"},
};

static const char *
groups_of(const struct sl_captures *c, unsigned n)
{
    static char text[256];
    size_t used = 0;
    unsigned i;

    for (i = 0; i <= n && i < SL_GROUPS; i++) {
        assert_non_null(c->group[i].at);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.*s", i > 0 ? "|" : "",
                                 (int)c->group[i].n, c->group[i].at);
    }
    return text;
}

static void
what_matches(void **state)
{
    struct sl_captures c;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof matches / sizeof matches[0]; i++) {
        struct sl_pattern *p = compiled(matches[i].pattern);
        struct sl_span subject = sl_span(matches[i].subject);
        int found = sl_pattern_match(p, subject, matches[i].from, &c);

        if (found != matches[i].found)
            fail_msg("%s on %s: %d", matches[i].pattern, matches[i].subject, found);
        if (found == 1)
            assert_string_equal(groups_of(&c, sl_pattern_groups(p)), matches[i].groups);
        assert_int_equal(sl_pattern_match(p, subject, matches[i].from, NULL), found);
    }
}

static void
an_absent_subject_is_empty(void **state)
{
    struct sl_captures c;

    (void)state;
    assert_int_equal(sl_pattern_match(compiled("^()$"), (struct sl_span){NULL, 0}, 0, &c), 1);
    assert_string_equal(groups_of(&c, 1), "|");
}

/* Steps are not all: one that needs more memory gives up, too, and what it had is given back. */
static void
memory_is_bounded(void **state)
{
    static char long_text[20000];
    struct sl_pattern *p = compiled("^(?:a|b)+$");

    (void)state;
    memset(long_text, 'a', sizeof long_text);
    assert_int_equal(sl_pattern_match(p, (struct sl_span){long_text, 500}, 0, NULL), 1);
    assert_int_equal(sl_pattern_match(p, (struct sl_span){long_text, 20000}, 0, NULL), -1);
}

static void
what_is_no_pattern(void **state)
{
    static const struct { const char *text; unsigned at; } bad[] = {
        {"(", 2}, {"a)", 2}, {"[a", 3}, {"a**", 3}, {"\\", 2}, {"(?<n>a)(?<n>b)", 13},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *why = NULL;
        unsigned at = 0;

        assert_null(sl_pattern_compile(pool, bad[i].text, &why, &at));
        assert_non_null(why);
        if (at != bad[i].at)
            fail_msg("%s: at %u, %s", bad[i].text, at, why);
    }
}

static void
which_group_a_dollar_names(void **state)
{
    static const struct { const char *text; int group; size_t n; const char *err; } dollars[] = {
        {"$0", 0, 2, NULL}, {"$1x", 1, 2, NULL}, {"$20", 2, 2, NULL}, {"$<b>", 2, 4, NULL},
        {"$$1", -1, 2, NULL}, {"$", -1, 1, NULL}, {"$x", -1, 1, NULL}, {"$<b", -1, 1, NULL},
        {"$3", 0, 0, "expected $0 to $2, the groups of the pattern, found $3"},
        {"$<c>", 0, 0, "expected the name of a group of the pattern, found $<c>"},
        {"$<>", 0, 0, "expected the name of a group of the pattern, found $<>"},
    };
    struct capturer c = capturer_of_match(compiled("(a)(?<b>b)"));
    size_t i;

    (void)state;
    for (i = 0; i < sizeof dollars / sizeof dollars[0]; i++) {
        const char *err = NULL, *next;
        int group = -2;

        next = group_parse(pool, dollars[i].text, &c, &group, &err);
        if (dollars[i].err != NULL) {
            assert_null(next);
            assert_string_equal(err, dollars[i].err);
            continue;
        }
        assert_int_equal(group, dollars[i].group);
        assert_int_equal(next - dollars[i].text, dollars[i].n);
    }
}

/* Only nine can be asked for. */
static void
a_name_far_behind_is_refused(void **state)
{
    struct capturer c = capturer_of_match(compiled("()()()()()()()()()(?<far>x)"));
    const char *err = NULL;
    int group;

    (void)state;
    assert_null(group_parse(pool, "$<far>", &c, &group, &err));
    assert_string_equal(err, "expected one of the first 9 groups of the pattern, found $<far>");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_matches),
        cmocka_unit_test(an_absent_subject_is_empty),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(what_is_no_pattern),
        cmocka_unit_test(which_group_a_dollar_names),
        cmocka_unit_test(a_name_far_behind_is_refused),
    };
    int rc;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return rc;
}
