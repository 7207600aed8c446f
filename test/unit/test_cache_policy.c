/* RFC 9111 as tables: what is stored and for how long, what may be used, conditions, ranges.  Each row
 * says by which RFC and section. */
/* with: server/runtime/span.c modules/cache_disk/control.c modules/cache_disk/structured.c */
#include "unit.h"

#include "../../modules/cache_disk/policy.c"

#define NOW 1000000000 /* Sun, 09 Sep 2001 01:46:40 GMT */
#define DATE_NOW "Sun, 09 Sep 2001 01:46:40 GMT"
#define DATE_99_AGO "Sun, 09 Sep 2001 01:45:01 GMT"
#define DATE_100_AGO "Sun, 09 Sep 2001 01:45:00 GMT"
#define DATE_IN_100 "Sun, 09 Sep 2001 01:48:20 GMT"
#define DATE_1000_AGO "Sun, 09 Sep 2001 01:30:00 GMT"
#define DATE_YEARS_AGO "Fri, 01 Jan 1999 00:00:00 GMT"
#define NEVER CC_ABSENT
#define REFUSED INT64_C(-2) /* it is not stored */
#define N(table) (sizeof(table) / sizeof(table)[0])

static struct sl_span
text(const char *s)
{
    return s != NULL ? sl_span(s) : (struct sl_span){NULL, 0};
}

/* ---- Cache-Control ---- */

static const struct {
    const char *rfc, *field;
    unsigned flags;
    int64_t max_age, s_maxage, swr, sie;
} controls[] = {
    {"9111 5.2", "", 0, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.2.1", "max-age=60", 0, 60, NEVER, NEVER, NEVER},
    {"9111 5.2", "MAX-AGE=60 , s-maxage=5", 0, 60, 5, NEVER, NEVER}, /* without case */
    {"9111 5.2", "max-age=\"60\"", 0, 60, NEVER, NEVER, NEVER}, /* both forms of a value */
    {"9111 5.2.2.10", "s-maxage=\"7\"", 0, NEVER, 7, NEVER, NEVER},
    {"9111 4.2.1", "max-age=60, max-age=60", 0, 60, NEVER, NEVER, NEVER},
    {"9111 4.2.1", "max-age=60, max-age=61", 0, 0, NEVER, NEVER, NEVER},
    {"9111 4.2.1", "s-maxage=61, s-maxage=60", 0, NEVER, 0, NEVER, NEVER},
    {"9111 4.2.1", "max-age=x", 0, 0, NEVER, NEVER, NEVER},
    {"9111 4.2.1", "max-age", 0, 0, NEVER, NEVER, NEVER},
    {"9111 4.2.1", "max-age=", 0, 0, NEVER, NEVER, NEVER},
    {"9111 1.2.2", "max-age=-1", 0, 0, NEVER, NEVER, NEVER},
    {"9111 1.2.2", "max-age=+1", 0, 0, NEVER, NEVER, NEVER},
    {"9111 1.2.2", "max-age=1.5", 0, 0, NEVER, NEVER, NEVER},
    {"9111 1.2.2", "max-age=2147483647", 0, 2147483647, NEVER, NEVER, NEVER},
    {"9111 1.2.2", "max-age=2147483649", 0, CC_SECONDS_MAX, NEVER, NEVER, NEVER},
    {"9111 1.2.2", "max-age=99999999999999999999", 0, CC_SECONDS_MAX, NEVER, NEVER, NEVER},
    {"9110 5.6.1", ",, no-store ,no-cache", CC_NO_STORE | CC_NO_CACHE, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.2.4", "no-cache=\"Set-Cookie, X\", max-age=1", CC_NO_CACHE, 1, NEVER, NEVER, NEVER},
    {"9111 5.2.2.4", "no-cache=X", CC_NO_CACHE, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.2.7", "private=\"a,max-age=9\"", CC_PRIVATE, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.3", "community=\"max-age=5, no-store\", public", CC_PUBLIC, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.3", "no-storeX, Xno-store, no-store-, no_store", 0, NEVER, NEVER, NEVER, NEVER},
    {"5861 3", "Stale-While-Revalidate=7, stale-IF-error=8", 0, NEVER, NEVER, 7, 8},
    {"9111 5.2.3", "stale-while-revalidat@=7, stale\rif-error=8", 0, NEVER, NEVER, NEVER, NEVER},
    {"5861 4", "stale-while-revalidate=7, stale-if-error=8", 0, NEVER, NEVER, 7, 8},
    {"5861 3", "stale-while-revalidate, stale-if-error=soon", 0, NEVER, NEVER, 0, 0},
    {"9111 4.2.1", "max-age=\"60", 0, 0, NEVER, NEVER, NEVER},
    {"9111 5.2.2.7", "x=\"a, private", CC_PRIVATE, NEVER, NEVER, NEVER, NEVER}, /* in doubt it counts */
    {"9111 5.2.2.7", "x=\"a\\\", private", CC_PRIVATE, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.3", "x=\"a\\\", private\"", 0, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.2.5", "private;max-age=60 ;;no-store", CC_PRIVATE | CC_NO_STORE, 60, NEVER, NEVER, NEVER},
    {"9111 5.2.2", "must-revalidate,proxy-revalidate,must-understand,no-transform",
     CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE | CC_MUST_UNDERSTAND | CC_NO_TRANSFORM, NEVER, NEVER, NEVER,
     NEVER},
    {"8246 2", "immutable", CC_IMMUTABLE, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.1.7", "only-if-cached", CC_ONLY_IF_CACHED, NEVER, NEVER, NEVER, NEVER},
    {"9111 5.2.1.2", "max-stale", CC_MAX_STALE_ANY, NEVER, NEVER, NEVER, NEVER},
};

static void
reads_controls(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(controls); i++) {
        struct cache_control cc = cache_control_parse(text(controls[i].field));

        if (cc.flags != controls[i].flags || cc.max_age != controls[i].max_age ||
            cc.s_maxage != controls[i].s_maxage || cc.stale_while_revalidate != controls[i].swr ||
            cc.stale_if_error != controls[i].sie)
            fail_msg("RFC %s: \"%s\": flags %x max-age %ld", controls[i].rfc, controls[i].field, cc.flags,
                     (long)cc.max_age);
    }
}

/* ---- dates ---- */

static const struct {
    const char *rfc, *field;
    int64_t date;
} dates[] = {
    {"9110 5.6.7", DATE_NOW, NOW},
    {"9110 5.6.7", "Sunday, 09-Sep-01 01:46:40 GMT", NOW},
    {"9110 5.6.7", "Sun Sep  9 01:46:40 2001", NOW},
    {"9110 5.6.7", "Thu Sep 20 00:00:00 2001", NOW + 944000},
    {"9111 4.2", "sun, 09 SEP 2001 01:46:40 gmt", NOW}, /* without case */
    {"9111 4.2", "Sun, 09 Sep 2001 01:46:40 UTC", NEVER},
    {"9111 4.2", "Sun, 09 Sep 2001 01:46:40 PST", NEVER},
    {"9111 4.2", "Sun, 09 Sep 2001 01:46:40 +0200", NEVER},
    {"9111 4.2", "Sun, 09 Sep 2001 01:46:40 2001", NEVER},
    {"9110 5.6.7", "Sun, 09 Sep 2001 01:46:40", NEVER},
    {"9110 5.6.7", DATE_NOW ", " DATE_NOW, NEVER},
    {"9110 5.6.7", DATE_NOW " or so", NEVER},
    {"9110 5.6.7", "Sun, 32 Sep 2001 01:46:40 GMT", NEVER},
    {"9110 5.6.7", "Sun, 09 Foo 2001 01:46:40 GMT", NEVER},
    {"9110 5.6.7", "2001-09-09T01:46:40 GMT", NEVER},
    {"9110 5.6.7", "1000000000", NEVER},
    {"9110 5.6.7", ":46:40 GMT", NEVER},
    {"9110 5.6.7", ":46:40 2001", NEVER},
    {"9110 5.6.7", "0", NEVER},
    {"9110 5.6.7", "", NEVER},
};

static void
reads_dates(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(dates); i++) {
        int64_t date = http_date(text(dates[i].field)), again = http_date(text(dates[i].field));

        if (date != dates[i].date || again != date)
            fail_msg("RFC %s: \"%s\": %ld", dates[i].rfc, dates[i].field, (long)date);
    }
}

/* ---- requests ---- */

static const struct {
    const char *rfc, *method;
    int has_body, is_for_server, want;
} asked[] = {
    {"9111 4", "GET", 0, 0, 1},
    {"9111 4", "HEAD", 0, 0, 1}, /* of what GET brought (9110, 9.3.2) */
    {"9110 9.1", "get", 0, 0, 0}, /* methods have case */
    {"9110 9.3.3", "POST", 0, 0, 0},
    {"9110 9.3.7", "OPTIONS", 0, 0, 0}, /* not cacheable */
    {"9110 9.3.8", "TRACE", 0, 0, 0},
    {"9110 9.3.4", "PUT", 0, 0, 0},
    {"9110 9.3.5", "DELETE", 0, 0, 0},
    {"9110 9.2.3", "QUERY", 0, 0, 0},
    {"9110 9.3.1", "GET", 1, 0, 0}, /* with content it may mean anything */
    {"9111 4.3.2", "GET", 0, 1, 0}, /* If-Match, If-Unmodified-Since */
    {"9111 4.3.2", "HEAD", 0, 1, 0},
};

static void
knows_what_it_may_answer(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(asked); i++)
        if (policy_may_answer(text(asked[i].method), asked[i].has_body, asked[i].is_for_server) !=
            asked[i].want)
            fail_msg("RFC %s: %s", asked[i].rfc, asked[i].method);
}

static const struct {
    const char *rfc, *method;
    int status, want;
} changes[] = {
    {"9111 4.4", "POST", 200, 1},
    {"9111 4.4", "PUT", 201, 1},
    {"9111 4.4", "PUT", 204, 1},
    {"9111 4.4", "DELETE", 202, 1},
    {"9111 4.4", "PATCH", 200, 1},
    {"9111 4.4", "POST", 303, 1}, /* 3xx is no error, either */
    {"9111 4.4", "POST", 399, 1},
    {"9111 4.4", "INVENTED", 200, 1}, /* whose safety is unknown */
    {"9111 4.4", "get", 200, 1},
    {"9111 4.4", "POST", 400, 0},
    {"9111 4.4", "DELETE", 404, 0},
    {"9111 4.4", "POST", 500, 0},
    {"9111 4.4", "POST", 101, 0},
    {"9110 9.2.1", "GET", 200, 0},
    {"9110 9.2.1", "HEAD", 200, 0},
    {"9110 9.2.1", "OPTIONS", 200, 0},
    {"9110 9.2.1", "TRACE", 200, 0},
};

static void
knows_what_changes(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(changes); i++)
        if (policy_invalidates(text(changes[i].method), changes[i].status) != changes[i].want)
            fail_msg("RFC %s: %s, %d", changes[i].rfc, changes[i].method, changes[i].status);
}

