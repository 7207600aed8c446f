/* What clients show and files hold: passwords, tokens, keys. */
#include "unit.h"
#include "panic_double.h"

#include "../../modules/auth/base64.c"
#include "../../modules/auth/basic_field.c"
#include "../../modules/auth/jwks.c"
#include "../../modules/auth/passwords.c"
#include "../../modules/auth/token.c"

/* with: server/runtime/span.c server/runtime/random.c */
/* libs: jansson libcrypt openssl */

static apr_pool_t *pool;

static int
set_up(void **state)
{
    (void)state;
    apr_initialize();
    apr_pool_create(&pool, NULL);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static void
base64(void **state)
{
    static const struct {
        const char *in, *plain, *url; /* NULL: none of it */
    } rows[] = {
        {"", "", ""}, {"Zg==", "f", NULL}, {"Zm8=", "fo", NULL}, {"Zm9v", "foo", "foo"}, {"Zg", NULL, "f"},
        {"Zm8", NULL, "fo"}, {"Zh==", NULL, NULL}, {"Zm9", NULL, NULL}, {"Z", NULL, NULL}, {"Z===", NULL, NULL},
        {"====", NULL, NULL}, {"Zg=a", NULL, NULL}, {"Zm 9v", NULL, NULL}, {"Zm9v\n", NULL, NULL},
        {"++//", "\xfb\xef\xff", NULL}, {"--__", NULL, "\xfb\xef\xff"}, {"Zm9\xc3", NULL, NULL},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char to[16];
        int n = base64_decode(sl_span(rows[i].in), to);

        assert_int_equal(n, rows[i].plain != NULL ? (int)strlen(rows[i].plain) : -1);
        assert_true(n <= 0 || memcmp(to, rows[i].plain, (size_t)n) == 0);
        n = base64url_decode(sl_span(rows[i].in), to);
        assert_int_equal(n, rows[i].url != NULL ? (int)strlen(rows[i].url) : -1);
        assert_true(n <= 0 || memcmp(to, rows[i].url, (size_t)n) == 0);
    }
}

static void
fields_of_basic(void **state)
{
    static const struct {
        const char *field;
        enum basic_parse rc;
        const char *user, *password;
    } rows[] = {
        {"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", BASIC_OK, "Aladdin", "open sesame"}, /* RFC 7617, 2 */
        {"Basic dGVzdDoxMjPCow==", BASIC_OK, "test", "123\xc2\xa3"},                /* RFC 7617, 2.1 */
        {"BASIC   YTpiOmM=", BASIC_OK, "a", "b:c"},
        {"basic YTo=", BASIC_OK, "a", ""},
        {"Basic OmI=", BASIC_MALFORMED, NULL, NULL},         /* :b */
        {"Basic YWI=", BASIC_MALFORMED, NULL, NULL},         /* ab */
        {"Basic YTpiAA==", BASIC_MALFORMED, NULL, NULL},     /* a:b and NUL */
        {"Basic YQA6Yg==", BASIC_MALFORMED, NULL, NULL},     /* a, NUL, :b */
        {"Basic YTpi, Basic YTpi", BASIC_MALFORMED, NULL, NULL},
        {"Basic YTpi ", BASIC_MALFORMED, NULL, NULL},
        {"Basic ", BASIC_MALFORMED, NULL, NULL},
        {"Basic", BASIC_OTHER_SCHEME, NULL, NULL},
        {"Basically YTpi", BASIC_OTHER_SCHEME, NULL, NULL},
        {"Bearer YTpi", BASIC_OTHER_SCHEME, NULL, NULL},
        {"", BASIC_OTHER_SCHEME, NULL, NULL},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sl_span user, password;

        assert_int_equal(basic_parse(pool, sl_span(rows[i].field), &user, &password), rows[i].rc);
        if (rows[i].rc != BASIC_OK)
            continue;
        assert_true(sl_span_eq(user, sl_span(rows[i].user)));
        assert_true(sl_span_eq(password, sl_span(rows[i].password)));
    }
}

#define BCRYPT "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe"

static void
passwords_and_hashes(void **state)
{
    static const struct {
        const char *password, *hash;
    } rows[] = {
        {"password", BCRYPT},
        {"myPassword", "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"},
        {"myPassword", "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="},
        {"myPassword", "rqXexS6ZhobKA"},
        {"Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
        {"Hello world!", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEO"
                         "faS35inz1"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_true(is_hash(rows[i].hash));
        assert_true(password_is(rows[i].password, rows[i].hash));
        assert_false(password_is("mypassword", rows[i].hash));
        assert_false(password_is("", rows[i].hash));
    }
    assert_false(password_is("", ""));
}

static void
files_of_passwords(void **state)
{
    static const struct {
        const char *text, *why; /* NULL: it is good */
    } rows[] = {
        {"", NULL},
        {"# none\n\n", NULL},
        {"a:" BCRYPT, NULL},
        {"a:" BCRYPT ":who he is\r\nb:" BCRYPT "\n", NULL},
        {"a:" BCRYPT "\nb\n", ":2: expected USER:HASH"},
        {":" BCRYPT "\n", ":1: expected USER:HASH"},
        {"\n\na:secret\n", ":3: expected a hash as \"htpasswd -B\" makes it: passwords are not kept in clear"},
        {"a:\n", ":1: expected a hash as \"htpasswd -B\" makes it: passwords are not kept in clear"},
        {"a:*\n", ":1: expected a hash as \"htpasswd -B\" makes it: passwords are not kept in clear"},
        {"a:$9$abc$def\n", ":1: expected a hash as \"htpasswd -B\" makes it: passwords are not kept in clear"},
        {"a:{SHA}x\n", ":1: expected a hash as \"htpasswd -B\" makes it: passwords are not kept in clear"},
        {"a:" BCRYPT "\na:" BCRYPT "\n", ":2: this user stands on a line before"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char why[AUTH_WHY_MAX] = "";
        void *p = passwords_kind.parse(sl_span(rows[i].text), why);

        assert_string_equal(why, rows[i].why != NULL ? rows[i].why : "");
        assert_int_equal(p == NULL, rows[i].why != NULL);
        if (p != NULL)
            passwords_kind.forget(p);
    }
}

/* An unknown user is compared with somebody's hash, always the same one. */
static void
unknown_users(void **state)
{
    char why[AUTH_WHY_MAX] = "";
    struct passwords *p = passwords_kind.parse(SL_SPAN("a:" BCRYPT "\nb:rqXexS6ZhobKA\n"), why);
    struct passwords *none = passwords_kind.parse(SL_SPAN(""), why);
    unsigned i, n_slow = 0;
    int is_known;

    (void)state;
    assert_string_equal(passwords_hash(p, SL_SPAN("a"), &is_known), BCRYPT);
    assert_true(is_known);
    for (i = 0; i < 200; i++) {
        char name[16];
        const char *hash;

        snprintf(name, sizeof name, "user%u", i);
        hash = passwords_hash(p, sl_span(name), &is_known);
        assert_false(is_known);
        assert_ptr_equal(hash, passwords_hash(p, sl_span(name), &is_known));
        n_slow += strcmp(hash, BCRYPT) == 0;
    }
    assert_in_range(n_slow, 40, 160);
    assert_string_equal(passwords_hash(none, SL_SPAN("a"), &is_known), "");
    assert_false(is_known);
    passwords_kind.forget(p);
    passwords_kind.forget(none);
}

#define JOE                                                                                        \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
#define SECRET                                                                                     \
    "{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUu" \
    "TwjAzZr1Z9CAow\"}"
#define P256                                                                                       \
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","     \
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\""
#define ED "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}"
#define HS256 "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." JOE ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define ES256                                                                                      \
    "eyJhbGciOiJFUzI1NiJ9." JOE                                                                    \
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"

static struct jwks *
keys_of(const char *keys)
{
    char why[AUTH_WHY_MAX] = "";
    struct jwks *set = jwks_kind.parse(sl_span(apr_psprintf(pool, "{\"keys\":[%s]}", keys)), why);

    assert_string_equal(why, "");
    return set;
}

/* The examples of RFC 7515, A.1 and A.3, and of RFC 8037, A.4. */
static void
signatures(void **state)
{
    struct jwks *all = keys_of(SECRET "," P256 ",\"kid\":\"e\"}," ED), *secret = keys_of(SECRET);
    struct jwks *ec = keys_of(P256 ",\"kid\":\"e\"}");
    struct token t;
    char signature[64];

    (void)state;
    assert_null(token_parse(pool, SL_SPAN(HS256), &t));
    assert_null(jwks_verify(all, &t));
    assert_string_equal(jwks_verify(ec, &t), "no key fits it");
    t.signed_part.n--;
    assert_string_equal(jwks_verify(all, &t), "its signature is wrong");

    assert_null(token_parse(pool, SL_SPAN(ES256), &t));
    assert_null(jwks_verify(all, &t));
    assert_string_equal(jwks_verify(secret, &t), "no key fits it");
    t.kid = "e";
    assert_null(jwks_verify(all, &t));
    t.kid = "other";
    assert_string_equal(jwks_verify(all, &t), "no key fits it");
    t.kid = NULL;
    t.signature.n--;
    assert_string_equal(jwks_verify(all, &t), "its signature is wrong");

    t = (struct token){.alg = "EdDSA", .signature = {signature, sizeof signature},
                       .signed_part = SL_SPAN("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc")};
    assert_int_equal(base64url_decode(SL_SPAN("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5"
                                              "BhVsPt9g7sVvpAr_MuM0KAg"), signature), 64);
    assert_null(jwks_verify(all, &t));
    signature[3] ^= 1;
    assert_string_equal(jwks_verify(all, &t), "its signature is wrong");
    t.alg = "none";
    assert_string_equal(jwks_verify(all, &t), "no key fits it");
    jwks_kind.forget(all);
    jwks_kind.forget(secret);
    jwks_kind.forget(ec);
}

static void
sets_of_keys(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", ":1: '[' or '{' expected near end of file"},
        {"[]", ": expected {\"keys\": [...]} with at most 64 keys"},
        {"{\"keys\":[]}", ": expected a key for RS256, ES256, EdDSA or HS256"},
        {"{\"keys\":[7]}", ": key 1: expected an object"},
        {"{\"keys\":[" P256 ",\"use\":\"enc\"}]}", ": expected a key for RS256, ES256, EdDSA or HS256"},
        {"{\"keys\":[" P256 ",\"alg\":\"ES384\"}]}", ": expected a key for RS256, ES256, EdDSA or HS256"},
        {"{\"keys\":[" ED ",{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", ": key 2: expected a secret k of 32 bytes or more"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"u1SU\",\"e\":\"AQAB\"}]}", ": key 1: expected an RSA key of 2048 to 8192 bits"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}", ": key 1: expected x and y of 32 bytes"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
         "\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}]}", ": key 1: expected a point of P-256"},
        {"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"}]}", ": key 1: expected x of 32 bytes"},
        {"{\"keys\":[], \"keys\":[]}", ":1: duplicate object key near '\"keys\"'"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char why[AUTH_WHY_MAX] = "";

        assert_null(jwks_kind.parse(sl_span(rows[i].text), why));
        assert_string_equal(why, rows[i].why);
    }
}

static void
malformed_tokens(void **state)
{
    static const char head[] = "eyJhbGciOiJFUzI1NiJ9";
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "it has not three parts"}, {"..", "it has not three parts"}, {"a.b", "it has not three parts"},
        {"e30.e30.AA.AA", "it has not three parts"}, {".e30.AA", "it has not three parts"},
        {"e30.e30.A", "its signature is not base64url"}, {"e30.e30.AA=", "its signature is not base64url"},
        {"e30.e30.", "its header names no algorithm"}, {"e30 .e30.AA", "its header is no JSON object"},
        {"W10.e30.AA", "its header is no JSON object"}, {"eyJhbGciOjd9.e30.AA", "its header names no algorithm"},
        {"eyJhbGciOiJhIiwiYWxnIjoiYiJ9.e30.AA", "its header is no JSON object"}, /* alg twice */
        {"eyJhbGciOiJhIiwiY3JpdCI6W119.e30.AA", "its header asks for what is not understood (crit)"},
        {"eyJhbGciOiJFUzI1NiJ9.W10.AA", "its claims are no JSON object"},
        {"eyJhbGciOiJFUzI1NiJ9.eyJhIjoxLCJhIjoyfQ.AA", "its claims are no JSON object"}, /* a twice */
        {"eyJhbGciOiJFUzI1NiJ9.eyJhIjoiXHUwMDAwIn0.AA", "its claims are no JSON object"}, /* NUL */
    };
    struct token t;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(token_parse(pool, sl_span(rows[i].text), &t), rows[i].why);
    assert_null(token_parse(pool, sl_span(apr_pstrcat(pool, head, ".e30.", NULL)), &t));
    assert_int_equal(t.signature.n, 0);
    assert_true(sl_span_eq(t.signed_part, sl_span(apr_pstrcat(pool, head, ".e30", NULL))));
}

