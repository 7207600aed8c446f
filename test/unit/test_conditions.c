/* Conditions: what holds, what is refused and how, what is asked first. */
/* with: server/[!m]*.c server/metrics.c server/config/[a-z]*.c server/event/[a-z]*.c server/http/[a-z]*.c server/master/[a-z]*.c server/net/[a-z]*.c server/runtime/[a-z]*.c server/upstream/[a-z]*.c */
#include "unit.h"

#include "config/cond.h"
#include "config/config.h"
#include "http/request.h"
#include "http/variables.h"

#include <apr_general.h>

static apr_pool_t *pool;
static struct sl_req request;
static char asked[64]; /* which variables were, in order */

/* %{t_KIND:TEXT} is a value of that type whose text is TEXT; "-" is absent. */
static struct sl_span
get(char mark, struct sl_span arg)
{
    size_t n = strlen(asked);

    if (n + 1 < sizeof asked)
        asked[n] = mark;
    return sl_span_eq(arg, SL_SPAN("-")) ? (struct sl_span){NULL, 0} : arg;
}

#define GETTER(name, mark)                                                                   \
    static struct sl_span name(struct sl_req *r, struct sl_span arg)                         \
    {                                                                                        \
        (void)r;                                                                             \
        return get(mark, arg);                                                               \
    }
GETTER(get_s, 's')
GETTER(get_dear, 'd')
GETTER(get_n, 'n')
GETTER(get_a, 'a')
GETTER(get_t, 't')
GETTER(get_b, 'b')

static const struct sl_variable variables[] = {
    {"s", 1, SL_PHASE_REQUEST, SL_TYPE_STRING, 5, get_s, ""},
    {"dear", 1, SL_PHASE_REQUEST, SL_TYPE_STRING, 500, get_dear, ""},
    {"n", 1, SL_PHASE_REQUEST, SL_TYPE_NUMBER, 6, get_n, ""},
    {"a", 1, SL_PHASE_REQUEST, SL_TYPE_ADDRESS, 7, get_a, ""},
    {"t", 1, SL_PHASE_REQUEST, SL_TYPE_TIME, 8, get_t, ""},
    {"b", 1, SL_PHASE_REQUEST, SL_TYPE_BOOL, 9, get_b, ""},
    SL_VARIABLES_END,
};