/* ---- storing ---- */

static const struct stored_row {
    const char *rfc;
    int status; /* 0: 200 */
    const char *cache_control, *expires, *date, *age, *modified;
    int64_t valid; /* CacheValid; 0: none */
    int64_t delay; /* of the response */
    int64_t lifetime, age_now; /* wanted */
    const char *cdn, *pragma, *vary;
    int authorization, cookie, no_store; /* the latter of the request */
    unsigned ignore;
    int is_always_asked;
    enum strictness strict;
} stored[] = {
    /* final, understood */
    {"9111 3", .cache_control = "max-age=60", .lifetime = 60},
    {"9111 3", 100, "max-age=60", .lifetime = REFUSED},
    {"9111 3", 103, "max-age=60", .valid = 9, .lifetime = REFUSED},
    {"9111 3", 206, "max-age=60", .valid = 9, .lifetime = REFUSED},
    {"9111 3", 304, "max-age=60", .valid = 9, .lifetime = REFUSED},
    {"9111 3", 299, "max-age=60", .lifetime = REFUSED},
    {"9111 3", 499, "max-age=60", .lifetime = 60},
    {"9111 3", 418, .valid = 9, .lifetime = 9},
    {"9111 3", 404, "max-age=60", .lifetime = 60},
    {"9111 3", 302, "max-age=5", .lifetime = 5},
    {"9111 3", 302, .expires = DATE_IN_100, .date = DATE_NOW, .lifetime = 100},
    {"9111 3", 307, "s-maxage=5", .lifetime = 5, .strict = AS_SAID},
    {"9111 3", .date = DATE_NOW, .lifetime = REFUSED}, /* nothing says how long */
    {"9111 3", .cache_control = "public", .lifetime = REFUSED},
    {"9110 15.5.2", 401, "max-age=60", .lifetime = REFUSED},
    {"9110 15.5.8", 407, "max-age=60", .lifetime = REFUSED},
    {"6585 3", 428, "max-age=60", .lifetime = REFUSED},
    {"6585 4", 429, "max-age=60", .lifetime = REFUSED},
    {"6585 4", 429, .valid = 9, .lifetime = 9}, /* the operator's word */
    {"6585 5", 431, "max-age=60", .lifetime = REFUSED},
    {"6585 6", 511, "max-age=60", .lifetime = REFUSED},
    /* no-store, must-understand, private */
    {"9111 5.2.2.5", .cache_control = "no-store, max-age=60", .lifetime = REFUSED},
    {"9111 5.2.2.5", .cache_control = "max-age=60, no-store=\"x\"", .lifetime = REFUSED},
    {"9111 5.2.1.5", .cache_control = "max-age=60", .no_store = 1, .lifetime = REFUSED},
    {"9111 5.2.2.3", .cache_control = "must-understand, no-store, max-age=60", .lifetime = 60},
    {"9111 5.2.2.3", 404, "no-store, max-age=60, must-understand", .lifetime = 60},
    {"9111 5.2.2.3", 499, "must-understand, no-store, max-age=60", .lifetime = REFUSED},
    {"9111 5.2.2.3", 499, "must-understand, max-age=60", .lifetime = REFUSED},
    {"9111 5.2.2.3", 299, "must-understand, max-age=60", .valid = 9, .lifetime = REFUSED},
    {"9111 5.2.2.3", 206, "must-understand, max-age=60", .lifetime = REFUSED},
    {"9111 5.2.2.7", .cache_control = "private, max-age=60", .lifetime = REFUSED},
    {"9111 5.2.2.7", .cache_control = "private=\"X\", max-age=60", .lifetime = REFUSED},
    {"9111 5.2.2.7", .cache_control = "public, private, max-age=60", .lifetime = REFUSED},
    {"9111 5.2.2.7", .cache_control = "private, s-maxage=60", .lifetime = REFUSED},
    /* Authorization */
    {"9111 3.5", .cache_control = "max-age=60", .authorization = 1, .lifetime = REFUSED},
    {"9111 3.5", .expires = DATE_IN_100, .date = DATE_NOW, .authorization = 1, .lifetime = REFUSED},
    {"9111 3.5", .authorization = 1, .valid = 9, .lifetime = REFUSED},
    {"9111 3.5", .cache_control = "public, max-age=60", .authorization = 1, .lifetime = 60},
    {"9111 3.5", .cache_control = "must-revalidate, max-age=60", .authorization = 1, .lifetime = 60,
     .strict = STRICT},
    {"9111 3.5", .cache_control = "s-maxage=60", .authorization = 1, .lifetime = 60, .strict = AS_SAID},
    {"9111 3.5", .cache_control = "proxy-revalidate, max-age=60", .authorization = 1, .lifetime = REFUSED},
    {"9111 3.5", .cache_control = "no-cache, max-age=60", .authorization = 1, .lifetime = REFUSED},
    {"9111 3.5", .cdn = "public, max-age=60", .authorization = 1, .lifetime = 60},
    {"9111 3.5", .cdn = "max-age=60", .cache_control = "public", .authorization = 1, .lifetime = REFUSED},
    /* cookies, Vary */
    {"9111 7.3", .cache_control = "max-age=60", .cookie = 1, .lifetime = REFUSED},
    {"9111 7.3", .cache_control = "max-age=60", .cookie = 1, .ignore = IGNORE_SET_COOKIE, .lifetime = 60},
    {"9111 4.1", .cache_control = "max-age=60", .vary = "*", .lifetime = REFUSED},
    {"9111 4.1", .cache_control = "max-age=60", .vary = "Accept, *", .lifetime = REFUSED},
    {"9111 4.1", .cache_control = "max-age=60", .vary = "*,Accept", .valid = 9, .lifetime = REFUSED},
    {"9111 4.1", .cache_control = "max-age=60", .vary = "Accept, X-*", .lifetime = 60},
    {"9111 4.1", .cache_control = "max-age=60", .vary = "*", .ignore = IGNORE_VARY, .lifetime = 60},
    /* how long: in this order */
    {"9111 4.2.1", .cache_control = "max-age=60, s-maxage=30", .expires = DATE_IN_100, .date = DATE_NOW,
     .valid = 7, .lifetime = 30, .strict = AS_SAID},
    {"9111 5.2.2.10", .cache_control = "max-age=0, s-maxage=30", .lifetime = 30, .strict = AS_SAID},
    {"9111 5.2.2.10", .cache_control = "max-age=30, s-maxage=0", .lifetime = 0, .strict = AS_SAID},
    {"9111 5.3", .cache_control = "max-age=60", .expires = "0", .date = DATE_NOW, .lifetime = 60},
    {"9111 5.3", .cache_control = "public", .expires = DATE_IN_100, .date = DATE_NOW, .lifetime = 100},
    {"9111 4.2.1", .expires = DATE_IN_100, .date = DATE_NOW, .valid = 7, .lifetime = 100},
    {"9111 4.2.1", .expires = DATE_NOW, .date = DATE_100_AGO, .lifetime = 100, .age_now = 100},
    {"9111 4.2.1", .expires = DATE_IN_100, .date = DATE_IN_100, .lifetime = 0}, /* one clock's */
    {"9111 4.2.1", .expires = DATE_IN_100, .lifetime = 100}, /* no Date: when it came */
    {"9111 4.2.1", .cache_control = "max-age=60, max-age=30", .expires = DATE_IN_100, .lifetime = 0},
    {"9111 4.2.1", .cache_control = "max-age=soon", .valid = 9, .lifetime = 0},
    {"9111 4.2.1", .date = DATE_NOW, .valid = 7, .lifetime = 7},
    {"9111 5.3", .expires = "0", .date = DATE_NOW, .valid = 7, .lifetime = 0},
    {"9111 5.3", .expires = "", .date = DATE_NOW, .valid = 7, .lifetime = 0},
    {"9111 5.3", .expires = "tomorrow", .date = DATE_NOW, .valid = 7, .lifetime = 0},
    {"9111 5.3", .expires = "Sun, 09 Sep 2001 01:48:20 PST", .date = DATE_NOW, .lifetime = 0},
    {"9111 5.3", .expires = DATE_100_AGO, .date = DATE_NOW, .lifetime = 0},
    {"9111 5.3", .expires = DATE_IN_100, .date = DATE_NOW, .ignore = IGNORE_EXPIRES, .lifetime = REFUSED},
    {"9111 1.2.2", .cache_control = "max-age=99999999999", .lifetime = CC_SECONDS_MAX},
    {"9111 5.2.3", .cache_control = "max-age=60, community=\"no-store\", x-private", .lifetime = 60},
    {"8246 2", .cache_control = "max-age=60, immutable", .lifetime = 60},
    /* guessed */
    {"9111 4.2.2", .date = DATE_NOW, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9111 4.2.2", .modified = DATE_1000_AGO, .lifetime = 100},
    {"9111 4.2.2", .date = DATE_100_AGO, .modified = DATE_1000_AGO, .lifetime = 90, .age_now = 100},
    {"9111 4.2.2", .date = DATE_NOW, .modified = DATE_YEARS_AGO, .lifetime = 24 * 60 * 60},
    {"9111 4.2.2", .date = DATE_NOW, .modified = DATE_IN_100, .lifetime = REFUSED},
    {"9111 4.2.2", .date = DATE_NOW, .modified = "long ago", .lifetime = REFUSED},
    {"9111 4.2.2", .expires = "0", .date = DATE_NOW, .modified = DATE_1000_AGO, .lifetime = 0}, /* explicit */
    {"9111 4.2.2", .cache_control = "max-age=1", .modified = DATE_1000_AGO, .lifetime = 1},
    {"9111 4.2.2", .modified = DATE_1000_AGO, .valid = 7, .lifetime = 7},
    {"9110 15.1", 203, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 204, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 300, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 301, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 308, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 404, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 405, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 410, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 414, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 501, .modified = DATE_1000_AGO, .lifetime = 100},
    {"9110 15.1", 201, .modified = DATE_1000_AGO, .lifetime = REFUSED},
    {"9110 15.1", 302, .modified = DATE_1000_AGO, .lifetime = REFUSED},
    {"9110 15.1", 307, .modified = DATE_1000_AGO, .lifetime = REFUSED},
    {"9110 15.1", 403, .modified = DATE_1000_AGO, .lifetime = REFUSED},
    {"9110 15.1", 500, .modified = DATE_1000_AGO, .lifetime = REFUSED},
    {"9110 15.1", 503, .modified = DATE_1000_AGO, .lifetime = REFUSED},
    /* how old it is when it comes */
    {"9111 4.2.3", .cache_control = "max-age=60", .date = DATE_100_AGO, .lifetime = 60, .age_now = 100},
    {"9111 4.2.3", .cache_control = "max-age=60", .date = DATE_NOW, .age = "30", .lifetime = 60, .age_now = 30},
    {"9111 4.2.3", .cache_control = "max-age=60", .date = DATE_100_AGO, .age = "200", .lifetime = 60,
     .age_now = 200},
    {"9111 4.2.3", .cache_control = "max-age=60", .date = DATE_100_AGO, .age = "20", .lifetime = 60,
     .age_now = 100},
    {"9111 4.2.3", .cache_control = "max-age=60", .date = DATE_IN_100, .lifetime = 60, .age_now = 0},
    {"9111 4.2.3", .cache_control = "max-age=60", .delay = 10, .lifetime = 60, .age_now = 10},
    {"9111 4.2.3", .cache_control = "max-age=60", .date = DATE_NOW, .age = "30", .delay = 10, .lifetime = 60,
     .age_now = 40},
    {"9111 4.2.3", .cache_control = "max-age=60", .date = DATE_100_AGO, .age = "30", .delay = 10,
     .lifetime = 60, .age_now = 100},
    {"9111 5.1", .cache_control = "max-age=60", .age = "x", .lifetime = 60},
    {"9111 5.1", .cache_control = "max-age=60", .age = "-5", .lifetime = 60},
    {"9111 5.1", .cache_control = "max-age=60", .age = "1.5", .lifetime = 60},
    {"9111 5.1", .cache_control = "max-age=60", .age = "30, 1", .lifetime = 60, .age_now = 30},
    {"9111 5.1", .cache_control = "max-age=60", .age = "x, 30", .lifetime = 60},
    {"9111 5.1", .cache_control = "max-age=60", .age = "99999999999999999999", .lifetime = 60,
     .age_now = CC_SECONDS_MAX},
    /* whether it is used without a question */
    {"9111 5.2.2.4", .cache_control = "no-cache, max-age=60", .lifetime = 60, .is_always_asked = 1,
     .strict = STRICT},
    {"9111 5.2.2.4", .cache_control = "no-cache=\"X\", max-age=60", .lifetime = 60, .is_always_asked = 1,
     .strict = STRICT},
    {"9111 5.2.2.2", .cache_control = "must-revalidate, max-age=60", .lifetime = 60, .strict = STRICT},
    {"9111 5.2.2.8", .cache_control = "proxy-revalidate, max-age=60", .lifetime = 60, .strict = STRICT},
    {"9111 5.2.2.10", .cache_control = "must-revalidate, s-maxage=60", .lifetime = 60, .strict = STRICT},
    {"9111 5.4", .pragma = "no-cache", .expires = DATE_IN_100, .lifetime = 100, .is_always_asked = 1,
     .strict = STRICT},
    {"9111 5.4", .pragma = "no-cache", .cache_control = "max-age=60", .lifetime = 60},
    {"9111 5.4", .pragma = "other", .expires = DATE_IN_100, .lifetime = 100},
    /* CDN-Cache-Control */
    {"9213 2.2", .cdn = "max-age=5", .cache_control = "max-age=60", .lifetime = 5},
    {"9213 2.2", .cdn = "max-age=5", .cache_control = "no-store, private", .lifetime = 5},
    {"9213 2.2", .cdn = "no-store", .cache_control = "max-age=60", .lifetime = REFUSED},
    {"9213 2.2", .cdn = "private", .cache_control = "max-age=60", .lifetime = REFUSED},
    {"9213 2.2", .cdn = "must-revalidate", .expires = DATE_IN_100, .lifetime = REFUSED},
    {"9213 2.2", .cdn = "max-age=5", .expires = DATE_IN_100, .pragma = "no-cache", .lifetime = 5},
    {"9213 2.2", .cdn = "must-revalidate", .valid = 7, .lifetime = 7, .strict = STRICT},
    {"9213 2.2", .cdn = "", .cache_control = "max-age=60", .lifetime = 60}, /* empty: as if absent */
    {"9213 2.1", .cdn = "max-age=5, &", .cache_control = "max-age=60", .lifetime = 60}, /* no Dictionary */
    {"9213 2.1", .cdn = "Max-Age=5", .cache_control = "max-age=60", .lifetime = 60},
    {"9213 2.1", .cdn = "max-age=5, unknown=(1 2);x", .cache_control = "max-age=60", .lifetime = 5},
    {"9213 2.2", .cdn = "max-age=5", .cache_control = "max-age=60", .ignore = IGNORE_CACHE_CONTROL,
     .valid = 7, .lifetime = 7},
};

static struct storing
storing_of(const struct response_facts *f)
{
    struct storing s = {0};

    policy_store(f, &s);
    return s;
}

static struct response_facts
facts_of(const struct stored_row *row)
{
    return (struct response_facts){
        .status = row->status != 0 ? row->status : 200,
        .cache_control = text(row->cache_control),
        .cdn_cache_control = text(row->cdn),
        .pragma = text(row->pragma),
        .expires = text(row->expires),
        .date = text(row->date),
        .age = text(row->age),
        .vary = text(row->vary),
        .last_modified = text(row->modified),
        .has_set_cookie = row->cookie,
        .has_authorization = row->authorization,
        .request_is_no_store = row->no_store,
        .asked_at = NOW - row->delay,
        .received_at = NOW,
        .valid = row->valid != 0 ? row->valid : NEVER,
        .ignore = row->ignore,
    };
}

static void
stores(void **state)
{
    const struct stored_row *row;

    (void)state;
    for (row = stored; row < stored + N(stored); row++) {
        struct response_facts f = facts_of(row);
        struct storing s = {0};
        const char *refused = policy_store(&f, &s);
        int64_t lifetime = refused != NULL ? REFUSED : s.lifetime;

        if (lifetime != row->lifetime ||
            (refused == NULL && (NOW - s.born != row->age_now || s.is_always_asked != row->is_always_asked ||
                                 s.strict != row->strict)))
            fail_msg("RFC %s, row %zu: %d, \"%s\": %s, lifetime %ld, age %ld, strict %d", row->rfc,
                     (size_t)(row - stored), f.status, row->cache_control != NULL ? row->cache_control : "",
                     refused != NULL ? refused : "stored", (long)s.lifetime, (long)(NOW - s.born),
                     (int)s.strict);
    }
}

/* RFC 9111, 4.3.2: the date that conditions are compared with is the server's own, right or wrong. */
static void
keeps_the_date(void **state)
{
    struct response_facts f = {.status = 200, .cache_control = text("max-age=60"), .asked_at = NOW,
                               .received_at = NOW, .valid = NEVER};

    (void)state;
    assert_int_equal(storing_of(&f).date, CC_ABSENT);
    f.date = text(DATE_IN_100);
    assert_int_equal(storing_of(&f).date, NOW + 100);
}

/* ---- using ---- */

static const struct {
    const char *rfc;
    const char *response; /* Cache-Control, stored at NOW */
    const char *request;
    int64_t age;
    enum use use;
    int may_on_error, updating, is_soft, is_refused;
    const char *pragma;
    unsigned ignore;
} uses[] = {
    {"9111 4.2", "max-age=60", NULL, 0, .use = USE_FRESH},
    {"9111 4.2", "max-age=60", NULL, 59, .use = USE_FRESH},
    {"9111 4.2", "max-age=60", NULL, 60, .use = USE_VALIDATE}, /* fresh while the lifetime is more than the age */
    {"9111 4.2", "max-age=0", NULL, 0, .use = USE_VALIDATE},
    /* stale */
    {"9111 4.2.4", "max-age=60", NULL, 61, .use = USE_VALIDATE},
    {"9111 4.2.4", "max-age=60", NULL, 60, .use = USE_STALE_UPDATE, .updating = 1},
    {"9111 4.2.4", "no-cache, max-age=60", NULL, 60, .use = USE_VALIDATE, .updating = 1},
    {"9111 5.2.2.4", "no-cache, max-age=60", NULL, 0, .use = USE_VALIDATE, .updating = 1},
    {"9111 5.2.2.4", "no-cache, max-age=60, stale-if-error=9", "max-stale, stale-if-error=9", 61, .use = USE_VALIDATE},
    {"9111 5.2.2.2", "max-age=60, must-revalidate", NULL, 59, .use = USE_FRESH},
    {"9111 5.2.2.2", "max-age=60, must-revalidate", NULL, 60, .use = USE_VALIDATE, .updating = 1},
    {"9111 5.2.2.2", "max-age=60, must-revalidate", "max-stale", 61, .use = USE_VALIDATE},
    {"9111 5.2.2.2", "max-age=60, must-revalidate, stale-if-error=9", "stale-if-error=10", 61, .use = USE_VALIDATE},
    {"9111 5.2.2.8", "max-age=60, proxy-revalidate, stale-while-revalidate=9", NULL, 61, .use = USE_VALIDATE,
     .updating = 1},
    {"9111 5.2.2.8", "max-age=60, proxy-revalidate, stale-if-error=9", NULL, 61, .use = USE_VALIDATE},
    {"9111 5.2.2.8", "max-age=60, proxy-revalidate", "max-stale", 61, .use = USE_VALIDATE},
    {"9111 5.2.2.10", "s-maxage=60", NULL, 60, .use = USE_VALIDATE, .updating = 1},
    {"9111 5.2.2.10", "s-maxage=60", "max-stale, stale-if-error=9", 61, .use = USE_VALIDATE},
    {"9111 5.2.2.10", "s-maxage=60, stale-while-revalidate=10", NULL, 70, .use = USE_STALE_UPDATE},
    {"9111 5.2.2.10", "s-maxage=60, stale-while-revalidate=10", NULL, 71, .use = USE_VALIDATE, .updating = 1},
    {"9111 5.2.2.10", "s-maxage=60, stale-while-revalidate=10", "max-stale", 71, .use = USE_VALIDATE},
    {"9111 5.2.2.10", "s-maxage=60, stale-while-revalidate=1", "stale-if-error=99", 71, .use = USE_VALIDATE},
    {"9111 5.2.2.10", "s-maxage=60, stale-if-error=10", NULL, 70, .use = USE_VALIDATE, .may_on_error = 1},
    {"9111 5.2.2.10", "s-maxage=60, stale-if-error=10", "stale-if-error=99", 71, .use = USE_VALIDATE},
    {"5861 3", "max-age=60, stale-while-revalidate=10", NULL, 59, .use = USE_FRESH},
    {"5861 3", "max-age=60, stale-while-revalidate=10", NULL, 70, .use = USE_STALE_UPDATE},
    {"5861 3", "max-age=60, stale-while-revalidate=10", NULL, 71, .use = USE_VALIDATE},
    {"5861 3", "max-age=60, stale-while-revalidate=10", "no-cache", 65, .use = USE_VALIDATE},
    {"5861 3", "max-age=60", "stale-while-revalidate=10", 65, .use = USE_VALIDATE}, /* the server's alone */
    {"5861 4", "max-age=60, stale-if-error=10", NULL, 65, .use = USE_VALIDATE, .may_on_error = 1},
    {"5861 4", "max-age=60, stale-if-error=10", NULL, 70, .use = USE_VALIDATE, .may_on_error = 1},
    {"5861 4", "max-age=60, stale-if-error=10", NULL, 71, .use = USE_VALIDATE},
    {"5861 4", "max-age=60", "stale-if-error=10", 70, .use = USE_VALIDATE, .may_on_error = 1},
    {"5861 4", "max-age=60", "stale-if-error=10", 71, .use = USE_VALIDATE},
    {"5861 4", "max-age=60, stale-if-error=20", "stale-if-error=10", 80, .use = USE_VALIDATE, .may_on_error = 1},
    /* what clients wish */
    {"9111 5.2.1.4", "max-age=60", "no-cache", 0, .use = USE_VALIDATE, .is_refused = 1},
    {"9111 5.2.1.4", "max-age=60", "no-cache, max-stale", 61, .use = USE_VALIDATE},
    {"9111 5.2.1.4", "max-age=60", "no-cache", 0, .use = USE_FRESH, .ignore = IGNORE_REQUEST},
    {"9111 5.2.1.1", "max-age=60", "max-age=5", 5, .use = USE_FRESH},
    {"9111 5.2.1.1", "max-age=60", "max-age=5", 6, .use = USE_VALIDATE, .is_refused = 1},
    {"9111 5.2.1.1", "max-age=60", "max-age=0", 0, .use = USE_FRESH},
    {"9111 5.2.1.1", "max-age=60", "max-age=0", 1, .use = USE_VALIDATE, .is_refused = 1},
    {"9111 5.2.1.1", "max-age=60", "max-age=99", 61, .use = USE_VALIDATE}, /* it takes nothing stale by that */
    {"9111 5.2.1.1", "max-age=60", "max-age=60, max-stale=30", 70, .use = USE_VALIDATE},
    {"9111 5.2.1.1", "max-age=60", "max-age=90, max-stale=30", 70, .use = USE_FRESH},
    {"9111 5.2.1.3", "max-age=60", "min-fresh=10", 50, .use = USE_FRESH},
    {"9111 5.2.1.3", "max-age=60", "min-fresh=10", 51, .use = USE_VALIDATE, .is_refused = 1},
    {"9111 5.2.1.2", "max-age=60", "max-stale", 600, .use = USE_FRESH},
    {"9111 5.2.1.2", "max-age=60", "max-stale=10", 70, .use = USE_FRESH},
    {"9111 5.2.1.2", "max-age=60", "max-stale=10", 71, .use = USE_VALIDATE},
    {"9111 5.2.1.2", "max-age=60", "max-stale=x", 61, .use = USE_VALIDATE},
    {"9111 5.2.3", "max-age=60", "unknown=\"no-cache\"", 0, .use = USE_FRESH},
    {"9111 5.4", "max-age=60", NULL, 0, .use = USE_VALIDATE, .pragma = "no-cache", .is_refused = 1},
    {"9111 5.4", "max-age=60", "max-age=9", 0, .use = USE_FRESH, .pragma = "no-cache"},
    {"9111 5.4", "max-age=60", NULL, 0, .use = USE_FRESH, .pragma = "no-cache", .ignore = IGNORE_REQUEST},
    /* purged softly: stale, whatever it says */
    {"9111 4.2.4", "max-age=60", NULL, 0, .use = USE_VALIDATE, .is_soft = 1},
    {"9111 4.2.4", "max-age=60", NULL, 0, .use = USE_STALE_UPDATE, .updating = 1, .is_soft = 1},
    {"9111 4.2.4", "max-age=60", "max-stale", 0, .use = USE_VALIDATE, .is_soft = 1},
};

static void
uses_what_is_stored(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(uses); i++) {
        struct response_facts response = {.status = 200, .cache_control = text(uses[i].response),
                                          .asked_at = NOW, .received_at = NOW, .valid = NEVER};
        struct use_facts f = {.stored = storing_of(&response), .cache_control = text(uses[i].request),
                              .pragma = text(uses[i].pragma), .now = NOW + uses[i].age,
                              .is_soft = uses[i].is_soft, .ignore = uses[i].ignore,
                              .serves_stale_updating = uses[i].updating};
        struct using u = policy_use(&f);

        if (u.use != uses[i].use || u.may_on_error != uses[i].may_on_error || u.age != uses[i].age ||
            u.is_refused != uses[i].is_refused)
            fail_msg("RFC %s: \"%s\", \"%s\" at %ld: %d, %s, on error %d", uses[i].rfc, uses[i].response,
                     uses[i].request != NULL ? uses[i].request : "", (long)uses[i].age, (int)u.use, u.reason,
                     u.may_on_error);
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

static const struct {
    const char *rfc, *request;
    unsigned ignore;
    enum miss want;
} misses[] = {
    {"9111 4", NULL, 0, MISS_FETCH},
    {"9111 5.2.1", "max-age=0, no-cache", 0, MISS_FETCH},
    {"9111 5.2.1.7", "only-if-cached", 0, MISS_ABSENT},
    {"9111 5.2.1.7", "max-stale=9, Only-If-Cached", 0, MISS_ABSENT},
    {"9111 5.2.1.7", "no-store, only-if-cached", 0, MISS_ABSENT},
    {"9111 5.2.1.7", "only-if-cached", IGNORE_REQUEST, MISS_FETCH},
    {"9111 5.2.1.5", "no-store", 0, MISS_PASS},
    {"9111 5.2.1.5", "no-store", IGNORE_REQUEST, MISS_FETCH},
    {"9111 5.2.3", "x=\"only-if-cached\"", 0, MISS_FETCH},
};

static void
knows_what_to_do_without(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(misses); i++)
        if (policy_miss(text(misses[i].request), misses[i].ignore) != misses[i].want)
            fail_msg("RFC %s: %s", misses[i].rfc, misses[i].request != NULL ? misses[i].request : "");
}

/* RFC 5861, 4: what an error is. */
static void
knows_errors(void **state)
{
    int status;

    (void)state;
    for (status = 100; status < 600; status++)
        if (policy_is_error(status) != (status == 500 || (status >= 502 && status <= 504)))
            fail_msg("RFC 5861 4: %d", status);
}

/* ---- what a 304 is about ---- */

static const struct {
    const char *rfc, *etag, *modified, *stored_etag, *stored_modified;
    int want;
} agreements[] = {
    {"9111 4.3.4", "\"a\"", NULL, "\"a\"", NULL, 1},
    {"9111 4.3.4", "\"b\"", NULL, "\"a\"", NULL, 0},
    {"9111 4.3.4", "\"b\"", DATE_NOW, "\"a\"", DATE_NOW, 0}, /* the tag decides */
    {"9111 4.3.4", "W/\"a\"", NULL, "W/\"a\"", NULL, 1},
    {"9111 4.3.4", "W/\"a\"", NULL, "\"a\"", NULL, 1},
    {"9111 4.3.4", "W/\"b\"", NULL, "W/\"a\"", NULL, 0},
    {"9111 4.3.4", "\"a\"", NULL, "W/\"a\"", NULL, 1}, /* docs/conformance.md says why */
    {"9111 4.3.4", NULL, DATE_NOW, NULL, DATE_NOW, 1},
    {"9111 4.3.4", NULL, DATE_NOW, NULL, DATE_100_AGO, 0},
    {"9111 4.3.4", NULL, "Sunday, 09-Sep-01 01:46:40 GMT", NULL, DATE_NOW, 1}, /* the same moment */
    {"9111 4.3.4", NULL, NULL, NULL, NULL, 1},
    {"9111 4.3.4", NULL, NULL, NULL, DATE_NOW, 1}, /* 9110, 15.4.5: it need not say */
    {"9111 4.3.4", NULL, NULL, "\"a\"", DATE_NOW, 1},
};

static void
knows_what_a_304_is_about(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(agreements); i++) {
        struct validators fresh = {text(agreements[i].etag), text(agreements[i].modified)};
        struct validators old = {text(agreements[i].stored_etag), text(agreements[i].stored_modified)};

        if (policy_agrees(&fresh, &old) != agreements[i].want)
            fail_msg("RFC %s, row %zu", agreements[i].rfc, i);
    }
}

