/* What is known of a connection's TLS, as %{variables}; absent where it is none. */
#include "tls.h"

#include <apr_strings.h>

#include <openssl/x509v3.h>

static const struct sl_span absent = {NULL, 0};

#define GETTER(name)                                                                         \
    static struct sl_span get_##name(struct sl_req *r, struct sl_span arg)

GETTER(version)
{
    const struct tls *t = tls_of_req(r);

    (void)arg;
    return t != NULL ? sl_span(SSL_get_version(t->ssl)) : absent;
}

GETTER(cipher)
{
    const struct tls *t = tls_of_req(r);

    (void)arg;
    return t != NULL ? sl_span(SSL_get_cipher_name(t->ssl)) : absent;
}

GETTER(sni)
{
    const struct tls *t = tls_of_req(r);
    const char *name = t != NULL ? SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name) : NULL;

    (void)arg;
    return name != NULL ? sl_span(name) : absent;
}

GETTER(resumed)
{
    const struct tls *t = tls_of_req(r);

    (void)arg;
    return t == NULL ? absent : SSL_session_reused(t->ssl) ? SL_SPAN("1") : SL_SPAN("0");
}

GETTER(early_data)
{
    const struct tls *t = tls_of_req(r);

    (void)arg;
    return t == NULL ? absent : tls_early_went(r, t) ? SL_SPAN("1") : SL_SPAN("0");
}

static X509 *
client_of(const struct sl_req *r)
{
    const struct tls *t = tls_of_req(r);

    return t != NULL ? SSL_get0_peer_certificate(t->ssl) : NULL;
}

GETTER(client_verify)
{
    const struct tls *t = tls_of_req(r);

    (void)arg;
    if (t == NULL)
        return absent;
    return client_of(r) == NULL ? SL_SPAN("none")
                                : SSL_get_verify_result(t->ssl) == X509_V_OK ? SL_SPAN("ok")
                                                                             : SL_SPAN("failed");
}

/* RFC 2253, as one line without bytes that would split a field. */
static struct sl_span
name_text(struct sl_req *r, X509_NAME *name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    struct sl_span s = absent;
    char *at;
    long n;

    X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
    n = BIO_get_mem_data(bio, &at);
    if (n > 0)
        s = (struct sl_span){apr_pstrmemdup(sl_req_pool(r), at, (size_t)n), (size_t)n};
    BIO_free(bio);
    return s;
}

GETTER(client_dn)
{
    X509 *cert = client_of(r);

    (void)arg;
    return cert != NULL ? name_text(r, X509_get_subject_name(cert)) : absent;
}

GETTER(client_issuer)
{
    X509 *cert = client_of(r);

    (void)arg;
    return cert != NULL ? name_text(r, X509_get_issuer_name(cert)) : absent;
}

static struct sl_span
hex_text(struct sl_req *r, const unsigned char *at, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char *to = apr_palloc(sl_req_pool(r), 2 * n + 1);
    size_t i;

    for (i = 0; i < n; i++) {
        to[2 * i] = digits[at[i] >> 4];
        to[2 * i + 1] = digits[at[i] & 15];
    }
    return (struct sl_span){to, 2 * n};
}

GETTER(client_fingerprint)
{
    X509 *cert = client_of(r);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n;

    (void)arg;
    if (cert == NULL || X509_digest(cert, EVP_sha256(), digest, &n) != 1)
        return absent;
    return hex_text(r, digest, n);
}

GETTER(client_serial)
{
    X509 *cert = client_of(r);
    const ASN1_INTEGER *serial = cert != NULL ? X509_get0_serialNumber(cert) : NULL;

    (void)arg;
    return serial != NULL ? hex_text(r, ASN1_STRING_get0_data(serial),
                                     (size_t)ASN1_STRING_length(serial)) : absent;
}

const struct sl_variable tls_variables[] = {
    {"tls_version", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 20, get_version,
     "TLSv1.3 and the like"},
    {"tls_cipher", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 20, get_cipher,
     "the cipher in use"},
    {"tls_sni", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 20, get_sni,
     "the name the client asked for"},
    {"tls_resumed", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 20, get_resumed,
     "1 when an earlier session was resumed, else 0"},
    {"tls_early_data", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 20, get_early_data,
     "1 when the request went on before the handshake was over, else 0"},
    {"tls_client_verify", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 30, get_client_verify,
     "ok, failed, or none where the client showed no certificate"},
    {"tls_client_dn", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 2000, get_client_dn,
     "whom the client's certificate is for"},
    {"tls_client_issuer", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 2000, get_client_issuer,
     "who signed the client's certificate"},
    {"tls_client_fingerprint", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 2000, get_client_fingerprint,
     "SHA-256 of the client's certificate, hexadecimal"},
    {"tls_client_serial", 0, SL_PHASE_CONNECTION, SL_TYPE_STRING, 100, get_client_serial,
     "the serial number of the client's certificate, hexadecimal"},
    SL_VARIABLES_END,
};
