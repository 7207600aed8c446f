/* Keys as tables: of the URL, of what a response varies by, and of what a response's fields name. */
/* with: server/runtime/span.c server/http/fields.c server/http/field_names.c server/http/head.c server/http/accept_encoding.c server/runtime/causes.c */
#include "unit.h"

#include "panic_double.h"

#include "../../modules/cache_disk/key.c"
#include "../../modules/cache_disk/reference.c"

#include <apr_general.h>

#define N(table) (sizeof(table) / sizeof(table)[0])
#define LINES_MAX 4

/* ---- a request, and what the core says of it ---- */

struct sl_req {
    struct sl_req_public public;
    const char *scheme, *authority, *path, *query; /* the first as it reached us */
    int is_trusted;                                /* what it says of how it was asked counts */
    struct sl_fields *head;
};

struct store *cache_store;
static apr_pool_t *pool;

struct sl_fields *sl_req_head(struct sl_req *r) { return r->head; }
struct sl_fields *sl_req_response(struct sl_req *r) { return r->head; }
int sl_req_passes_forwarded(const struct sl_req *r) { return r->is_trusted; }
struct sl_span sl_req_scheme(struct sl_req *r) { return sl_span(r->scheme); }
struct sl_span sl_req_authority(const struct sl_req *r) { return sl_span(r->authority); }
struct sl_span sl_req_query(const struct sl_req *r) { return sl_span(r->query); }
struct sl_span sl_req_client_text(struct sl_req *r) { (void)r; return SL_SPAN("192.0.2.1"); }
struct sl_span sl_expr_text(const struct sl_expr *e, struct sl_req *r) { (void)e, (void)r; return SL_SPAN("/a\nb"); }
struct store_hash store_hash(const struct store *s, struct sl_span key) { (void)s, (void)key; return (struct store_hash){0, 0}; }
uint64_t store_tag(const struct store *s, struct sl_span text) { (void)s, (void)text; return 1; }
uint64_t store_host_tag(const struct store *s, struct sl_span host) { (void)s, (void)host; return 2; }

/* As the core has it: in lower case, without the port. */
struct sl_span
sl_req_host(const struct sl_req *r)
{
    char *host = apr_pstrdup(pool, r->authority), *at = strrchr(host, ':');

    if (at != NULL && strchr(at, ']') == NULL)
        *at = '\0';
    for (at = host; *at != '\0'; at++)
        *at = (char)apr_tolower(*at);
    return sl_span(host);
}

/* The query stands behind the path, as in what was received. */
struct sl_span
sl_req_target_path(const struct sl_req *r)
{
    return r->query != NULL ? (struct sl_span){r->path, (size_t)(r->query - 1 - r->path)} : sl_span(r->path);
}

static struct sl_fields *
fields_of(const char *const *lines)
{
    struct sl_fields *f = sl_fields_make(pool);
    size_t i;

    for (i = 0; i < LINES_MAX && lines[i] != NULL; i++) {
        const char *colon = strchr(lines[i], ':');

        assert_int_equal(sl_fields_receive(f, (struct sl_span){lines[i], (size_t)(colon - lines[i])},
                                           sl_span(colon + 2)), 0);
    }
    return f;
}

static struct sl_req
request_of(const char *url, int is_trusted, const char *const *lines)
{
    char *copy = apr_pstrdup(pool, url), *authority = strstr(copy, "://") + 3, *path = strchr(authority, '/');
    struct sl_req r = {.public.pool = pool, .scheme = copy, .path = apr_pstrdup(pool, path), .is_trusted = is_trusted,
                       .head = fields_of(lines)};

    authority[-3] = *path = '\0';
    r.authority = authority;
    r.query = strchr(r.path, '?') != NULL ? strchr(r.path, '?') + 1 : NULL;
    return r;
}

/* ---- the URL (RFC 9111, 2 and 4) ---- */