static void
claims(void **state)
{
    static const struct claims_wanted any = {NULL, NULL, 0, 0}, strict = {"me", "us", 10000, 1};
    static const struct {
        const char *json;
        const struct claims_wanted *want;
        const char *why;
    } rows[] = { /* it is 1000 s after the epoch */
        {"{}", &any, NULL}, {"{\"exp\":1001}", &any, NULL}, {"{\"exp\":1000}", &any, "it has expired"},
        {"{\"exp\":1000.5}", &any, NULL}, {"{\"exp\":-1e300}", &any, "it has expired"}, {"{\"exp\":1e300}", &any, NULL},
        {"{\"exp\":\"1001\"}", &any, "exp or nbf is no number"}, {"{\"exp\":null}", &any, "exp or nbf is no number"},
        {"{\"nbf\":1000}", &any, NULL}, {"{\"nbf\":1001}", &any, "it is not valid yet"},
        {"{\"nbf\":true}", &any, "exp or nbf is no number"},
        {"{}", &strict, "it does not say when it expires"},
        {"{\"exp\":991,\"nbf\":1010,\"iss\":\"me\",\"aud\":\"us\"}", &strict, NULL},
        {"{\"exp\":990,\"iss\":\"me\",\"aud\":\"us\"}", &strict, "it has expired"},
        {"{\"exp\":2000,\"nbf\":1011,\"iss\":\"me\",\"aud\":\"us\"}", &strict, "it is not valid yet"},
        {"{\"exp\":2000,\"aud\":\"us\"}", &strict, "it is of another issuer"},
        {"{\"exp\":2000,\"iss\":[\"me\"],\"aud\":\"us\"}", &strict, "it is of another issuer"},
        {"{\"exp\":2000,\"iss\":\"me\"}", &strict, "it is for another audience"},
        {"{\"exp\":2000,\"iss\":\"me\",\"aud\":[\"a\",7,\"us\"]}", &strict, NULL},
        {"{\"exp\":2000,\"iss\":\"me\",\"aud\":[]}", &strict, "it is for another audience"},
        {"{\"exp\":2000,\"iss\":\"me\",\"aud\":{\"us\":1}}", &strict, "it is for another audience"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *json = json_loads(rows[i].json, 0, NULL);
        const char *why = claims_check(json, rows[i].want, 1000000000);

        assert_int_equal(why == NULL, rows[i].why == NULL);
        if (why != NULL)
            assert_string_equal(why, rows[i].why);
        json_decref(json);
    }
}

static void
claims_by_path(void **state)
{
    static const struct {
        const char *path;
        int is; /* -1: there is none */
    } rows[] = {{"a", 1}, {"b.c", 2}, {"d.e", 3}, {"b.d.e", 4}, {"x", -1}, {"a.x", -1}, {"b.", -1}, {".", -1},
                {"", -1}, {"b.c.d", -1}, {"f.0", -1}};
    json_t *json = json_loads("{\"a\":1,\"b\":{\"c\":2,\"d\":{\"e\":4}},\"d.e\":3,\"f\":[1]}", 0, NULL);
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const json_t *found = claim_find(json, sl_span(rows[i].path));

        assert_int_equal(found != NULL ? (int)json_integer_value(found) : -1, rows[i].is);
    }
    json_decref(json);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64),          cmocka_unit_test(fields_of_basic),
        cmocka_unit_test(passwords_and_hashes), cmocka_unit_test(files_of_passwords),
        cmocka_unit_test(unknown_users),   cmocka_unit_test(signatures),
        cmocka_unit_test(sets_of_keys),    cmocka_unit_test(malformed_tokens),
        cmocka_unit_test(claims),          cmocka_unit_test(claims_by_path),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