/* ---- conditions ---- */

static const struct {
    const char *rfc, *none_match, *modified_since, *etag, *modified;
    int64_t date; /* of what is stored; 0: it has none */
    int want;
} conditions[] = {
    {"9111 4.3.2", NULL, NULL, "\"a\"", NULL, 0, 0},
    {"9110 13.1.2", "\"a\"", NULL, "\"a\"", NULL, 0, 1},
    {"9110 13.1.2", "\"A\"", NULL, "\"a\"", NULL, 0, 0}, /* tags have case */
    {"9110 8.8.3.2", "W/\"a\"", NULL, "\"a\"", NULL, 0, 1}, /* compared weakly */
    {"9110 8.8.3.2", "\"a\"", NULL, "W/\"a\"", NULL, 0, 1},
    {"9110 8.8.3.2", "W/\"a\"", NULL, "W/\"a\"", NULL, 0, 1},
    {"9110 8.8.3.2", "W/\"b\"", NULL, "W/\"a\"", NULL, 0, 0},
    {"9110 13.1.2", "\"b\" ,\t\"a\"", NULL, "\"a\"", NULL, 0, 1},
    {"9110 13.1.2", ",, \"b\",", NULL, "\"a\"", NULL, 0, 0},
    {"9110 8.8.3", "\"x,y\", \"a\"", NULL, "\"a\"", NULL, 0, 1},
    {"9110 8.8.3", "\"x,\"a\"", NULL, "\"a\"", NULL, 0, 0},
    {"9110 8.8.3", "\"x,\\\", \"a\"", NULL, "\"a\"", NULL, 0, 1}, /* no quoting in them */
    {"9110 13.1.2", "a", NULL, "\"a\"", NULL, 0, 0},
    {"9110 13.1.2", "", NULL, "\"a\"", NULL, 0, 0},
    {"9110 13.1.2", "\"a\"", NULL, NULL, NULL, 0, 0},
    {"9110 13.1.2", "*", NULL, NULL, NULL, 0, 1},
    {"9110 13.1.2", "*", NULL, "\"a\"", NULL, 0, 1},
    {"9110 13.2.2", "\"b\"", DATE_NOW, "\"a\"", DATE_100_AGO, 0, 0}, /* If-None-Match alone counts */
    {"9110 13.1.3", "\"a\"", DATE_1000_AGO, "\"a\"", DATE_100_AGO, 0, 1},
    {"9110 13.1.3", NULL, DATE_NOW, NULL, DATE_NOW, 0, 1},
    {"9110 13.1.3", NULL, DATE_NOW, "\"a\"", DATE_100_AGO, 0, 1}, /* not later than it says */
    {"9110 13.1.3", NULL, DATE_100_AGO, NULL, DATE_NOW, 0, 0},
    {"9110 13.1.3", NULL, DATE_100_AGO, NULL, DATE_99_AGO, 0, 0},
    {"9110 13.1.3", NULL, "nonsense", NULL, DATE_NOW, 0, 0},
    {"9110 13.1.3", NULL, DATE_NOW ", " DATE_NOW, NULL, DATE_NOW, 0, 0}, /* more than one */
    {"9111 4.3.2", NULL, DATE_NOW, NULL, NULL, NOW, 1}, /* no Last-Modified: Date */
    {"9111 4.3.2", NULL, DATE_100_AGO, NULL, NULL, NOW, 0},
    {"9111 4.3.2", NULL, DATE_100_AGO, NULL, DATE_100_AGO, NOW, 1},
    {"9111 4.3.2", NULL, DATE_NOW, NULL, NULL, 0, 0},
};