static const struct {
    const char *rfc, *url, *lines[LINES_MAX];
    int is_trusted;
    const char *want;
} keys[] = {
    {"9111 2", "http://h/a", {NULL}, 0, "http://h/a"},
    {"9111 2", "https://h/a", {NULL}, 0, "https://h/a"}, /* the scheme is of the URI */
    {"9110 4.2.3", "http://H.Test/a", {NULL}, 0, "http://h.test/a"}, /* hosts have no case */
    {"9110 4.2.3", "http://h/A", {NULL}, 0, "http://h/A"}, /* paths have */
    {"9111 2", "http://h:81/a", {NULL}, 0, "http://h:81/a"},
    {"9111 2", "http://[::1]:81/a", {NULL}, 0, "http://[::1]:81/a"},
    {"9111 2", "http://h/a?b=1&c", {NULL}, 0, "http://h/a?b=1&c"},
    {"9111 2", "http://h/a?", {NULL}, 0, "http://h/a?"},
    {"9110 7.7", "http://h/%61", {NULL}, 0, "http://h/%61"},
    /* what a proxy says of how it was asked, where it reaches the server */
    {"9111 2", "http://h/a", {"X-Forwarded-Proto: https"}, 0, "http://h/a"},
    {"9111 2", "http://h/a", {"X-Forwarded-Proto: https"}, 1, "https://h/a"},
    {"9111 2", "http://h/a", {"X-Forwarded-Proto: HTTPS"}, 1, "https://h/a"},
    {"9111 2", "https://h/a", {"X-Forwarded-Proto: http"}, 1, "http://h/a"},
    {"9111 2", "http://h/a", {"X-Forwarded-Proto: https://evil/?"}, 1, "http://h/a\n//proto:https://evil/?"},
    {"9111 2", "http://h/a", {"X-Forwarded-Proto: https", "X-Forwarded-Proto: http"}, 1,
     "http://h/a\n//proto:https, http"},
    {"9111 2", "http://h/a", {"X-Forwarded-Host: g"}, 0, "http://h/a"},
    {"9111 2", "http://h/a", {"X-Forwarded-Host: g"}, 1, "http://h/a\n//host:g"},
    {"9111 2", "http://h/a", {"X-Forwarded-Host: H"}, 1, "http://h/a"},
    {"7239 4", "http://h/a", {"Forwarded: for=1;proto=https;by=2"}, 1, "http://h/a\n//forwarded:;proto=https"},
    {"7239 4", "http://h/a", {"Forwarded: for=1, for=2"}, 1, "http://h/a"},
};

static void
keys_of_urls(void **state)
{
    struct cache_conf conf = {0};
    size_t i;

    (void)state;
    for (i = 0; i < N(keys); i++) {
        struct sl_req r = request_of(keys[i].url, keys[i].is_trusted, keys[i].lines);
        struct sl_span key = cache_key(&r, &conf);

        if (!sl_span_eq(key, sl_span(keys[i].want)))
            fail_msg("RFC %s: %s: %.*s", keys[i].rfc, keys[i].url, (int)key.n, key.at);
    }
}

/* What a CacheKey says is no variant's key, whatever clients put into it. */
static void
keys_that_are_said(void **state)
{
    static const char *const none[LINES_MAX] = {NULL};
    struct cache_conf conf = {.key = (struct sl_expr *)(uintptr_t)64};
    struct sl_req r = request_of("http://h/", 0, none);

    (void)state;
    assert_true(sl_span_eq(cache_key(&r, &conf), SL_SPAN("/a%0Ab")));
}

/* ---- variants (RFC 9111, 4.1) ---- */

