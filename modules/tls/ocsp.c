/* Whom to ask about a certificate, and whether what comes back is good.  The response is verified
 * before it is used: no client gains by a stapled one it has to refuse. */
#include "ocsp.h"

#include <time.h>

#include <openssl/err.h>
#include <openssl/http.h>
#include <openssl/x509v3.h>

#define SKEW_S 300
#define RENEW_MIN_S 5
#define RENEW_MAX_S (12 * 3600)
#define BACKOFF_MIN_S 5
#define BACKOFF_MAX_S 3600
#define FEATURE_STATUS_REQUEST 5 /* RFC 7633, 4: the number of the TLS extension */

/* ---- whom ---- */

int
tls_ocsp_url(X509 *leaf, struct tls_ocsp_url *url)
{
    STACK_OF(OPENSSL_STRING) *urls = X509_get1_ocsp(leaf);
    int i, is_tls, rc = 0;

    *url = (struct tls_ocsp_url){NULL, NULL, NULL};
    for (i = 0; i < sk_OPENSSL_STRING_num(urls) && rc != 1; i++) {
        tls_ocsp_url_free(url);
        rc = OSSL_HTTP_parse_url(sk_OPENSSL_STRING_value(urls, i), &is_tls, NULL, &url->host,
                                 &url->port, NULL, &url->path, NULL, NULL) == 1 && !is_tls;
    }
    if (rc != 1)
        tls_ocsp_url_free(url);
    X509_email_free(urls);
    ERR_clear_error();
    return rc == 1 ? 0 : -1;
}

void
tls_ocsp_url_free(struct tls_ocsp_url *url)
{
    OPENSSL_free(url->host);
    OPENSSL_free(url->port);
    OPENSSL_free(url->path);
    *url = (struct tls_ocsp_url){NULL, NULL, NULL};
}

X509 *
tls_ocsp_issuer(const struct tls_pair *p)
{
    int i;

    for (i = 0; i < sk_X509_num(p->chain); i++)
        if (X509_check_issued(sk_X509_value(p->chain, i), p->leaf) == X509_V_OK)
            return sk_X509_value(p->chain, i);
    return NULL;
}

int
tls_ocsp_is_must(X509 *leaf)
{
    TLS_FEATURE *features = X509_get_ext_d2i(leaf, NID_tlsfeature, NULL, NULL);
    int i, is_must = 0;

    for (i = 0; i < sk_ASN1_INTEGER_num(features); i++)
        is_must |= ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, i)) == FEATURE_STATUS_REQUEST;
    sk_ASN1_INTEGER_pop_free(features, ASN1_INTEGER_free);
    return is_must;
}

OCSP_REQUEST *
tls_ocsp_request(X509 *leaf, X509 *issuer)
{
    OCSP_REQUEST *r = OCSP_REQUEST_new();
    OCSP_CERTID *id = OCSP_cert_to_id(NULL, leaf, issuer); /* SHA-1: what every responder knows */

    if (r != NULL && id != NULL && OCSP_request_add0_id(r, id) != NULL)
        return r;
    OCSP_CERTID_free(id);
    OCSP_REQUEST_free(r);
    return NULL;
}

/* ---- what it says ---- */

/* RFC 6960, 4.2.2.2: by the issuer, or by one it has signed for that; nobody else is known. */
static int
is_signed(OCSP_BASICRESP *basic, X509 *issuer)
{
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509) *known = sk_X509_new_null();
    int ok = store != NULL && known != NULL && sk_X509_push(known, issuer) > 0 &&
             X509_STORE_add_cert(store, issuer) == 1 &&
             X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1 &&
             OCSP_basic_verify(basic, known, store, OCSP_NOEXPLICIT) == 1;

    sk_X509_free(known);
    X509_STORE_free(store);
    return ok;
}

/* Seconds since the epoch; -1: absent or malformed. */
static int64_t
moment(const ASN1_GENERALIZEDTIME *at)
{
    struct tm tm;

    return at != NULL && ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) : -1;
}

