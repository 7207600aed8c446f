/* RFC 9111 as tables: what is stored and for how long, what may be used, conditions, ranges. */
/* with: server/runtime/span.c modules/cache_disk/control.c modules/cache_disk/structured.c */
#include "unit.h"

#include "../../modules/cache_disk/policy.c"

#define NOW 1000000000 /* Sun, 09 Sep 2001 01:46:40 GMT */
#define DATE_NOW "Sun, 09 Sep 2001 01:46:40 GMT"
#define DATE_100_AGO "Sun, 09 Sep 2001 01:45:00 GMT"
#define DATE_IN_100 "Sun, 09 Sep 2001 01:48:20 GMT"
#define DATE_1000_AGO "Sun, 09 Sep 2001 01:30:00 GMT"
#define NEVER CC_ABSENT

static struct sl_span
text(const char *s)
{
    return s != NULL ? sl_span(s) : (struct sl_span){NULL, 0};
}

/* ---- Cache-Control (5.2) ---- */

static const struct {
    const char *field;
    unsigned flags;
    int64_t max_age, s_maxage, swr, sie;
} controls[] = {
    {"", 0, NEVER, NEVER, NEVER, NEVER},
    {"max-age=60", 0, 60, NEVER, NEVER, NEVER},
    {"MAX-AGE=60 , s-maxage=5", 0, 60, 5, NEVER, NEVER},
    {"max-age=\"60\"", 0, 60, NEVER, NEVER, NEVER},
    {"max-age=60, max-age=60", 0, 60, NEVER, NEVER, NEVER},
    {"max-age=60, max-age=61", 0, 0, NEVER, NEVER, NEVER},
    {"max-age=x", 0, 0, NEVER, NEVER, NEVER},
    {"max-age", 0, 0, NEVER, NEVER, NEVER},
    {"max-age=-1", 0, 0, NEVER, NEVER, NEVER},
    {"max-age=1.5", 0, 0, NEVER, NEVER, NEVER},
    {"max-age=99999999999999999999", 0, CC_SECONDS_MAX, NEVER, NEVER, NEVER},
    {",, no-store ,no-cache", CC_NO_STORE | CC_NO_CACHE, NEVER, NEVER, NEVER, NEVER},
    {"no-cache=\"Set-Cookie, X\", max-age=1", CC_NO_CACHE, 1, NEVER, NEVER, NEVER},
    {"private=\"a,max-age=9\"", CC_PRIVATE, NEVER, NEVER, NEVER, NEVER},
    {"community=\"max-age=5, no-store\", public", CC_PUBLIC, NEVER, NEVER, NEVER, NEVER},
    {"no-storeX, Xno-store", 0, NEVER, NEVER, NEVER, NEVER},
    {"Stale-While-Revalidate=7, stale-IF-error=8", 0, NEVER, NEVER, 7, 8},
    {"stale-while-revalidat@=7, stale\rif-error=8", 0, NEVER, NEVER, NEVER, NEVER},
    {"stale-while-revalidate=7, stale-if-error=8", 0, NEVER, NEVER, 7, 8},
    {"max-age=\"60", 0, 0, NEVER, NEVER, NEVER},
    {"x=\"a, private", CC_PRIVATE, NEVER, NEVER, NEVER, NEVER},
    {"x=\"a\\\", private", CC_PRIVATE, NEVER, NEVER, NEVER, NEVER},
    {"private;max-age=60 ;;no-store", CC_PRIVATE | CC_NO_STORE, 60, NEVER, NEVER, NEVER},
    {"must-revalidate,proxy-revalidate,must-understand,immutable",
     CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE | CC_MUST_UNDERSTAND | CC_IMMUTABLE, NEVER, NEVER, NEVER,
     NEVER},
};

static void
reads_controls(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof controls / sizeof controls[0]; i++) {
        struct cache_control cc = cache_control_parse(text(controls[i].field));

        if (cc.flags != controls[i].flags || cc.max_age != controls[i].max_age ||
            cc.s_maxage != controls[i].s_maxage || cc.stale_while_revalidate != controls[i].swr ||
            cc.stale_if_error != controls[i].sie)
            fail_msg("\"%s\": flags %x max-age %ld", controls[i].field, cc.flags, (long)cc.max_age);
    }
}

