/* Files of passwords as htpasswd writes them: USER:HASH on a line. */
#include "auth.h"

#include <apr_hash.h>
#include <apr_md5.h>
#include <apr_sha1.h>
#include <apr_strings.h>

#include <crypt.h>
#include <openssl/crypto.h>
#include <stdlib.h>

struct passwords {
    apr_pool_t *pool;
    apr_hash_t *of; /* name -> hash */
    apr_array_header_t *hashes; /* of const char *, in the file's order */
    uint64_t seed; /* which of them stands in for an unknown user */
};

/* ---- hashes ---- */

static int
is_sha1(const char *hash)
{
    return strncmp(hash, APR_SHA1PW_ID, APR_SHA1PW_IDLEN) == 0;
}

static int
is_apr_md5(const char *hash)
{
    return strncmp(hash, "$apr1$", 6) == 0;
}

/* Of the old crypt() a hash is thirteen letters; text that is no hash looks like its salt. */
static int
is_des(const char *hash)
{
    static const char letters[] =
        "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    return strlen(hash) == 13 && strspn(hash, letters) == 13;
}

static int
is_hash(const char *hash)
{
    if (is_apr_md5(hash) || is_des(hash))
        return 1;
    if (is_sha1(hash))
        return strlen(hash) == APR_SHA1PW_IDLEN + 28;
    if (*hash != '$' && *hash != '_')
        return 0;
    switch (crypt_checksalt(hash)) {
    case CRYPT_SALT_OK:
    case CRYPT_SALT_METHOD_LEGACY:
    case CRYPT_SALT_TOO_CHEAP:
        return 1;
    default: /* an open set: what libcrypt cannot or may not compute */
        return 0;
    }
}

static int
is_same(const char *a, const char *b)
{
    size_t n = strlen(a);

    return n == strlen(b) && CRYPTO_memcmp(a, b, n) == 0;
}

static int
crypt_is(const char *password, const char *hash)
{
    struct crypt_data *data = calloc(1, sizeof *data);
    const char *made = data != NULL ? crypt_r(password, hash, data) : NULL;
    int rc = made != NULL && *made != '*' && is_same(made, hash);

    if (data != NULL)
        OPENSSL_cleanse(data, sizeof *data);
    free(data);
    return rc;
}

int
password_is(const char *password, const char *hash)
{
    char made[128] = "";

    if (is_apr_md5(hash))
        return apr_md5_encode(password, hash, made, sizeof made) == APR_SUCCESS &&
               is_same(made, hash);
    if (is_sha1(hash)) {
        apr_sha1_base64(password, (int)strlen(password), made);
        return is_same(made, hash);
    }
    return *hash != '\0' && crypt_is(password, hash);
}

/* ---- the file ---- */

static void
passwords_forget(void *parsed)
{
    apr_pool_destroy(((struct passwords *)parsed)->pool);
}

/* One line without its end; NULL or what is wrong. */
static const char *
line_take(struct passwords *p, struct sl_span line)
{
    const char *colon = memchr(line.at, ':', line.n), *name, *hash;
    struct sl_span rest;

    if (line.n == 0 || *line.at == '#')
        return NULL;
    if (colon == NULL || colon == line.at)
        return "expected USER:HASH";
    rest = (struct sl_span){colon + 1, line.n - (size_t)(colon + 1 - line.at)};
    colon = memchr(rest.at, ':', rest.n); /* behind it is a comment */
    name = apr_pstrmemdup(p->pool, line.at, (size_t)(rest.at - 1 - line.at));
    hash = apr_pstrmemdup(p->pool, rest.at, colon != NULL ? (size_t)(colon - rest.at) : rest.n);
    if (!is_hash(hash))
        return "expected a hash as \"htpasswd -B\" makes it: passwords are not kept in clear";
    if (apr_hash_get(p->of, name, APR_HASH_KEY_STRING) != NULL)
        return "this user stands on a line before";
    apr_hash_set(p->of, name, APR_HASH_KEY_STRING, hash);
    APR_ARRAY_PUSH(p->hashes, const char *) = hash;
    return NULL;
}

static void *
passwords_parse(struct sl_span text, char why[AUTH_WHY_MAX])
{
    struct passwords *p;
    apr_pool_t *own;
    const char *err = NULL, *at = text.at, *end = text.at + text.n;
    unsigned number = 0;

    apr_pool_create_unmanaged(&own);
    p = apr_pcalloc(own, sizeof *p);
    p->pool = own;
    p->of = apr_hash_make(own);
    p->hashes = apr_array_make(own, 16, sizeof(const char *));
    sl_random_bytes(&p->seed, sizeof p->seed);
    if (memchr(text.at, '\0', text.n) != NULL)
        err = "expected text";
    while (err == NULL && at < end) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        struct sl_span line = {at, (size_t)((eol != NULL ? eol : end) - at)};

        number++;
        at = eol != NULL ? eol + 1 : end;
        if (line.n > 0 && line.at[line.n - 1] == '\r')
            line.n--;
        err = line_take(p, line);
    }
    if (err == NULL)
        return p;
    apr_snprintf(why, AUTH_WHY_MAX, ":%u: %s", number, err);
    passwords_forget(p);
    return NULL;
}

const struct auth_file_kind passwords_kind = {passwords_parse, passwords_forget};

const char *
passwords_hash(const struct passwords *p, struct sl_span user, int *is_known)
{
    const char *hash = apr_hash_get(p->of, user.at, (apr_ssize_t)user.n);
    uint64_t h = p->seed;
    size_t i;

    *is_known = hash != NULL;
    if (hash != NULL || p->hashes->nelts == 0)
        return hash != NULL ? hash : "";
    for (i = 0; i < user.n; i++) /* FNV-1a */
        h = (h ^ (unsigned char)user.at[i]) * 0x100000001b3u;
    return APR_ARRAY_IDX(p->hashes, (int)(h % (uint64_t)p->hashes->nelts), const char *);
}