static void
answers_conditions(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(conditions); i++) {
        struct condition_facts f = {
            .if_none_match = text(conditions[i].none_match),
            .if_modified_since = text(conditions[i].modified_since),
            .etag = text(conditions[i].etag),
            .last_modified = text(conditions[i].modified),
            .date = conditions[i].date != 0 ? conditions[i].date : CC_ABSENT,
        };

        if (policy_not_modified(&f) != conditions[i].want)
            fail_msg("RFC %s, row %zu: %d", conditions[i].rfc, i, policy_not_modified(&f));
    }
}

/* ---- ranges ---- */

static const struct {
    const char *rfc, *field;
    int64_t size;
    int n;
    struct range first, last;
} ranges[] = {
    {"9110 14.1.2", "bytes=0-4", 10, 1, {0, 5}, {0, 5}},
    {"9110 14.1.2", "bytes=5-", 10, 1, {5, 5}, {5, 5}},
    {"9110 14.1.2", "bytes=-3", 10, 1, {7, 3}, {7, 3}},
    {"9110 14.1.2", "bytes=-30", 10, 1, {0, 10}, {0, 10}},
    {"9110 14.1.2", "bytes=0-99999999999999999999", 10, 1, {0, 10}, {0, 10}},
    {"9110 14.1", "BYTES=9-9", 10, 1, {9, 1}, {9, 1}}, /* units have no case */
    {"9110 14.1.2", "bytes=10-", 10, -1, {0, 0}, {0, 0}},
    {"9110 14.1.2", "bytes=-0", 10, -1, {0, 0}, {0, 0}},
    {"9110 14.1.2", "bytes=0-0", 0, -1, {0, 0}, {0, 0}},
    {"9110 14.1.2", "bytes=99999999999999999999-", 10, -1, {0, 0}, {0, 0}},
    {"9110 14.1.1", "bytes=4-3", 10, 0, {0, 0}, {0, 0}}, /* invalid: ignored (14.2) */
    {"9110 14.1.1", "bytes=", 10, 0, {0, 0}, {0, 0}},
    {"9110 14.1.1", "bytes=-", 10, 0, {0, 0}, {0, 0}},
    {"9110 14.1.1", "bytes=1", 10, 0, {0, 0}, {0, 0}},
    {"9110 14.1.1", "bytes=1-2x", 10, 0, {0, 0}, {0, 0}},
    {"9110 14.1.1", "bytes=0-1,3-2", 10, 0, {0, 0}, {0, 0}},
    {"9110 14.2", "lines=1-2", 10, 0, {0, 0}, {0, 0}}, /* of a unit that is not known */
    {"9110 14.1.1", "bytes=0-1, 3-4 ,,-1", 10, 3, {0, 2}, {9, 1}},
    {"9110 14.2", "bytes=0-1,20-30", 10, 1, {0, 2}, {0, 2}}, /* those that can be satisfied */
    {"9110 14.2", "bytes=20-30,40-", 10, -1, {0, 0}, {0, 0}},
    {"9110 14.2", "bytes=5-6,0-1", 10, 2, {5, 2}, {0, 2}}, /* in the order they were asked for */
    {"9110 14.2", "bytes=0-,0-", 10, 0, {0, 0}, {0, 0}}, /* more than there is */
    {"9110 14.2", "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,0-0,1-1,2-2,3-3,4-4,5-5,6-6", 100, 0, {0, 0}, {0, 0}},
};