static const struct {
    const char *rfc, *vary, *first[LINES_MAX], *second[LINES_MAX];
    int is_same;
} variants[] = {
    {"9111 4.1", "X", {"X: a"}, {"X: a"}, 1},
    {"9111 4.1", "X", {"X: a"}, {"x: a"}, 1},
    {"9111 4.1", "X", {"X: a"}, {"X: a", "Y: b"}, 1}, /* what is not named does not count */
    {"9111 4.1", "X", {"X: a"}, {"X: b"}, 0},
    {"9111 4.1", "X", {"X: a"}, {"X: A"}, 0}, /* values have case, for what we know */
    {"9111 4.1", "X", {NULL}, {NULL}, 1}, /* absent in both */
    {"9111 4.1", "X", {"X: a"}, {NULL}, 0},
    {"9111 4.1", "X", {"X: "}, {NULL}, 0}, /* empty is not absent */
    {"9111 4.1", "X, Y", {"X: a", "Y: b"}, {"Y: b", "X: a"}, 1}, /* in whatever order */
    {"9111 4.1", "X, Y", {"X: a", "Y: b"}, {"X: a", "Y: c"}, 0},
    {"9111 4.1", "X, Y", {"X: a"}, {"Y: a"}, 0},
    {"9111 4.1", "X, Y", {"X: a", "Y: b"}, {"X: b", "Y: a"}, 0},
    {"9111 4.1", " X ,,y", {"X: a", "Y: b"}, {"X: a", "Y: c"}, 0},
    {"9111 4.1", "X, Y", {"X: aY:b"}, {"X: a", "Y: b"}, 0}, /* nothing runs into the next */
    {"9111 4.1", "X", {"X: a", "X: b"}, {"X: a, b"}, 1}, /* lines of one name are one list */
    {"9111 4.1", "X", {"X: a", "X: b"}, {"X: b", "X: a"}, 0},
    {"9111 4.1", "Cookie", {"Cookie: a=1"}, {"Cookie: a=2"}, 0},
    {"9111 4.1", "Accept-Language", {"Accept-Language: de"}, {"Accept-Language: en"}, 0},
    {"9111 4.1", "User-Agent", {"User-Agent: x"}, {"User-Agent: x"}, 1},
    /* Accept-Encoding, put in order */
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: gzip, br"}, {"Accept-Encoding: br,gzip"}, 1},
    {"9110 12.5.3", "accept-encoding", {"Accept-Encoding: gzip"}, {"Accept-Encoding: GZIP ; q=0.5"}, 1},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: gzip", "Accept-Encoding: br"}, {"Accept-Encoding: gzip, br"}, 1},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: x-gzip"}, {"Accept-Encoding: gzip"}, 1},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: gzip"}, {"Accept-Encoding: br"}, 0},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: gzip"}, {"Accept-Encoding: gzip, br;q=0"}, 1},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: gzip"}, {"Accept-Encoding: gzip;q=0"}, 0},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: identity"}, {"Accept-Encoding: "}, 1},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: identity"}, {"Accept-Encoding: br;q=0"}, 1},
    {"9110 12.5.3", "Accept-Encoding", {NULL}, {"Accept-Encoding: identity"}, 0}, /* absent: any is taken */
    {"9110 12.5.3", "Accept-Encoding", {NULL}, {"Accept-Encoding: "}, 0},
    {"9110 12.5.3", "Accept-Encoding", {NULL}, {NULL}, 1},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: *"}, {"Accept-Encoding: br, gzip, zstd, deflate"}, 1},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: compress"}, {"Accept-Encoding: identity"}, 0},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: gzip, compress"}, {"Accept-Encoding: gzip"}, 0},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: gzip, identity;q=0"}, {"Accept-Encoding: gzip"}, 0},
    {"9110 12.5.3", "Accept-Encoding", {"Accept-Encoding: gzip, *;q=0"}, {"Accept-Encoding: gzip"}, 0},
    {"9110 12.5.3", "Accept-Encoding, X", {"Accept-Encoding: br, gzip", "X: a"}, {"X: a", "Accept-Encoding: gzip;q=1, br"}, 1},
};

static void
keys_of_variants(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < N(variants); i++) {
        struct sl_req first = request_of("http://h/", 0, variants[i].first),
                      second = request_of("http://h/", 0, variants[i].second);
        struct sl_span vary = sl_span(variants[i].vary), key = SL_SPAN("http://h/");
        struct sl_span one = variant_key(&first, key, vary), other = variant_key(&second, key, vary);
        int is_same_without = sl_span_eq(variant_key_of(pool, first.head, key, vary),
                                         variant_key_of(pool, second.head, key, vary));

        if (sl_span_eq(one, other) != variants[i].is_same || is_same_without != variants[i].is_same)
            fail_msg("RFC %s, row %zu: %.*s and %.*s", variants[i].rfc, i, (int)one.n, one.at, (int)other.n, other.at);
    }
}