static const struct { const char *text; int holds; } good[] = {
    /* strings */
    {"%{s:POST} == POST", 1}, {"%{s:POST} == 'POST'", 1}, {"%{s:POST} == \"POST\"", 1},
    {"%{s:POST} == post", 0}, {"%{s:POST} != GET", 1}, {"POST == %{s:POST}", 1},
    {"%{s:x} == 'it\\'s'", 0}, {"%{s:it's} == 'it\\'s'", 1}, {"%{s:a\\b} == 'a\\b'", 1},
    {"%{s:abc} < abd", 1}, {"%{s:abc} < ab", 0}, {"%{s:abc} >= abc", 1}, {"%{s:b} <= abc", 0},
    {"abd > %{s:abc}", 1}, {"%{s:TLSv1.2} >= TLSv1.2", 1}, {"%{s:a} == %{dear:a}", 1},
    {"%{s:a} != %{dear:a}", 0}, {"'%{s:a}/%{s:b}' == 'a/b'", 1}, {"%{s:a/b} == '%{s:a}/b'", 1},
    {"%{s:100%} == '100%%'", 1}, {"%{s:a%2Fb} == /x", 0}, {"%{s:a%2Fb} == a%2Fb", 1},
    {"%{s:\xc3\xa9} == \xc3\xa9", 1}, {"%{s:1} == 1", 1}, {"%{s:01} == 1", 0},
    /* absent is empty */
    {"%{s:-} == ''", 1}, {"%{s:-} != ''", 0}, {"%{s:x} != ''", 1}, {"%{s:-} == x", 0},
    {"%{n:-} == ''", 1}, {"%{t:-} == ''", 1}, {"%{a:-} == ''", 1}, {"%{a:1.2.3.4} != ''", 1},
    {"%{s:-} =~ ^$", 1}, {"%{s:-} in {'', x}", 1}, {"%{s:-} in {x}", 0},
    /* numbers */
    {"%{n:200} == 200", 1}, {"%{n:200} != 200", 0}, {"%{n:200} >= 200", 1}, {"%{n:200} > 200", 0},
    {"%{n:9} < 10", 1}, {"%{n:-5} < -4", 1}, {"%{n:-5} == -5.0", 1}, {"%{n:0.5} > 0.25", 1},
    {"10 > %{n:9}", 1}, {"10 >= %{n:11}", 0}, {"%{n:200} in {200, 404}", 1},
    {"%{n:201} in {200,404}", 0}, {"%{n:200} == %{n:200}", 1}, {"%{s:9} < 10", 1},
    {"%{s:90} < 10", 0}, {"%{n:10000000000} > 9999999999", 1},
    /* text against a number */
    {"%{s:abc} < 10", 0}, {"%{s:abc} > 10", 0}, {"%{s:-} < 10", 0}, {"%{n:9} == %{s:9}", 1},
    {"%{n:9} == %{s:x}", 0}, {"%{n:9} < %{s:x}", 0}, {"%{n:9} != %{s:x}", 1}, {"%{n:x} == 9", 0},
    {"%{n:x} != 9", 1}, {"%{s:5.} < 10", 0}, {"%{s:1e3} > 10", 0}, {"%{s:--5} < 10", 0},
    /* addresses */
    {"%{a:10.0.0.1} == 10.0.0.1", 1}, {"%{a:10.0.0.1} == '10.0.0.2'", 0},
    {"%{a:10.0.0.1} != 10.0.0.2", 1}, {"%{a:10.9.9.9} in {10.0.0.0/8}", 1},
    {"%{a:11.9.9.9} in {10.0.0.0/8, ::1}", 0}, {"%{a:::1} in {10.0.0.0/8, ::1}", 1},
    {"%{a:::ffff:10.0.0.1} == 10.0.0.1", 1}, {"%{a:2001:db8::1} in {2001:db8::/32}", 1},
    {"%{a:10.0.0.1} == %{s:10.0.0.1}", 1}, {"%{a:10.0.0.1} == %{s:::ffff:10.0.0.1}", 1},
    {"%{a:10.0.0.1} == %{s:x}", 0}, {"%{s:10.1.1.1} in {10.0.0.0/8}", 1},
    {"%{s:x} in {10.0.0.0/8}", 0}, {"%{a:-} in {0.0.0.0/0}", 0}, {"%{a:10.0.0.1} starts_with '10.'", 1},
    /* times: values are seconds */
    {"%{t:0.600} > 500ms", 1}, {"%{t:0.400} > 500ms", 0}, {"%{t:60.000} == 1m", 1},
    {"1s < %{t:1.001}", 1}, {"%{t:-} > 0s", 0}, {"%{t:1.000} >= %{s:0.5}", 1},
    /* bools */
    {"%{b:on}", 1}, {"%{b:0}", 0}, {"!%{b:no}", 1}, {"%{b:-}", 0}, {"%{b:yes} == true", 1},
    {"%{b:off} != false", 0}, {"%{b:odd}", 0}, {"%{b:odd} == true", 0},
    /* parts and sets */
    {"%{s:/api/x} starts_with /api/", 1}, {"%{s:/ap} starts_with /api/", 0},
    {"%{s:a.png} ends_with .png", 1}, {"%{s:png} ends_with .png", 0}, {"%{s:abcd} contains bc", 1},
    {"%{s:abcd} contains cb", 0}, {"%{s:abcd} CONTAINS bc", 1}, {"%{s:abc} contains %{s:b}", 1},
    {"%{s:abc} contains %{s:-}", 0}, {"%{s:GET} in {GET,HEAD}", 1}, {"%{s:PUT} in { GET , HEAD }", 0},
    {"%{s:b} in {d, c, b, a}", 1}, {"%{s:a b} in {'a b'}", 1}, {"%{s:in} == in", 1},
    /* patterns */
    {"%{s:/a/12} =~ '^/a/([0-9]+)$'", 1}, {"%{s:/a/x} =~ '^/a/([0-9]+)$'", 0},
    {"%{s:/a/x} !~ '^/a/([0-9]+)$'", 1}, {"%{s:a.png} =~ \\.(png|jpg)$", -2},
    {"%{s:a.png} =~ '\\.(png|jpg)$'", 1}, {"%{s:ABC} =~ (?i)abc", -2}, {"%{s:ABC} =~ '(?i)abc'", 1},
    {"%{s:abc}=~^a", 1}, {"%{n:404} =~ ^4", 1}, {"%{s:a\nb} =~ '^a$'", 0}, {"%{s:a\n} =~ '^a$'", 0},
    {"%{s:a\nb} =~ 'a.b'", 1},
    /* logic */
    {"%{s:a} == a && %{s:b} == b", 1}, {"%{s:a} == a && %{s:b} == c", 0},
    {"%{s:a} == b || %{s:b} == b", 1}, {"%{s:a} == b || %{s:b} == c", 0}, {"!%{s:a} == b", 1},
    {"!(%{s:a} == a)", 0}, {"!!%{s:a} == a", 1},
    {"%{s:1} == 1 || %{s:1} == 2 && %{s:1} == 3", 1}, {"(%{s:1} == 1 || %{s:1} == 2) && %{s:1} == 3", 0},
    {"((%{s:a}==a))&&(!(%{s:b}!=b))", 1}, {"%{s:x} != y && ! %{s:x} in {y}", 1},
};

