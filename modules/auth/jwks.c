/* Keys that sign tokens: a JSON Web Key Set (RFC 7517).  The key decides on the algorithm, by its
 * type and curve, and a token that names another one is refused before anything is computed: a
 * public key is never taken for a shared secret, and "none" is no key's. */
#include "auth.h"

#include <apr_strings.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <stdlib.h>

#define KEYS_MAX 64
#define TRIES_MAX 8 /* for a token that names no key: each costs up to a tenth of a millisecond */
#define RSA_MIN_BITS 2048 /* RFC 7518, 3.3 */
#define RSA_MAX_BITS 8192
#define SECRET_MIN 32 /* RFC 7518, 3.2 */
#define MEMBER_MAX 2048 /* bytes of a decoded member */

struct key;
struct algorithm {
    const char *name, *kty, *crv; /* crv NULL: any */
    /* NULL, or what is wrong with the key. */
    const char *(*make)(struct key *k, const json_t *jwk);
    int (*verify)(const struct key *k, const struct token *t);
};

struct key {
    const struct algorithm *algorithm;
    char *kid; /* NULL: none */
    EVP_PKEY *public;
    unsigned char secret[MEMBER_MAX];
    size_t n_secret;
};

struct jwks {
    unsigned n;
    struct key at[];
};

/* ---- members ---- */

struct member {
    unsigned char at[MEMBER_MAX];
    size_t n; /* 0: absent or malformed */
};

static struct member
member_get(const json_t *jwk, const char *name)
{
    const json_t *text = json_object_get(jwk, name);
    struct member m = {.n = 0};
    int n;

    if (!json_is_string(text) || json_string_length(text) > sizeof m.at)
        return m;
    n = base64url_decode((struct sl_span){json_string_value(text), json_string_length(text)},
                         (char *)m.at);
    m.n = n > 0 ? (size_t)n : 0;
    return m;
}

static EVP_PKEY *
key_from_params(const char *type, OSSL_PARAM_BLD *bld)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;

    if (params != NULL && ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params);
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* ---- RS256 ---- */

static const char *
rsa_make(struct key *k, const json_t *jwk)
{
    struct member n = member_get(jwk, "n"), e = member_get(jwk, "e");
    BIGNUM *modulus = BN_bin2bn(n.at, (int)n.n, NULL), *exponent = BN_bin2bn(e.at, (int)e.n, NULL);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    int bits = BN_num_bits(modulus);
    const char *why = NULL;

    if (bits < RSA_MIN_BITS || bits > RSA_MAX_BITS)
        why = "expected an RSA key of 2048 to 8192 bits";
    else if (!BN_is_odd(exponent) || BN_is_one(exponent) || BN_num_bits(exponent) > 64)
        why = "expected an odd exponent of at most 64 bits";
    else if (OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
             OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
        k->public = key_from_params("RSA", bld);
    OSSL_PARAM_BLD_free(bld);
    BN_free(modulus);
    BN_free(exponent);
    return why != NULL || k->public != NULL ? why : "expected an RSA key";
}

static int
digest_verify(const struct key *k, const EVP_MD *md, const unsigned char *signature, size_t n,
              struct sl_span text)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int rc = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, md, NULL, k->public) == 1 &&
             EVP_DigestVerify(ctx, signature, n, (const unsigned char *)text.at, text.n) == 1;

    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return rc;
}

static int
rsa_verify(const struct key *k, const struct token *t)
{
    return digest_verify(k, EVP_sha256(), (const unsigned char *)t->signature.at, t->signature.n,
                         t->signed_part);
}

/* ---- ES256 ---- */

#define P256_BYTES 32

static const char *
ec_make(struct key *k, const json_t *jwk)
{
    struct member x = member_get(jwk, "x"), y = member_get(jwk, "y");
    unsigned char point[1 + 2 * P256_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    OSSL_PARAM_BLD *bld;

    if (x.n != P256_BYTES || y.n != P256_BYTES)
        return "expected x and y of 32 bytes";
    memcpy(point + 1, x.at, P256_BYTES);
    memcpy(point + 1 + P256_BYTES, y.at, P256_BYTES);
    bld = OSSL_PARAM_BLD_new();
    if (OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) == 1)
        k->public = key_from_params("EC", bld);
    OSSL_PARAM_BLD_free(bld);
    return k->public != NULL ? NULL : "expected a point of P-256";
}

/* RFC 7518, 3.4: the two numbers side by side; OpenSSL wants them in DER. */
static int
ec_verify(const struct key *k, const struct token *t)
{
    const unsigned char *raw = (const unsigned char *)t->signature.at;
    unsigned char *der = NULL;
    ECDSA_SIG *sig;
    int n, rc;

    if (t->signature.n != (size_t)2 * P256_BYTES)
        return 0;
    sig = ECDSA_SIG_new();
    ECDSA_SIG_set0(sig, BN_bin2bn(raw, P256_BYTES, NULL),
                   BN_bin2bn(raw + P256_BYTES, P256_BYTES, NULL));
    n = i2d_ECDSA_SIG(sig, &der);
    rc = n > 0 && digest_verify(k, EVP_sha256(), der, (size_t)n, t->signed_part);
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    return rc;
}

/* ---- EdDSA (RFC 8037) ---- */

static const char *
ed_make(struct key *k, const json_t *jwk)
{
    struct member x = member_get(jwk, "x");

    k->public = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x.at, x.n);
    return k->public != NULL ? NULL : "expected x of 32 bytes";
}