static void
finds_ranges(void **state)
{
    struct range found[RANGES_MAX];
    size_t i;

    (void)state;
    for (i = 0; i < N(ranges); i++) {
        int n = policy_ranges(text(ranges[i].field), ranges[i].size, found);

        if (n != ranges[i].n ||
            (n > 0 && (memcmp(&found[0], &ranges[i].first, sizeof found[0]) != 0 ||
                       memcmp(&found[n - 1], &ranges[i].last, sizeof found[0]) != 0)))
            fail_msg("RFC %s: %s of %ld: %d", ranges[i].rfc, ranges[i].field, (long)ranges[i].size, n);
    }
}

/* ---- If-Range ---- */

static const struct {
    const char *rfc, *if_range, *etag, *modified;
    int64_t date;
    int want;
} range_conditions[] = {
    {"9110 14.2", NULL, "\"a\"", NULL, NEVER, 1},
    {"9110 13.1.5", "\"a\"", "\"a\"", NULL, NEVER, 1},
    {"9110 13.1.5", "\"b\"", "\"a\"", NULL, NEVER, 0},
    {"9110 13.1.5", "\"a\"", NULL, DATE_100_AGO, NOW, 0},
    {"9110 13.1.5", "W/\"a\"", "W/\"a\"", NULL, NEVER, 0}, /* compared strongly */
    {"9110 13.1.5", "W/\"a\"", "\"a\"", NULL, NEVER, 0},
    {"9110 13.1.5", "\"a\"", "W/\"a\"", NULL, NEVER, 0},
    {"9110 13.1.5", "\"a\", \"b\"", "\"a\"", NULL, NEVER, 0}, /* it is no list */
    {"9110 13.1.5", DATE_100_AGO, NULL, DATE_100_AGO, NOW, 1},
    {"9110 13.1.5", DATE_100_AGO, "\"a\"", DATE_100_AGO, NOW, 1},
    {"9110 13.1.5", DATE_NOW, NULL, DATE_100_AGO, NOW, 0}, /* exactly, not later */
    {"9110 13.1.5", DATE_1000_AGO, NULL, DATE_100_AGO, NOW, 0},
    {"9110 8.8.2.2", DATE_NOW, NULL, DATE_NOW, NOW, 0}, /* of the very second: weak */
    {"9110 8.8.2.2", DATE_100_AGO, NULL, DATE_100_AGO, NEVER, 0},
    {"9110 13.1.5", DATE_100_AGO, NULL, NULL, NOW, 0},
    {"9110 13.1.5", "", "\"a\"", NULL, NOW, 0},
    {"9110 13.1.5", "*", "\"a\"", NULL, NOW, 0},
};