/* What a server is told beside what clients say; and a field is that of its name, whichever URL. */
static void
keys_of_variants_by_what_is_told(void **state)
{
    static const char *const none[LINES_MAX] = {NULL};
    struct sl_req plain = request_of("http://h/", 0, none), tls = request_of("https://h/", 0, none);
    struct sl_span key = SL_SPAN("k"), other = SL_SPAN("l");

    (void)state;
    assert_false(sl_span_eq(variant_key(&plain, key, SL_SPAN("X-Forwarded-Proto")),
                            variant_key(&tls, key, SL_SPAN("X-Forwarded-Proto"))));
    assert_true(sl_span_eq(variant_key(&plain, key, SL_SPAN("X-Forwarded-For")),
                           SL_SPAN("k\nX-Forwarded-For:192.0.2.1\n")));
    assert_false(sl_span_eq(variant_key(&plain, key, SL_SPAN("X")), variant_key(&plain, other, SL_SPAN("X"))));
}

/* ---- what unsafe methods make invalid beside their own URL (RFC 9111, 4.4) ---- */

static const struct {
    const char *rfc, *url, *reference, *want; /* NULL: nothing */
} references[] = {
    {"9111 4.4", "http://h/a/b", "/c", "http://h/c"},
    {"9111 4.4", "http://h/a/b", "http://h/c", "http://h/c"},
    {"9111 4.4", "http://h/a/b", "http://h/c?d=e/f", "http://h/c?d=e/f"},
    {"9111 4.4", "https://h/a/b", "https://h/c", "https://h/c"},
    {"9110 4.2.3", "http://h/a/b", "HTTP://H/c", "http://h/c"}, /* scheme and host have no case */
    {"9110 4.2.3", "http://H/a/b", "http://h/C", "http://h/C"},
    {"9110 4.2.3", "http://h/a", "http://h", "http://h/"},
    {"9110 4.2.3", "http://h/a", "http://h?q", "http://h/?q"},
    {"9110 4.2.3", "http://h/a", "http://h:80/c", "http://h/c"}, /* the scheme's own port */
    {"9110 4.2.3", "http://h:80/a", "http://h/c", "http://h:80/c"}, /* as it was asked for here */
    {"9110 4.2.3", "https://h/a", "https://h:443/c", "https://h/c"},
    {"9110 4.2.3", "http://h/a", "http://h:/c", "http://h/c"},
    {"9111 4.4", "http://h:81/a", "http://h:81/c", "http://h:81/c"},
    {"9111 4.4", "http://[::1]/a", "http://[::1]:80/c", "http://[::1]/c"},
    {"9111 4.4", "http://[::1]:81/a", "//[::1]:81/c", "http://[::1]:81/c"},
    /* another origin's */
    {"9110 4.3.1", "http://h/a", "https://h/c", NULL},
    {"9110 4.3.1", "https://h/a", "http://h/c", NULL},
    {"9110 4.3.1", "http://h/a", "http://g/c", NULL},
    {"9110 4.3.1", "http://h/a", "//g/c", NULL},
    {"9110 4.3.1", "http://h/a", "http://h.g/c", NULL},
    {"9110 4.3.1", "http://h/a", "http://hh/c", NULL},
    {"9110 4.3.1", "http://h/a", "http://h:81/c", NULL},
    {"9110 4.3.1", "http://h/a", "http://h:443/c", NULL},
    {"9110 4.3.1", "http://h:81/a", "http://h/c", NULL},
    {"9110 4.3.1", "http://h/a", "http://h@g/c", NULL},
    {"9110 4.3.1", "http://h/a", "http://u@h/c", NULL},
    {"9110 4.3.1", "http://h/a", "http:///c", NULL},
    {"9110 4.3.1", "http://[::1]/a", "http://[::2]/c", NULL},
    {"9110 4.3.1", "http://h/a", "javascript:/c", NULL},
    {"9110 4.3.1", "http://h/a", "http:c", NULL},
    /* relative ones */
    {"3986 4.2", "http://h/a", "//h/c", "http://h/c"},
    {"3986 4.2", "http://h/a/b", "c", "http://h/a/c"},
    {"3986 4.2", "http://h/a/b?q", "c?r", "http://h/a/c?r"},
    {"3986 4.2", "http://h/a/b/", "c", "http://h/a/b/c"},
    {"3986 4.2", "http://h/a/b?q", "?r", "http://h/a/b?r"},
    {"3986 4.2", "http://h/a/b", "./c:d", "http://h/a/c:d"},
    {"3986 5.2.4", "http://h/a/b", "../c", "http://h/c"},
    {"3986 5.2.4", "http://h/a/b", "../../../c", "http://h/c"},
    {"3986 5.2.4", "http://h/a/b/d", "..", "http://h/a/"},
    {"3986 5.2.4", "http://h/a/b/d", ".", "http://h/a/b/"},
    {"3986 5.2.4", "http://h/a", "/b/./c/../d/..", "http://h/b/"},
    {"3986 5.2.4", "http://h/a", "/b/..c/.d", "http://h/b/..c/.d"},
    {"3986 5.2.4", "http://h/a", "/b?../c", "http://h/b?../c"},
    /* fragments are no part of it */
    {"3986 3.5", "http://h/a", "/c#part", "http://h/c"},
    {"3986 3.5", "http://h/a", "http://h/c?d#part/../e", "http://h/c?d"},
    {"3986 3.5", "http://h/a", "#part", NULL},
    {"3986 4.2", "http://h/a", "", NULL},
};

