/* Tokens: whatever the bytes, none is believed that the keys did not sign, parts stay within them,
 * and what is decoded is freed. */
/* with: modules/auth/token.c modules/auth/base64.c modules/auth/jwks.c modules/auth/basic_field.c server/runtime/span.c */
/* libs: jansson libcrypto */
#include "panic_double.h"

#include "../../modules/auth/auth.h"

#include <apr_general.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char keys_text[] =
    "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0i\"},"
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},"
    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";

/* The one token the P-256 key has signed: RFC 7515, A.3. */
static const char genuine[] =
    "eyJhbGciOiJFUzI1NiJ9."
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

static void
token_try(apr_pool_t *pool, struct sl_span text, const struct jwks *keys)
{
    static const struct claims_wanted want = {"joe", "us", 1000, 1};
    struct token t;

    if (token_parse(pool, text, &t) != NULL)
        return;
    SL_ASSERT(t.signed_part.at == text.at && t.signed_part.n + 1 <= text.n);
    if (jwks_verify(keys, &t) == NULL)
        SL_ASSERT(sl_span_eq(t.signed_part, SL_SPAN(genuine)));
    claims_check(t.claims, &want, 1300819380000000);
    claim_find(t.claims, text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct jwks *keys;
    struct sl_span text = {(const char *)data, n}, user, password;
    char why[AUTH_WHY_MAX] = "";
    struct jwks *read;
    apr_pool_t *pool;

    if (keys == NULL) {
        apr_initialize();
        keys = jwks_kind.parse(SL_SPAN(keys_text), why);
    }
    apr_pool_create(&pool, NULL);
    token_try(pool, text, keys);
    read = jwks_kind.parse(text, why);
    if (read != NULL)
        jwks_kind.forget(read);
    if (basic_parse(pool, text, &user, &password) == BASIC_OK)
        SL_ASSERT(user.n > 0 && user.n + password.n < n);
    apr_pool_destroy(pool);
    return 0;
}