static const struct { const char *text, *part, *cure; } bad[] = {
    {"", "expected a condition, found the end", "for instance"},
    {"   ", "expected a condition", "for instance"},
    {"%{s:a}", "expected an operator behind %{s:a} at character 1", "%{s:a} != ''"},
    {"abc", "expected an operator behind abc", "%{NAME}"},
    {"%{s:a} = b", "found = at character 8", "\"==\" compares"},
    {"%{s:a} == b & %{s:a} == c", "found & at character 13", "&&"},
    {"%{s:a} == b and %{s:a} == c", "found and at character 13", "&&"},
    {"%{s:a} == b or %{s:a} == c", "found or at character 13", "||"},
    {"%{s:a} == b | %{s:a} == c", "found |", "||"},
    {"%{s:a} eq b", "found eq at character 8", "=="},
    {"%{s:a} ==", "expected a value behind ==, found the end", "''"},
    {"%{s:a} == &&", "expected a value behind ==, found && at character 11", "''"},
    {"== b", "found == at character 1", NULL},
    {"%{s:a} == b &&", "found the end", NULL},
    {"(%{s:a} == b", "expected \"&&\", \"||\" or \")\", found the end", NULL},
    {"%{s:a} == b)", "found ) at character 12", "no \"(\" is open"},
    {"()", "found ) at character 2", NULL},
    {"!", "found the end", NULL},
    {"%{s:a} == b c", "expected an operator, \"&&\" or \"||\", found c at character 13", NULL},
    {"%{s:a == b", "expected \"}\" behind the \"%{\" at character 1", NULL},
    {"%{s:a} == 'b", "that ends the text at character 11, found the end", NULL},
    {"%{nope} == b", "expected a known variable, found %{nope}, at character 1", NULL},
    {"%{metod} == b", "did you mean %{method}?", NULL},
    {"%{req} == b", "expected %{req:NAME}", NULL},
    {"%{host:x} == b", "without a name behind it", NULL},
    {"%{status} == 200", "%{status} is known when the response is", "later"},
    {"%{s:a} == b && %{status} == 200", "at character 16", "later"},
    {"1 == 1", "found two constants", "%{NAME}"},
    {"%{n:1} == abc", "expected a number beside %{n:1}, found abc at character 11", NULL},
    {"%{n:1} == '1'", "expected a number beside %{n:1}, found '1'", "without quotes"},
    {"'1' == %{n:1}", "expected a number", "without quotes"},
    {"%{n:1} in {1, x}", "expected a number beside %{n:1}, found x at character 15", NULL},
    {"%{n:1} in {'1'}", "expected a number", "without quotes"},
    {"%{a:::1} == abc", "expected an address beside", "for instance"},
    {"%{a:::1} == 10.0.0.0/8", "expected an address beside", "in {10.0.0.0/8}"},
    {"%{a:::1} < ::2", "expected ==, != or in {...} behind %{a:::1}, which is an address, found <", NULL},
    {"%{a:::1} in {::1, 300.0.0.1}", "expected an address or a network", NULL},
    {"%{a:::1} == %{n:1}", "expected an address beside %{a:::1}, found %{n:1}", "one type"},
    {"%{t:1} > 5", "expected a time beside %{t:1}, found 5 at character 10", "500ms"},
    {"%{t:1} > '5s'", "expected a time", "without quotes"},
    {"%{t:1} in {5s}", "expected a comparison behind %{t:1}, which is a time, found in", NULL},
    {"%{b:1} == maybe", "expected true or false", NULL},
    {"%{b:1} > true", "expected == or !=", NULL},
    {"%{s:a} in GET", "expected \"{\" behind \"in\", found GET at character 11", "{GET, HEAD}"},
    {"%{s:a} in {}", "expected a value of the set, found } at character 12", NULL},
    {"%{s:a} in {a,}", "found } at character 14", NULL},
    {"%{s:a} in {a b}", "expected \",\" or \"}\" in the set, found b", NULL},
    {"%{s:a} in {a", "found the end", NULL},
    {"%{s:a} in {%{s:b}}", "expected a text without variables", NULL},
    {"%{s:a} =~ '('", "expected a valid pattern at character 11, found \"(\": missing closing", "backslash"},
    {"%{s:a} =~ '%{s:b}'", "expected a pattern without variables", NULL},
    {"%{s:a} =~ %{s:b}", "expected a pattern without variables", NULL},
    {"x =~ x", "expected a %{variable} beside =~, found x at character 1", "%{NAME}"},
    {"%{s:a} starts_with ''", "expected a text", "empty"},
    {"%{s:a} =~ \\.(png|jpg)$", "found ( at character 13", "single quotes"},
    {"%{s:a} == b ; x", "found ; at character 13", NULL},
    {"%{s:a} == b \x01", "found \x01 at character 13", NULL},
};