/* ---- storing (3, 4.2) ---- */

static const struct {
    int status;
    const char *cache_control, *expires, *date, *age, *modified;
    int64_t valid;
    int is_stored;
    int64_t lifetime, age_now;
} responses[] = {
    {200, "max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 1, 60, 0},
    {200, "max-age=60", NULL, NULL, NULL, NULL, NEVER, 1, 60, 0},
    {200, "max-age=60", NULL, DATE_100_AGO, NULL, NULL, NEVER, 1, 60, 100},
    {200, "max-age=60", NULL, DATE_100_AGO, "200", NULL, NEVER, 1, 60, 200},
    {200, "max-age=60", NULL, DATE_NOW, "30", NULL, NEVER, 1, 60, 30},
    {200, "max-age=60", NULL, DATE_NOW, "x", NULL, NEVER, 1, 60, 0},
    {200, "max-age=60", NULL, DATE_NOW, "30, 1", NULL, NEVER, 1, 60, 30},
    {200, "max-age=60", NULL, DATE_IN_100, NULL, NULL, NEVER, 1, 60, 0},
    {200, NULL, DATE_IN_100, DATE_IN_100, NULL, NULL, NEVER, 1, 0, 0},
    {200, NULL, DATE_NOW, DATE_100_AGO, NULL, NULL, NEVER, 1, 100, 100},
    {200, "max-age=60, s-maxage=30", DATE_IN_100, DATE_NOW, NULL, NULL, 7, 1, 30, 0},
    {200, NULL, DATE_IN_100, DATE_NOW, NULL, NULL, 7, 1, 100, 0},
    {200, NULL, "0", DATE_NOW, NULL, NULL, 7, 1, 0, 0},
    {200, NULL, DATE_100_AGO, DATE_NOW, NULL, NULL, NEVER, 1, 0, 0},
    {200, NULL, NULL, DATE_NOW, NULL, NULL, 7, 1, 7, 0},
    {200, NULL, NULL, DATE_NOW, NULL, DATE_1000_AGO, NEVER, 1, 100, 0},
    {200, NULL, NULL, DATE_NOW, NULL, DATE_IN_100, NEVER, 0, 0, 0},
    {302, NULL, NULL, DATE_NOW, NULL, DATE_1000_AGO, NEVER, 0, 0, 0},
    {302, "max-age=5", NULL, DATE_NOW, NULL, NULL, NEVER, 1, 5, 0},
    {200, NULL, NULL, DATE_NOW, NULL, NULL, NEVER, 0, 0, 0},
    {200, "no-store, max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 0, 0, 0},
    {200, "must-understand, no-store, max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 1, 60, 0},
    {200, "private, max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 0, 0, 0},
    {206, "max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 0, 0, 0},
    {304, "max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 0, 0, 0},
    {404, "max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 1, 60, 0},
    {401, "max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 0, 0, 0},
    {418, NULL, NULL, DATE_NOW, NULL, NULL, 9, 1, 9, 0},
    {299, "max-age=60", NULL, DATE_NOW, NULL, NULL, NEVER, 0, 0, 0},
    {200, "max-age=99999999999", NULL, DATE_NOW, NULL, NULL, NEVER, 1, CC_SECONDS_MAX, 0},
};

static struct storing
storing_of(const struct response_facts *f)
{
    struct storing s = {0};

    policy_store(f, &s);
    return s;
}

static void
stores(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        struct response_facts f = {
            .status = responses[i].status,
            .cache_control = text(responses[i].cache_control),
            .expires = text(responses[i].expires),
            .date = text(responses[i].date),
            .age = text(responses[i].age),
            .last_modified = text(responses[i].modified),
            .asked_at = NOW,
            .received_at = NOW,
            .valid = responses[i].valid,
        };
        struct storing s;
        const char *refused = policy_store(&f, &s);

        if ((refused == NULL) != responses[i].is_stored ||
            (refused == NULL &&
             (s.lifetime != responses[i].lifetime || NOW - s.born != responses[i].age_now)))
            fail_msg("row %zu: %s, lifetime %ld, age %ld", i, refused != NULL ? refused : "stored",
                     (long)s.lifetime, (long)(NOW - s.born));
    }
}

/* 3.5, 7.3 of RFC 9111; the time a response was under way counts as age (4.2.3). */
static void
stores_with_care(void **state)
{
    struct response_facts f = {.status = 200, .cache_control = text("max-age=60"), .asked_at = NOW - 10,
                               .received_at = NOW, .valid = NEVER};
    struct storing s;

    (void)state;
    assert_int_equal(NOW - storing_of(&f).born, 10);
    assert_int_equal(storing_of(&f).date, CC_ABSENT);
    f.date = text(DATE_IN_100); /* as the server says, ahead of us or not */
    assert_int_equal(storing_of(&f).date, NOW + 100);
    f.date = text(NULL);
    f.has_authorization = 1;
    assert_non_null(policy_store(&f, &s));
    f.cache_control = text("public, max-age=60");
    assert_null(policy_store(&f, &s));
    f.cache_control = text("must-revalidate, max-age=60");
    assert_null(policy_store(&f, &s));
    f.cache_control = text("s-maxage=60");
    assert_null(policy_store(&f, &s));
    f.cache_control = text("proxy-revalidate, max-age=60");
    assert_non_null(policy_store(&f, &s));
    f.cache_control = text("max-age=60");
    f.has_authorization = 0;
    f.has_set_cookie = 1;
    assert_non_null(policy_store(&f, &s));
    f.ignore = IGNORE_SET_COOKIE;
    assert_null(policy_store(&f, &s));
    f.vary = text("Accept, *");
    assert_non_null(policy_store(&f, &s));
    f.vary = text("Accept");
    f.cdn_cache_control = text("max-age=5");
    assert_int_equal(storing_of(&f).lifetime, 5);
    f.expires = text(DATE_IN_100);
    f.cdn_cache_control = text("must-revalidate");
    assert_non_null(policy_store(&f, &s));
    f.cdn_cache_control = text("max-age=5");
    f.request_is_no_store = 1;
    assert_non_null(policy_store(&f, &s));
}

/* ---- using (4.2.4, 5.2.1, RFC 5861) ---- */

static const struct {
    const char *response; /* Cache-Control, stored at NOW */
    const char *request;
    int64_t age;
    int updating, is_soft;
    enum use use;
    int may_on_error;
} uses[] = {
    {"max-age=60", NULL, 0, 0, 0, USE_FRESH, 0},
    {"max-age=60", NULL, 59, 0, 0, USE_FRESH, 0},
    {"max-age=60", NULL, 60, 0, 0, USE_VALIDATE, 0},
    {"max-age=60", NULL, 60, 1, 0, USE_STALE_UPDATE, 0},
    {"max-age=60, must-revalidate", NULL, 60, 1, 0, USE_VALIDATE, 0},
    {"s-maxage=60", NULL, 60, 1, 0, USE_VALIDATE, 0},
    {"s-maxage=60, stale-while-revalidate=10", NULL, 70, 0, 0, USE_STALE_UPDATE, 0},
    {"max-age=60, stale-while-revalidate=10", NULL, 71, 0, 0, USE_VALIDATE, 0},
    {"max-age=60, stale-if-error=10", NULL, 65, 0, 0, USE_VALIDATE, 1},
    {"max-age=60, stale-if-error=10", NULL, 71, 0, 0, USE_VALIDATE, 0},
    {"max-age=60", "stale-if-error=10", 70, 0, 0, USE_VALIDATE, 1},
    {"max-age=60", "stale-if-error=10", 71, 0, 0, USE_VALIDATE, 0},
    {"max-age=60, stale-if-error=20", "stale-if-error=10", 80, 0, 0, USE_VALIDATE, 1},
    {"max-age=60, must-revalidate", "stale-if-error=10", 61, 0, 0, USE_VALIDATE, 0},
    {"max-age=60, proxy-revalidate, stale-while-revalidate=9", NULL, 61, 1, 0, USE_VALIDATE, 0},
    {"max-age=60, proxy-revalidate, stale-if-error=9", NULL, 61, 0, 0, USE_VALIDATE, 0},
    {"no-cache, max-age=60", NULL, 0, 1, 0, USE_VALIDATE, 0},
    {"max-age=60", "no-cache", 0, 0, 0, USE_VALIDATE, 0},
    {"max-age=60", "max-age=5", 5, 0, 0, USE_FRESH, 0},
    {"max-age=60", "max-age=5", 6, 0, 0, USE_VALIDATE, 0},
    {"max-age=60", "max-age=0", 0, 0, 0, USE_FRESH, 0},
    {"max-age=60", "min-fresh=10", 50, 0, 0, USE_FRESH, 0},
    {"max-age=60", "min-fresh=10", 51, 0, 0, USE_VALIDATE, 0},
    {"max-age=60", "max-stale", 600, 0, 0, USE_FRESH, 0},
    {"max-age=60", "max-stale=10", 70, 0, 0, USE_FRESH, 0},
    {"max-age=60", "max-stale=10", 71, 0, 0, USE_VALIDATE, 0},
    {"max-age=60, must-revalidate", "max-stale", 61, 0, 0, USE_VALIDATE, 0},
    {"max-age=60", NULL, 0, 0, 1, USE_VALIDATE, 0},
    {"max-age=60", NULL, 0, 1, 1, USE_STALE_UPDATE, 0},
    {"max-age=60", "max-stale", 0, 0, 1, USE_VALIDATE, 0},
};

static void
uses_what_is_stored(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        struct response_facts response = {.status = 200, .cache_control = text(uses[i].response),
                                          .asked_at = NOW, .received_at = NOW, .valid = NEVER};
        struct use_facts f = {.stored = storing_of(&response), .cache_control = text(uses[i].request),
                              .now = NOW + uses[i].age, .is_soft = uses[i].is_soft,
                              .serves_stale_updating = uses[i].updating};
        struct using u = policy_use(&f);

        if (u.use != uses[i].use || u.may_on_error != uses[i].may_on_error || u.age != uses[i].age)
            fail_msg("row %zu: %d, %s", i, (int)u.use, u.reason);
    }
}

/* A clock that was set back by more than a little makes nothing young for ever. */
static void
clocks_are_set_back(void **state)
{
    struct response_facts response = {.status = 200, .cache_control = text("max-age=60"),
                                      .asked_at = NOW, .received_at = NOW, .valid = NEVER};
    struct use_facts f = {.stored = storing_of(&response), .now = NOW - 60};

    (void)state;
    assert_int_equal(policy_use(&f).use, USE_FRESH);
    assert_int_equal(policy_use(&f).age, 0);
    f.now = NOW - 61;
    assert_int_equal(policy_use(&f).use, USE_VALIDATE);
    assert_int_equal(policy_use(&f).age, 60);
}

/* ---- conditions (RFC 9110, 13) ---- */

static const struct {
    const char *none_match, *modified_since, *etag, *modified;
    int want;
} conditions[] = {
    {NULL, NULL, "\"a\"", NULL, 0},
    {"\"a\"", NULL, "\"a\"", NULL, 1},
    {"W/\"a\"", NULL, "\"a\"", NULL, 1},
    {"\"a\"", NULL, "W/\"a\"", NULL, 1},
    {"\"x,y\", \"a\"", NULL, "\"a\"", NULL, 1},
    {"\"x,\"a\"", NULL, "\"a\"", NULL, 0},
    {"*", NULL, NULL, NULL, 1},
    {"\"b\"", DATE_NOW, "\"a\"", DATE_100_AGO, 0},
    {NULL, DATE_NOW, NULL, DATE_NOW, 1},
    {NULL, DATE_100_AGO, NULL, DATE_NOW, 0},
    {NULL, "nonsense", NULL, DATE_NOW, 0},
};

static void
answers_conditions(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof conditions / sizeof conditions[0]; i++) {
        struct condition_facts f = {
            .if_none_match = text(conditions[i].none_match),
            .if_modified_since = text(conditions[i].modified_since),
            .etag = text(conditions[i].etag),
            .last_modified = text(conditions[i].modified),
            .date = CC_ABSENT,
        };

        if (policy_not_modified(&f) != conditions[i].want)
            fail_msg("row %zu: %d", i, policy_not_modified(&f));
    }
}

/* ---- ranges (RFC 9110, 14) ---- */

static const struct {
    const char *field;
    int64_t size;
    int n;
    struct range first, last;
} ranges[] = {
    {"bytes=0-4", 10, 1, {0, 5}, {0, 5}},
    {"bytes=5-", 10, 1, {5, 5}, {5, 5}},
    {"bytes=-3", 10, 1, {7, 3}, {7, 3}},
    {"bytes=-30", 10, 1, {0, 10}, {0, 10}},
    {"bytes=0-99999999999999999999", 10, 1, {0, 10}, {0, 10}},
    {"BYTES=9-9", 10, 1, {9, 1}, {9, 1}},
    {"bytes=10-", 10, -1, {0, 0}, {0, 0}},
    {"bytes=-0", 10, -1, {0, 0}, {0, 0}},
    {"bytes=0-0", 0, -1, {0, 0}, {0, 0}},
    {"bytes=99999999999999999999-", 10, -1, {0, 0}, {0, 0}},
    {"bytes=4-3", 10, 0, {0, 0}, {0, 0}},
    {"bytes=", 10, 0, {0, 0}, {0, 0}},
    {"bytes=-", 10, 0, {0, 0}, {0, 0}},
    {"bytes=1", 10, 0, {0, 0}, {0, 0}},
    {"bytes=1-2x", 10, 0, {0, 0}, {0, 0}},
    {"lines=1-2", 10, 0, {0, 0}, {0, 0}},
    {"bytes=0-1, 3-4 ,,-1", 10, 3, {0, 2}, {9, 1}},
    {"bytes=0-1,20-30", 10, 1, {0, 2}, {0, 2}},
    {"bytes=0-,0-", 10, 0, {0, 0}, {0, 0}},
    {"bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,0-0,1-1,2-2,3-3,4-4,5-5,6-6", 100, 0, {0, 0}, {0, 0}},
};

static void
finds_ranges(void **state)
{
    struct range found[RANGES_MAX];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        int n = policy_ranges(text(ranges[i].field), ranges[i].size, found);

        if (n != ranges[i].n ||
            (n > 0 && (memcmp(&found[0], &ranges[i].first, sizeof found[0]) != 0 ||
                       memcmp(&found[n - 1], &ranges[i].last, sizeof found[0]) != 0)))
            fail_msg("%s of %ld: %d", ranges[i].field, (long)ranges[i].size, n);
    }
}

/* ---- If-Range (RFC 9110, 13.1.5) ---- */

static const struct {
    const char *if_range, *etag, *modified;
    int64_t date;
    int want;
} range_conditions[] = {
    {NULL, "\"a\"", NULL, NEVER, 1},
    {"\"a\"", "\"a\"", NULL, NEVER, 1},
    {"\"b\"", "\"a\"", NULL, NEVER, 0},
    {"W/\"a\"", "W/\"a\"", NULL, NEVER, 0},
    {DATE_100_AGO, NULL, DATE_100_AGO, NOW, 1},
    {DATE_NOW, NULL, DATE_100_AGO, NOW, 0},
    {DATE_NOW, NULL, DATE_NOW, NOW, 0}, /* of the very second: weak (8.8.2.2) */
    {DATE_100_AGO, NULL, DATE_100_AGO, NEVER, 0},
    {DATE_100_AGO, NULL, NULL, NOW, 0},
};

static void
judges_if_range(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof range_conditions / sizeof range_conditions[0]; i++)
        if (policy_range_holds(text(range_conditions[i].if_range), text(range_conditions[i].etag),
                               text(range_conditions[i].modified),
                               range_conditions[i].date) != range_conditions[i].want)
            fail_msg("row %zu", i);
}

static const struct {
    const char *field;
    int64_t first, last, whole; /* whole 0: it is none */
} content_ranges[] = {
    {"bytes 0-9/100", 0, 9, 100},
    {"Bytes 90-99/100", 90, 99, 100},
    {"bytes 0-0/1", 0, 0, 1},
    {"bytes 0-9/10 ", 0, 0, 0},
    {"bytes 0-9/9", 0, 0, 0},
    {"bytes 9-0/100", 0, 0, 0},
    {"bytes 0-9/*", 0, 0, 0},
    {"bytes */100", 0, 0, 0},
    {"bytes 0-/100", 0, 0, 0},
    {"bytes -9/100", 0, 0, 0},
    {"bytes=0-9/100", 0, 0, 0},
    {"bytes 0-9", 0, 0, 0},
    {"bytes 0-99999999999999999999/99999999999999999999", 0, 0, 0},
    {"lines 0-9/100", 0, 0, 0},
    {"bytes ", 0, 0, 0},
    {"", 0, 0, 0},
    {NULL, 0, 0, 0},
};

static void
reads_content_ranges(void **state)
{
    struct content_range r;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof content_ranges / sizeof content_ranges[0]; i++) {
        int rc = policy_content_range(text(content_ranges[i].field), &r);

        if ((rc == 0) != (content_ranges[i].whole > 0) ||
            (rc == 0 && (r.first != content_ranges[i].first || r.last != content_ranges[i].last ||
                         r.whole != content_ranges[i].whole)))
            fail_msg("%s", content_ranges[i].field);
    }
}

static void
knows_strong_validators(void **state)
{
    struct sl_span old = text(DATE_100_AGO), now = text(DATE_NOW), none = {NULL, 0};

    (void)state;
    assert_true(sl_span_eq(policy_strong_validator(text("\"a\""), old, NOW), text("\"a\"")));
    assert_true(sl_span_eq(policy_strong_validator(text("W/\"a\""), old, NOW), old));
    assert_true(sl_span_eq(policy_strong_validator(none, old, NOW), old));
    assert_int_equal(policy_strong_validator(none, now, NOW).n, 0);
    assert_int_equal(policy_strong_validator(none, old, CC_ABSENT).n, 0);
    assert_int_equal(policy_strong_validator(text("W/\"a\""), none, NOW).n, 0);
    assert_int_equal(policy_strong_validator(none, text("never"), NOW).n, 0);
}

/* ---- structured fields (RFC 8941, 4.2) ---- */

static void
tells_dictionaries(void **state)
{
    static const char *const good[] = {
        "", " ", "a", "a, b", "max-age=60", "max-age=60 ,\tno-store  ", "a=1;b=2;c", "a;b, *x-y.z_1=?0",
        "a=-12.345", "a=999999999999999", "a=\"q \\\" \\\\\"", "a=*tok/en:x", "a=:aGk=:", "a=::", "a=()",
        "a=( 1 \"b\";c=?1  d );e", "private=\"x\", max-age=1"};
    static const char *const bad[] = {
        ",", "a,", "a, ", "a,,b", "max-age=3600, &", "Max-Age=60", "1=a", "a=", "a =1", "a= 1", "a=1 b",
        "a=1.", "a=1.2345", "a=1234567890123.1", "a=9999999999999999", "a=-", "a=?2", "a=\"open", "a=\"\\x\"",
        "a=\"\x80\"", "a=\"\\", "a=:aGk=", "a=:a b:", "a=(1", "a=(1,2)", "a=(1\t2)", "a;", "a;B", "a=1;b=", "a;b=(1)",
        "a=@1"};
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!is_dictionary(text(good[i])))
            fail_msg("not taken: %s", good[i]);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (is_dictionary(text(bad[i])))
            fail_msg("taken: %s", bad[i]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_dictionaries),
        cmocka_unit_test(reads_controls),     cmocka_unit_test(stores),
        cmocka_unit_test(stores_with_care),   cmocka_unit_test(uses_what_is_stored),
        cmocka_unit_test(clocks_are_set_back),
        cmocka_unit_test(answers_conditions), cmocka_unit_test(finds_ranges),
        cmocka_unit_test(reads_content_ranges),
        cmocka_unit_test(knows_strong_validators),
        cmocka_unit_test(judges_if_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