static void
judges_if_range(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(range_conditions); i++)
        if (policy_range_holds(text(range_conditions[i].if_range), text(range_conditions[i].etag),
                               text(range_conditions[i].modified),
                               range_conditions[i].date) != range_conditions[i].want)
            fail_msg("RFC %s, row %zu", range_conditions[i].rfc, i);
}

static const struct {
    const char *rfc, *field;
    int64_t first, last, whole; /* whole 0: it is none */
} content_ranges[] = {
    {"9110 14.4", "bytes 0-9/100", 0, 9, 100},
    {"9110 14.4", "Bytes 90-99/100", 90, 99, 100},
    {"9110 14.4", "bytes 0-0/1", 0, 0, 1},
    {"9110 14.4", "bytes 0-9/10 ", 0, 0, 0},
    {"9110 14.4", "bytes 0-9/9", 0, 0, 0},
    {"9110 14.4", "bytes 9-0/100", 0, 0, 0},
    {"9110 14.4", "bytes 0-9/*", 0, 0, 0},
    {"9110 14.4", "bytes */100", 0, 0, 0},
    {"9110 14.4", "bytes 0-/100", 0, 0, 0},
    {"9110 14.4", "bytes -9/100", 0, 0, 0},
    {"9110 14.4", "bytes=0-9/100", 0, 0, 0},
    {"9110 14.4", "bytes 0-9", 0, 0, 0},
    {"9110 14.4", "bytes 0-99999999999999999999/99999999999999999999", 0, 0, 0},
    {"9110 14.4", "lines 0-9/100", 0, 0, 0},
    {"9110 14.4", "bytes ", 0, 0, 0},
    {"9110 14.4", "", 0, 0, 0},
    {"9110 14.4", NULL, 0, 0, 0},
};

