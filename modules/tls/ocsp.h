/* What OCSP (RFC 6960) says of a certificate.
 *
 *   ocsp.c        whom to ask, the question, and whether a response is good: no I/O
 *   ocsp_fetch.c  one question asked, on an offload thread
 *
 * staple.h has what becomes of it. */
#ifndef TLS_OCSP_H
#define TLS_OCSP_H

#include "tls.h"

#include <openssl/ocsp.h>

#include <stdatomic.h>

#pragma GCC visibility push(hidden)

#define TLS_OCSP_MAX 16384 /* a longer response is refused */

/* ---- ocsp.c; any thread ---- */

struct tls_ocsp_url {
    char *host, *port, *path; /* OpenSSL's */
};
/* The first address in the certificate that speaks plain HTTP.  0, or -1: it names none. */
int tls_ocsp_url(X509 *leaf, struct tls_ocsp_url *url);
void tls_ocsp_url_free(struct tls_ocsp_url *url);
/* Who signed the first certificate of a chain, out of that chain; the pair's.  NULL: not there. */
X509 *tls_ocsp_issuer(const struct tls_pair *p);
/* Whether clients are to refuse the certificate without a response (RFC 7633). */
int tls_ocsp_is_must(X509 *leaf);
/* NULL: out of memory.  The caller's. */
OCSP_REQUEST *tls_ocsp_request(X509 *leaf, X509 *issuer);

enum tls_ocsp { TLS_OCSP_GOOD, TLS_OCSP_REVOKED, TLS_OCSP_BAD };
struct tls_ocsp_said {
    int64_t next_s;   /* until when it holds, since the epoch; of a good one and a revocation */
    const char *why;  /* of a bad one: a phrase */
};
/* What a response says of the certificate at this moment; it is signed by the issuer or by whom
 * the issuer lets sign, else it is bad. */
enum tls_ocsp tls_ocsp_check(const unsigned char *der, size_t n, X509 *leaf, X509 *issuer,
                             int64_t now_s, struct tls_ocsp_said *said);
/* Whether these bytes are a response at all, of whomever. */
int tls_ocsp_is_response(const unsigned char *der, size_t n);

/* When to ask again: half way from when it was asked to when the response ends, a tenth earlier
 * or later by `random`. */
int64_t tls_ocsp_renew_s(int64_t asked_s, int64_t next_s, unsigned random);
/* Seconds to wait after so many failures in a row, a quarter more or less by `random`. */
int64_t tls_ocsp_backoff_s(unsigned n_failed, unsigned random);

/* ---- ocsp_fetch.c ---- */

/* One question under way; one at a time, so that never more than one offload thread waits. */
struct tls_fetch {
    struct sl_offload job; /* first */
    X509 *leaf, *issuer;
    void (*done)(struct tls_fetch *f); /* on the loop it was begun on */
    void *ctx;
    atomic_int is_cancelled;
    /* then: */
    enum tls_ocsp what;
    struct tls_ocsp_said said;
    unsigned char *der; /* of a good one */
    int n;
    char text[192]; /* of said.why */
};
/* Takes references of both.  0, or -1 when offload has no room. */
int tls_fetch_begin(struct sl_loop *loop, struct tls_fetch *f, X509 *leaf, X509 *issuer);
/* Gives up what tls_fetch_begin() took and the response; again: nothing. */
void tls_fetch_free(struct tls_fetch *f);

#pragma GCC visibility pop

#endif
