/* An SSL_CTX with the settings of a host.  The defaults are Mozilla's "intermediate" without the
 * finite-field suites; what OpenSSL does beyond need (renegotiation, compression, a session
 * cache of its own, two tickets a handshake) is off. */
#include "tls.h"

#include <openssl/err.h>

#define GROUPS "X25519:P-256:P-384"
#define SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define INTERMEDIATE                                                                         \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                             \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                             \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

const char *
tls_error(char *to, size_t n)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(e);

    snprintf(to, n, "%s", e == 0 ? "" : ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e))
                                      : reason != NULL ? reason : "no reason given");
    ERR_clear_error();
    return to;
}

/* ---- clients ---- */

/* A session is worth what was asked of the client when it began: it is resumed only where the
 * same is asked. */
static void
context_sessions(SSL_CTX *ctx, const struct tls_site *site)
{
    static const struct tls_tickets none = {0};
    const struct tls_conf *conf = site->conf;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char text[1024];
    int k = snprintf(text, sizeof text, "sluice %d %s %s", conf->client_verify,
                     conf->client_verify != TLS_VERIFY_OFF ? tls_client_path(conf->client_ca) : "",
                     tls_client_path(conf->client_crl));

    EVP_Digest(text, (size_t)k < sizeof text ? (size_t)k : sizeof text - 1, digest, &n, EVP_sha256(),
               NULL);
    SSL_CTX_set_session_id_context(ctx, digest, n < 32 ? n : 32);
    tls_sessions_use(ctx);
    /* Nothing is verified anew when a session is resumed: a client whose certificate was revoked
     * or has expired would stay.  sessions.c does as much. */
    tls_tickets_use(ctx, conf->client_verify == TLS_VERIFY_OFF ? conf->tickets : &none);
}

static void
context_clients(SSL_CTX *ctx, const struct tls_site *site)
{
    const struct tls_conf *conf = site->conf;

    if (conf->client_verify == TLS_VERIFY_OFF)
        return;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (conf->client_verify == TLS_VERIFY_REQUIRE
                                                   ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    SSL_CTX_set_verify_depth(ctx, (int)conf->client_depth);
    SSL_CTX_set1_cert_store(ctx, site->client_ca);
    SSL_CTX_set_client_CA_list(ctx, SSL_dup_CA_list(site->client_names));
}

/* ---- the whole ---- */

static int
context_ciphers(SSL_CTX *ctx, const struct tls_ciphers *c)
{
    const char *list = c != NULL && c->list != NULL ? c->list : INTERMEDIATE;
    const char *suites = c != NULL && c->suites != NULL ? c->suites : SUITES;

    return SSL_CTX_set_cipher_list(ctx, list) == 1 && SSL_CTX_set_ciphersuites(ctx, suites) == 1;
}

const char *
tls_context_check(struct sl_cmd *cmd, const struct tls_ciphers *ciphers)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    int ok = context_ciphers(ctx, ciphers);

    SSL_CTX_free(ctx);
    ERR_clear_error();
    return ok ? NULL : sl_cmd_error(cmd, "expected names of ciphers as \"openssl ciphers\" prints "
                                    "them, with colons between");
}

static void
context_settings(SSL_CTX *ctx, const struct tls_site *site)
{
    const struct tls_conf *conf = site->conf;
    int min = conf->profile == TLS_MODERN ? TLS1_3_VERSION : TLS1_2_VERSION, max = TLS1_3_VERSION;

    if (conf->protocols != NULL) {
        min = conf->protocols->min;
        max = conf->protocols->max;
    }
    SSL_CTX_set_min_proto_version(ctx, min);
    SSL_CTX_set_max_proto_version(ctx, max);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set1_groups_list(ctx, GROUPS);
    context_ciphers(ctx, conf->ciphers);
    tls_accept_with(ctx);
    context_sessions(ctx, site);
    context_clients(ctx, site);
    tls_early_use(ctx, conf);
    tls_staple_use(ctx, conf->stapling);
    if (conf->key_log != NULL)
        SSL_CTX_set_keylog_callback(ctx, tls_key_log);
}

SSL_CTX *
tls_context_make(const struct tls_site *site, struct tls_pair *const *pairs, unsigned n)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    char why[160];
    unsigned i;

    ERR_clear_error();
    for (i = 0; ctx != NULL && i < n; i++)
        if (SSL_CTX_use_cert_and_key(ctx, pairs[i]->leaf, pairs[i]->key, pairs[i]->chain, 1) != 1) {
            sl_log(SL_ERROR, "TLS0026", "a certificate cannot be used: %s",
                   tls_error(why, sizeof why));
            SSL_CTX_free(ctx);
            return NULL;
        }
    if (ctx == NULL)
        return NULL;
    SSL_CTX_set_app_data(ctx, (void *)(uintptr_t)site);
    context_settings(ctx, site);
    tls_offload_use(ctx, pairs, n);
    return ctx;
}

/* What SSL_new() copied from the context it began with. */
void
tls_context_enter(SSL *ssl, SSL_CTX *ctx)
{
    SSL_set_SSL_CTX(ssl, ctx);
    SSL_set_min_proto_version(ssl, (int)SSL_CTX_get_min_proto_version(ctx));
    SSL_set_max_proto_version(ssl, (int)SSL_CTX_get_max_proto_version(ctx));
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), NULL);
    SSL_set_verify_depth(ssl, SSL_CTX_get_verify_depth(ctx));
    SSL_set_num_tickets(ssl, SSL_CTX_get_num_tickets(ctx));
    tls_early_enter(ssl, ctx);
    SSL_clear_options(ssl, SSL_get_options(ssl) & ~SSL_CTX_get_options(ctx));
    SSL_set_options(ssl, SSL_CTX_get_options(ctx));
}