static void
reads_content_ranges(void **state)
{
    struct content_range r;
    size_t i;

    (void)state;
    for (i = 0; i < N(content_ranges); i++) {
        int rc = policy_content_range(text(content_ranges[i].field), &r);

        if ((rc == 0) != (content_ranges[i].whole > 0) ||
            (rc == 0 && (r.first != content_ranges[i].first || r.last != content_ranges[i].last ||
                         r.whole != content_ranges[i].whole)))
            fail_msg("RFC %s: %s", content_ranges[i].rfc, content_ranges[i].field);
    }
}

static const struct {
    const char *rfc, *etag, *modified;
    int64_t date;
    const char *want;
} strong[] = {
    {"9110 8.8.1", "\"a\"", DATE_100_AGO, NOW, "\"a\""},
    {"9110 8.8.1", "W/\"a\"", DATE_100_AGO, NOW, DATE_100_AGO},
    {"9110 8.8.2.2", NULL, DATE_100_AGO, NOW, DATE_100_AGO},
    {"9110 8.8.2.2", NULL, DATE_NOW, NOW, ""},
    {"9110 8.8.2.2", NULL, DATE_NOW, NOW + 59, ""}, /* nearer than clocks may differ */
    {"9110 8.8.2.2", NULL, DATE_NOW, NOW + 60, DATE_NOW},
    {"9110 8.8.2.2", NULL, DATE_100_AGO, NEVER, ""},
    {"9110 8.8.1", "W/\"a\"", NULL, NOW, ""},
    {"9110 8.8.2.2", NULL, "never", NOW, ""},
};