static void
keys_of_references(void **state)
{
    static const char *const none[LINES_MAX] = {NULL};
    size_t i;

    (void)state;
    for (i = 0; i < N(references); i++) {
        size_t n = strlen(references[i].reference);
        char *exact = malloc(n > 0 ? n : 1); /* reading past it is caught */
        struct sl_req r = request_of(references[i].url, 0, none);
        struct sl_span key;

        memcpy(exact, references[i].reference, n);
        key = cache_key_of_reference(&r, (struct sl_span){exact, n});
        if ((key.at == NULL) != (references[i].want == NULL) ||
            (key.at != NULL && !sl_span_eq(key, sl_span(references[i].want))))
            fail_msg("RFC %s: %s at %s: %.*s", references[i].rfc, references[i].reference, references[i].url,
                     (int)key.n, key.at != NULL ? key.at : "");
        free(exact);
    }
}

/* It is forgotten as it was stored: under what a proxy said of how it was asked. */
static void
keys_of_references_behind_a_proxy(void **state)
{
    static const char *const said[LINES_MAX] = {"X-Forwarded-Proto: https", "X-Forwarded-Host: g"};
    struct sl_req r = request_of("http://h/a", 1, said);

    (void)state;
    assert_true(sl_span_eq(cache_key_of_reference(&r, SL_SPAN("/c")), SL_SPAN("https://h/c\n//host:g")));
    assert_true(sl_span_eq(cache_key_of_reference(&r, SL_SPAN("https://h/c")), SL_SPAN("https://h/c\n//host:g")));
    assert_null(cache_key_of_reference(&r, SL_SPAN("http://h/c")).at);
    assert_null(cache_key_of_reference(&r, (struct sl_span){NULL, 0}).at);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_urls),
        cmocka_unit_test(keys_that_are_said),
        cmocka_unit_test(keys_of_variants),
        cmocka_unit_test(keys_of_variants_by_what_is_told),
        cmocka_unit_test(keys_of_references),
        cmocka_unit_test(keys_of_references_behind_a_proxy),
    };

    apr_initialize();
    apr_pool_create(&pool, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