static int
ed_verify(const struct key *k, const struct token *t)
{
    return digest_verify(k, NULL, (const unsigned char *)t->signature.at, t->signature.n,
                         t->signed_part);
}

/* ---- HS256 ---- */

static const char *
secret_make(struct key *k, const json_t *jwk)
{
    struct member secret = member_get(jwk, "k");

    if (secret.n < SECRET_MIN)
        return "expected a secret k of 32 bytes or more";
    memcpy(k->secret, secret.at, secret.n);
    k->n_secret = secret.n;
    OPENSSL_cleanse(&secret, sizeof secret);
    return NULL;
}

static int
secret_verify(const struct key *k, const struct token *t)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    HMAC(EVP_sha256(), k->secret, (int)k->n_secret, (const unsigned char *)t->signed_part.at,
         t->signed_part.n, mac, &n);
    return t->signature.n == n && CRYPTO_memcmp(mac, t->signature.at, n) == 0;
}

static const struct algorithm algorithms[] = {
    {"RS256", "RSA", NULL, rsa_make, rsa_verify},
    {"ES256", "EC", "P-256", ec_make, ec_verify},
    {"EdDSA", "OKP", "Ed25519", ed_make, ed_verify},
    {"HS256", "oct", NULL, secret_make, secret_verify},
};

/* ---- the set ---- */

static int
member_is(const json_t *jwk, const char *name, const char *text)
{
    const char *value = json_string_value(json_object_get(jwk, name));

    return value != NULL && strcmp(value, text) == 0;
}

static int
member_may_be(const json_t *jwk, const char *name, const char *text)
{
    return json_object_get(jwk, name) == NULL || member_is(jwk, name, text);
}

/* NULL: the key is for something else, and is no concern of ours (RFC 7517, 5). */
static const struct algorithm *
algorithm_of(const json_t *jwk)
{
    unsigned i;

    for (i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++) {
        const struct algorithm *a = &algorithms[i];

        if (member_is(jwk, "kty", a->kty) && (a->crv == NULL || member_is(jwk, "crv", a->crv)) &&
            member_may_be(jwk, "alg", a->name) && member_may_be(jwk, "use", "sig"))
            return a;
    }
    return NULL;
}

static void
jwks_forget(void *parsed)
{
    struct jwks *set = parsed;
    unsigned i;

    for (i = 0; i < set->n; i++) {
        EVP_PKEY_free(set->at[i].public);
        OPENSSL_cleanse(set->at[i].secret, sizeof set->at[i].secret);
        free(set->at[i].kid);
    }
    free(set);
}

static const char *
key_take(struct jwks *set, const json_t *jwk)
{
    const struct algorithm *algorithm = algorithm_of(jwk);
    const char *kid = json_string_value(json_object_get(jwk, "kid"));
    struct key *k = &set->at[set->n];

    if (!json_is_object(jwk))
        return "expected an object";
    if (algorithm == NULL)
        return NULL;
    k->algorithm = algorithm;
    k->kid = kid != NULL ? strdup(kid) : NULL;
    set->n++;
    return algorithm->make(k, jwk);
}

static struct jwks *
keys_take(const json_t *keys, char why[AUTH_WHY_MAX])
{
    struct jwks *set = calloc(1, sizeof *set + json_array_size(keys) * sizeof set->at[0]);
    const char *err = NULL;
    const json_t *jwk;
    size_t i;

    SL_ASSERT(set != NULL);
    json_array_foreach(keys, i, jwk) {
        err = key_take(set, jwk);
        if (err != NULL)
            break;
    }
    ERR_clear_error();
    if (err == NULL && set->n > 0)
        return set;
    if (err != NULL)
        apr_snprintf(why, AUTH_WHY_MAX, ": key %lu: %s", (unsigned long)i + 1, err);
    else
        apr_snprintf(why, AUTH_WHY_MAX, ": expected a key for RS256, ES256, EdDSA or HS256");
    jwks_forget(set);
    return NULL;
}

static void *
jwks_parse(struct sl_span text, char why[AUTH_WHY_MAX])
{
    json_error_t error;
    json_t *json = json_loadb(text.at, text.n, JSON_REJECT_DUPLICATES, &error);
    const json_t *keys = json_object_get(json, "keys");
    struct jwks *set = NULL;

    if (json == NULL)
        apr_snprintf(why, AUTH_WHY_MAX, ":%d: %s", error.line, error.text);
    else if (!json_is_array(keys) || json_array_size(keys) > KEYS_MAX)
        apr_snprintf(why, AUTH_WHY_MAX, ": expected {\"keys\": [...]} with at most %d keys",
                     KEYS_MAX);
    else
        set = keys_take(keys, why);
    json_decref(json);
    return set;
}

const struct auth_file_kind jwks_kind = {jwks_parse, jwks_forget};

const char *
jwks_verify(const struct jwks *keys, const struct token *t)
{
    unsigned i, n_tries = 0;

    for (i = 0; i < keys->n; i++) {
        const struct key *k = &keys->at[i];

        if (strcmp(k->algorithm->name, t->alg) != 0)
            continue;
        if (t->kid != NULL && (k->kid == NULL || strcmp(k->kid, t->kid) != 0))
            continue;
        if (n_tries++ == TRIES_MAX)
            break;
        if (k->algorithm->verify(k, t))
            return NULL;
    }
    return n_tries > 0 ? "its signature is wrong" : "no key fits it";
}
