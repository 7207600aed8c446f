/* OCSP stapling, among its files.  All but what reads a response while hands are shaken is thread
 * 0's.
 *
 *   staple.c        which certificates have a response stapled, and when it is asked for
 *   stapled.c       a certificate's response, and how it reaches clients
 *   staple_kept.c   what was fetched, for the next generation
 *   staple_files.c  TLSStapling FILE */
#ifndef TLS_STAPLE_H
#define TLS_STAPLE_H

#include "ocsp.h"

#pragma GCC visibility push(hidden)

struct staple_file;
struct tls_stapling {
    int is_on;
    struct staple_file *files; /* none: responders are asked */
};

/* ---- stapled.c ---- */

void stapled_open(void);
/* Frees responses that were replaced; nobody looks at them any more. */
void stapled_close(void);
/* Room for a response, which is part of the certificate.  0, or -1: out of memory. */
int stapled_prepare(X509 *leaf);
/* Copies it.  NULL der: none from now on. */
void stapled_set(X509 *leaf, const unsigned char *der, size_t n, int64_t asked_s, int64_t until_s);
/* When what is stapled was asked for and until when it holds, since the epoch; 0: nothing is. */
int64_t stapled_asked(const struct tls_cert *cert);
int64_t stapled_until(const struct tls_cert *cert);

/* ---- staple_kept.c; where it was not opened nothing is kept ---- */

struct kept_response {
    unsigned n; /* 0: revoked */
    int64_t asked_s, until_s;
};
void kept_open(void);
void kept_close(void);
/* NULL der: the certificate is revoked. */
void kept_put(const X509 *leaf, const unsigned char *der, size_t n, int64_t asked_s, int64_t until_s);
/* What is kept of a certificate, as it stood at one moment; der has TLS_OCSP_MAX bytes.  0: there
 * is none. */
int kept_get(const X509 *leaf, struct kept_response *to, unsigned char *der);

/* ---- staple_files.c ---- */

/* To the certificates they are about, now and when they change. */
void staple_files_open(struct tls_stapling *of);
/* One of the certificates is another. */
void staple_files_again(const struct tls_stapling *of);

#pragma GCC visibility pop

#endif