static void
knows_strong_validators(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(strong); i++) {
        struct sl_span found = policy_strong_validator(text(strong[i].etag), text(strong[i].modified),
                                                       strong[i].date);

        if (found.n != strlen(strong[i].want) || (found.n > 0 && !sl_span_eq(found, text(strong[i].want))))
            fail_msg("RFC %s, row %zu", strong[i].rfc, i);
    }
}

/* ---- structured fields (RFC 9213, 2.1) ---- */

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
    for (i = 0; i < N(good); i++)
        if (!is_dictionary(text(good[i])))
            fail_msg("RFC 8941 4.2.2: not taken: %s", good[i]);
    for (i = 0; i < N(bad); i++)
        if (is_dictionary(text(bad[i])))
            fail_msg("RFC 8941 4.2.2: taken: %s", bad[i]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_controls),
        cmocka_unit_test(reads_dates),
        cmocka_unit_test(knows_what_it_may_answer),
        cmocka_unit_test(knows_what_changes),
        cmocka_unit_test(stores),
        cmocka_unit_test(keeps_the_date),
        cmocka_unit_test(uses_what_is_stored),
        cmocka_unit_test(clocks_are_set_back),
        cmocka_unit_test(knows_what_to_do_without),
        cmocka_unit_test(knows_errors),
        cmocka_unit_test(knows_what_a_304_is_about),
        cmocka_unit_test(answers_conditions),
        cmocka_unit_test(finds_ranges),
        cmocka_unit_test(judges_if_range),
        cmocka_unit_test(reads_content_ranges),
        cmocka_unit_test(knows_strong_validators),
        cmocka_unit_test(tells_dictionaries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