static int
holds(const char *text)
{
    const char *err = NULL;
    struct sl_cond *cond = sl_cond_compile(pool, text, SL_PHASE_REQUEST, &err);

    if (cond == NULL)
        return -2;
    assert_null(err);
    assert_string_equal(sl_cond_source(cond), text);
    memset(asked, 0, sizeof asked);
    return sl_cond_holds(cond, &request);
}

static void
what_holds(void **state)
{
    unsigned i;
    int h;

    (void)state;
    for (i = 0; i < sizeof good / sizeof good[0]; i++)
        if ((h = holds(good[i].text)) != good[i].holds)
            fail_msg("%s: %d, expected %d", good[i].text, h, good[i].holds);
}

static void
what_is_refused(void **state)
{
    struct cond_error e;
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (cond_compile(pool, bad[i].text, SL_PHASE_REQUEST, &e) != NULL)
            fail_msg("taken: %s", bad[i].text);
        if (strstr(e.text, bad[i].part) == NULL)
            fail_msg("%s: \"%s\", expected \"%s\"", bad[i].text, e.text, bad[i].part);
        if (bad[i].cure != NULL && (e.cure == NULL || strstr(e.cure, bad[i].cure) == NULL))
            fail_msg("%s: cure \"%s\", expected \"%s\"", bad[i].text, e.cure, bad[i].cure);
    }
}

static void
error_and_cure_in_one_phrase(void **state)
{
    const char *err;

    (void)state;
    assert_null(sl_cond_compile(pool, "%{s:a} = b", SL_PHASE_REQUEST, &err));
    assert_string_equal(err, "expected an operator, \"&&\" or \"||\", found = at character 8; "
                             "\"==\" compares");
    assert_non_null(sl_cond_compile(pool, "%{status} == 200", SL_PHASE_RESPONSE, &err));
}

