/* Cache-Status as a table (RFC 9211): what is said of each way through the cache. */
/* with: server/runtime/span.c */
#include "unit.h"

#include "../../modules/cache_disk/status.c"

#define N(table) (sizeof(table) / sizeof(table)[0])
#define SOME(type) ((struct type *)(uintptr_t)64) /* it is there, and not looked into */

static const struct {
    const char *rfc;
    struct visit v;
    const char *want;
} given[] = {
    /* hit: nothing was asked, fresh or not */
    {"9211 2.1", {.is_hit = 1, .status = HIT}, "sluice; hit; ttl=0"},
    {"9211 2.4", {.is_hit = 1, .status = HIT, .meta.storing.lifetime = 60, .using.age = 22}, "sluice; hit; ttl=38"},
    {"9211 2.4", {.is_hit = 1, .status = STALE, .meta.storing.lifetime = 60, .using.age = 72}, "sluice; hit; ttl=-12"},
    {"9211 2.1", {.is_hit = 1, .status = UPDATING, .meta.storing.lifetime = 60, .using.age = 61}, "sluice; hit; ttl=-1"},
    {"9211 2.4", {.is_hit = 1, .status = HIT, .meta.storing.lifetime = INT64_MAX}, "sluice; hit; ttl=9223372036854775807"},
    {"9211 2.4", {.is_hit = 1, .status = HIT, .meta.storing.lifetime = INT64_MIN}, "sluice; hit; ttl=-9223372036854775808"},
    {"9211 2.1", {.is_hit = 1, .status = HIT, .is_variant = 1, .using.is_refused = 0}, "sluice; hit; ttl=0"},
    /* given stale, for the server failed: it was asked, and fwd and hit exclude each other */
    {"9211 2.2", {.is_hit = 1, .status = STALE, .flight = SOME(flight), .meta.storing.lifetime = 60, .using.age = 61},
     "sluice; fwd=stale; ttl=-1"},
    {"9211 2.6", {.is_hit = 1, .status = STALE, .flight = SOME(flight), .is_collapsed = 1},
     "sluice; fwd=stale; collapsed; ttl=0"},
    /* fetched, and stored */
    {"9211 2.2", {.status = MISS}, "sluice; fwd=uri-miss; stored"},
    {"9211 2.2", {.status = MISS, .is_variant = 1}, "sluice; fwd=vary-miss; stored"},
    {"9211 2.6", {.status = MISS, .is_collapsed = 1}, "sluice; fwd=uri-miss; stored; collapsed"},
    {"9211 2.2", {.status = EXPIRED}, "sluice; fwd=stale; stored"},
    {"9211 2.2", {.status = EXPIRED, .is_variant = 1}, "sluice; fwd=stale; stored"},
    {"9211 2.2", {.status = EXPIRED, .using.is_refused = 1}, "sluice; fwd=request; stored"},
    {"9211 2.3", {.status = REVALIDATED}, "sluice; fwd=stale; fwd-status=304; stored"},
    {"9211 2.3", {.status = REVALIDATED, .using.is_refused = 1}, "sluice; fwd=request; fwd-status=304; stored"},
    {"9211 2.3", {.status = REVALIDATED, .using.is_refused = 1, .is_collapsed = 1},
     "sluice; fwd=request; fwd-status=304; stored; collapsed"},
    {"9211 2.2", {.status = MISS, .is_partial = 1}, "sluice; fwd=partial; stored"},
};

static void
of_what_is_given(void **state)
{
    char text[STATUS_MAX + 8], *end = text + sizeof text, *at;
    size_t i;

    (void)state;
    for (i = 0; i < N(given); i++) {
        memset(text, '!', sizeof text);
        at = status_before(end, &given[i].v);
        if (!sl_span_eq((struct sl_span){at, (size_t)(end - at)}, sl_span(given[i].want)) || at[-1] != '!' ||
            end - at > STATUS_MAX)
            fail_msg("RFC %s: %.*s, not %s", given[i].rfc, (int)(end - at), at, given[i].want);
    }
}

static const struct {
    const char *rfc;
    struct visit v;
    const char *want;
} passed[] = {
    {"9211 2.2", {.status = BYPASS}, "sluice; fwd=bypass"},
    {"9211 2.2", {.status = BYPASS, .found = SOME(store_object)}, "sluice; fwd=bypass"},
    {"9211 2.2", {.status = MISS}, "sluice; fwd=uri-miss"},
    {"9211 2.2", {.status = MISS, .is_variant = 1}, "sluice; fwd=vary-miss"},
    {"9211 2.2", {.status = EXPIRED, .found = SOME(store_object)}, "sluice; fwd=stale"},
    {"9211 2.2", {.status = EXPIRED, .found = SOME(store_object), .is_variant = 1}, "sluice; fwd=stale"},
    {"9211 2.2", {.status = EXPIRED, .found = SOME(store_object), .using.is_refused = 1}, "sluice; fwd=request"},
    {"9211 2.2", {.status = MISS, .found = SOME(store_object), .slices = SOME(slices)}, "sluice; fwd=partial"},
};

static void
of_what_came_by(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(passed); i++) {
        struct sl_span text = status_passed(&passed[i].v);

        if (!sl_span_eq(text, sl_span(passed[i].want)))
            fail_msg("RFC %s: %.*s, not %s", passed[i].rfc, (int)text.n, text.at, passed[i].want);
    }
    assert_true(sl_span_eq(status_passed(NULL), SL_SPAN("sluice; fwd=method")));
}

/* RFC 9211, 2: an Item, a token with parameters, so that nothing is ever to be quoted; hit or fwd, and
 * not both; fwd-status, stored and collapsed only beside fwd (2.3, 2.5, 2.6). */
static void
it_is_an_item(void **state)
{
    char text[STATUS_MAX], *end = text + sizeof text, *at, copy[STATUS_MAX + 1];
    size_t i;

    (void)state;
    for (i = 0; i < N(given); i++) {
        at = status_before(end, &given[i].v);
        memcpy(copy, at, (size_t)(end - at));
        copy[end - at] = '\0';
        assert_int_equal(strspn(copy, "abcdefghijklmnopqrstuvwxyz0123456789-=; "), strlen(copy));
        if ((strstr(copy, "; hit") != NULL) == (strstr(copy, "; fwd=") != NULL) ||
            (strstr(copy, "; hit") != NULL && (strstr(copy, "stored") != NULL || strstr(copy, "collapsed") != NULL)))
            fail_msg("RFC 9211 2: %s", copy);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_what_is_given),
        cmocka_unit_test(of_what_came_by),
        cmocka_unit_test(it_is_an_item),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