/* The word on this certificate, whichever of the usual digests its identifier is made with. */
static int
word_find(OCSP_BASICRESP *basic, X509 *leaf, X509 *issuer, int *status, int64_t *from_s, int64_t *to_s)
{
    const EVP_MD *digests[] = {EVP_sha1(), EVP_sha256()};
    ASN1_GENERALIZEDTIME *from, *to;
    int i, reason, found = 0;

    for (i = 0; i < 2 && !found; i++) {
        OCSP_CERTID *id = OCSP_cert_to_id(digests[i], leaf, issuer);

        found = id != NULL && OCSP_resp_find_status(basic, id, status, &reason, NULL, &from, &to) == 1;
        OCSP_CERTID_free(id);
    }
    if (found) {
        *from_s = moment(from);
        *to_s = moment(to);
    }
    return found;
}

static const char *
word_check(OCSP_BASICRESP *basic, X509 *leaf, X509 *issuer, int64_t now_s, int *status, int64_t *to_s)
{
    int64_t from_s = -1;

    if (!word_find(basic, leaf, issuer, status, &from_s, to_s))
        return "it is about another certificate";
    if (!is_signed(basic, issuer))
        return "it is not signed by the certificate's issuer, nor by whom that lets sign";
    if (from_s < 0 || from_s > now_s + SKEW_S)
        return "it begins in the future";
    if (*to_s < 0)
        return "it does not say how long it holds";
    if (*to_s <= now_s)
        return "it has expired";
    return *status == V_OCSP_CERTSTATUS_UNKNOWN ? "the responder does not know the certificate" : NULL;
}

static OCSP_RESPONSE *
response_of(const unsigned char *der, size_t n)
{
    const unsigned char *at = der;
    OCSP_RESPONSE *r = n <= TLS_OCSP_MAX ? d2i_OCSP_RESPONSE(NULL, &at, (long)n) : NULL;

    if (r != NULL && at != der + n) {
        OCSP_RESPONSE_free(r);
        return NULL;
    }
    return r;
}

int
tls_ocsp_is_response(const unsigned char *der, size_t n)
{
    OCSP_RESPONSE *r = response_of(der, n);

    OCSP_RESPONSE_free(r);
    ERR_clear_error();
    return r != NULL;
}

enum tls_ocsp
tls_ocsp_check(const unsigned char *der, size_t n, X509 *leaf, X509 *issuer, int64_t now_s,
               struct tls_ocsp_said *said)
{
    OCSP_RESPONSE *r = response_of(der, n);
    int status = r != NULL ? OCSP_response_status(r) : 0, word = V_OCSP_CERTSTATUS_UNKNOWN;
    OCSP_BASICRESP *basic = NULL;

    said->why = NULL;
    if (r == NULL)
        said->why = "it is no OCSP response";
    else if (status != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        said->why = OCSP_response_status_str(status);
    else if ((basic = OCSP_response_get1_basic(r)) == NULL)
        said->why = "it is no OCSP response of the basic kind";
    else
        said->why = word_check(basic, leaf, issuer, now_s, &word, &said->next_s);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(r);
    ERR_clear_error();
    return said->why != NULL ? TLS_OCSP_BAD
           : word == V_OCSP_CERTSTATUS_GOOD ? TLS_OCSP_GOOD : TLS_OCSP_REVOKED;
}

/* ---- when ---- */

int64_t
tls_ocsp_renew_s(int64_t asked_s, int64_t next_s, unsigned random)
{
    int64_t wait = (next_s - asked_s) / 2;

    wait += wait / 10 * (int64_t)(random % 201) / 100 - wait / 10;
    wait = wait > RENEW_MAX_S ? RENEW_MAX_S - (int64_t)(random % 3600) : wait;
    return asked_s + (wait < RENEW_MIN_S ? RENEW_MIN_S : wait);
}

int64_t
tls_ocsp_backoff_s(unsigned n_failed, unsigned random)
{
    int64_t wait = BACKOFF_MIN_S;

    while (n_failed-- > 1 && wait < BACKOFF_MAX_S)
        wait *= 2;
    wait = wait < BACKOFF_MAX_S ? wait : BACKOFF_MAX_S;
    return wait + wait * (int64_t)(random % 51) / 100 - wait / 4;
}