static void
depth_is_bounded(void **state)
{
    char text[3 * COND_DEPTH_MAX + 40];
    int i, n;

    (void)state;
    for (n = COND_DEPTH_MAX; n <= COND_DEPTH_MAX + 1; n++) {
        memset(text, '(', (size_t)n);
        i = n + sprintf(text + n, "%%{s:a} == a");
        memset(text + i, ')', (size_t)n);
        text[i + n] = '\0';
        assert_int_equal(holds(text), n == COND_DEPTH_MAX ? 1 : -2);
    }
    memset(text, '!', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(holds(text), -2);
}

static void
cheap_first_unless_seen(void **state)
{
    static const struct { const char *text, *asked; } table[] = {
        {"%{dear:x} == x && %{s:x} == x", "sd"},
        {"%{dear:x} == x && %{s:x} == y", "s"},
        {"%{dear:x} == x || %{s:x} == x", "s"},
        {"%{n:1} == 1 && %{s:x} == x && %{dear:x} == x", "snd"},
        {"(%{dear:x} == x || %{n:1} == 2) && %{s:x} == x", "snd"},
        /* a pattern stays where it is, and nothing passes it */
        {"%{dear:x} =~ x && %{s:x} == x", "ds"},
        {"%{dear:x} == x && %{n:1} =~ 1 && %{s:x} == x", "dns"},
        {"%{dear:x} == x && %{n:1} == 1 && %{s:x} =~ x", "nds"},
        /* equal cost: as written */
        {"%{s:x} == x && %{s:x} != y", "ss"},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_true(holds(table[i].text) >= 0);
        assert_string_equal(asked, table[i].asked);
    }
}

static void
patterns_give_up(void **state)
{
    static char text[400];

    (void)state;
    sprintf(text, "%%{s:%060d} =~ '^(0+)+$' || %%{s:a} == a", 0);
    assert_int_equal(holds(text), 1);
    sprintf(text, "%%{s:%060dx} =~ '^(0+)+$' || %%{s:a} == a", 0);
    assert_int_equal(holds(text), -1);
    sprintf(text, "!(%%{s:%060dx} =~ '^(0+)+$')", 0);
    assert_int_equal(holds(text), -1);
    sprintf(text, "%%{s:a} == a || %%{s:%060dx} =~ '^(0+)+$'", 0);
    assert_int_equal(holds(text), 1);
}

static void
captures(void **state)
{
    const char *err;
    struct sl_cond *cond = sl_cond_compile(pool, "%{s:/u/ann} =~ '^/u/([a-z]+)(x)?'",
                                           SL_PHASE_REQUEST, &err);
    struct capturer c = cond_capturer(cond);
    struct sl_expr *e = expr_compile(pool, "<$1-$2-$0-$$1-%{s:$1}-$x>", SL_PHASE_REQUEST, &c, &err);

    (void)state;
    assert_non_null(e);
    assert_false(sl_expr_is_constant(e));
    assert_string_equal(sl_expr_text(e, &request).at, "<--" "-$1-$1-$x>");
    assert_int_equal(sl_cond_holds(cond, &request), 1);
    assert_string_equal(sl_expr_text(e, &request).at, "<ann--/u/ann-$1-$1-$x>");
    assert_null(expr_compile(pool, "$3", SL_PHASE_REQUEST, &c, &err));
    assert_non_null(strstr(err, "$0 to $2"));
    e = sl_expr_compile(pool, "$1", SL_PHASE_REQUEST, &err);
    assert_true(sl_expr_is_constant(e));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_holds),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(error_and_cure_in_one_phrase),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(cheap_first_unless_seen),
        cmocka_unit_test(patterns_give_up),
        cmocka_unit_test(captures)};
    struct config_source source = {.text = "", .name = "t", .module_dir = "/nonexistent"};
    int rc;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    request.pool = request.head.pool = pool;
    config_load(pool, &source);
    variables_add("test", variables, sizeof variables[0]);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return rc;
}
