/* A token's parts and claims: pure functions of its bytes. */
#include "auth.h"

/* ---- a token's parts ---- */

static apr_status_t
json_drop(void *json)
{
    json_decref(json);
    return APR_SUCCESS;
}

/* What stands before the next dot, which must be there; 0: it is not, or nothing stands there. */
static int
part_take(struct sl_span *rest, struct sl_span *part)
{
    const char *dot = memchr(rest->at, '.', rest->n);

    if (dot == NULL)
        return 0;
    *part = (struct sl_span){rest->at, (size_t)(dot - rest->at)};
    rest->n -= part->n + 1;
    rest->at = dot + 1;
    return part->n > 0;
}

/* A name that stands twice would let two readers see two tokens (RFC 7515, 4). */
static json_t *
object_decode(apr_pool_t *pool, struct sl_span coded)
{
    char *text = apr_palloc(pool, coded.n + 1);
    int n = base64url_decode(coded, text);
    json_t *json = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;

    if (json == NULL)
        return NULL;
    apr_pool_cleanup_register(pool, json, json_drop, apr_pool_cleanup_null);
    return json_is_object(json) ? json : NULL;
}

const char *
token_parse(apr_pool_t *pool, struct sl_span text, struct token *t)
{
    struct sl_span rest = text, header, claims;
    char *signature;
    int n;

    if (text.n == 0 || !part_take(&rest, &header) || !part_take(&rest, &claims) ||
        memchr(rest.at, '.', rest.n) != NULL)
        return "it has not three parts";
    t->signed_part = (struct sl_span){text.at, (size_t)(rest.at - 1 - text.at)};
    signature = apr_palloc(pool, rest.n + 1);
    n = base64url_decode(rest, signature);
    if (n < 0)
        return "its signature is not base64url";
    t->signature = (struct sl_span){signature, (size_t)n};
    t->header = object_decode(pool, header);
    if (t->header == NULL)
        return "its header is no JSON object";
    t->alg = json_string_value(json_object_get(t->header, "alg"));
    t->kid = json_string_value(json_object_get(t->header, "kid"));
    if (t->alg == NULL)
        return "its header names no algorithm";
    if (json_object_get(t->header, "crit") != NULL) /* RFC 7515, 4.1.11 */
        return "its header asks for what is not understood (crit)";
    t->claims = object_decode(pool, claims);
    return t->claims != NULL ? NULL : "its claims are no JSON object";
}

/* ---- claims ---- */

const json_t *
claims_decode(apr_pool_t *pool, struct sl_span signed_part)
{
    struct sl_span header;

    return signed_part.n > 0 && part_take(&signed_part, &header)
               ? object_decode(pool, signed_part)
               : NULL;
}

const json_t *
claim_find(const json_t *claims, struct sl_span path)
{
    const json_t *whole = json_object_getn(claims, path.at, path.n);
    const char *dot;

    if (whole != NULL)
        return whole;
    while (json_is_object(claims)) {
        dot = memchr(path.at, '.', path.n);
        if (dot == NULL)
            return json_object_getn(claims, path.at, path.n);
        claims = json_object_getn(claims, path.at, (size_t)(dot - path.at));
        path.n -= (size_t)(dot + 1 - path.at);
        path.at = dot + 1;
    }
    return NULL;
}

/* RFC 7519, 4.1.3: one text or several. */
static int
is_for(const json_t *aud, const char *whom)
{
    const json_t *one;
    size_t i;

    if (json_is_string(aud))
        return strcmp(json_string_value(aud), whom) == 0;
    json_array_foreach(aud, i, one)
        if (json_is_string(one) && strcmp(json_string_value(one), whom) == 0)
            return 1;
    return 0;
}

const char *
claims_check(const json_t *claims, const struct claims_wanted *want, int64_t now_us)
{
    const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    const char *iss = json_string_value(json_object_get(claims, "iss"));
    double now = (double)now_us / 1e6, leeway = (double)want->leeway_ms / 1e3;

    if (exp == NULL && want->needs_exp)
        return "it does not say when it expires";
    if ((exp != NULL && !json_is_number(exp)) || (nbf != NULL && !json_is_number(nbf)))
        return "exp or nbf is no number";
    if (exp != NULL && now >= json_number_value(exp) + leeway) /* RFC 7519, 4.1.4 */
        return "it has expired";
    if (nbf != NULL && now < json_number_value(nbf) - leeway)
        return "it is not valid yet";
    if (want->iss != NULL && (iss == NULL || strcmp(iss, want->iss) != 0))
        return "it is of another issuer";
    if (want->aud != NULL && !is_for(json_object_get(claims, "aud"), want->aud))
        return "it is for another audience";
    return NULL;
}
