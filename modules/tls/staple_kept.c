/* Responses that were fetched, for the next generation and the worker after a crash: a zone. */
#include "staple.h"

#include <stdatomic.h>

#define ZONE_LAYOUT 1
#define KEPT_MAX 512
#define DIGEST_N 32

/* A response counts when its sequence is even and the same after it was read. */
struct kept {
    atomic_uint sequence;
    unsigned n; /* 0: revoked, or nothing is here */
    int64_t asked_s, until_s;
    unsigned char digest[DIGEST_N]; /* of the certificate */
};

struct kept_zone {
    struct kept kept[KEPT_MAX];
    unsigned char der[KEPT_MAX][TLS_OCSP_MAX]; /* pages of those that are used exist */
};

static struct kept_zone *zone;

static int
digest_of(const X509 *leaf, unsigned char *digest)
{
    return X509_digest(leaf, EVP_sha256(), digest, NULL) == 1;
}

static struct kept *
kept_find(const unsigned char *digest)
{
    unsigned i;

    for (i = 0; i < KEPT_MAX; i++)
        if (memcmp(zone->kept[i].digest, digest, DIGEST_N) == 0)
            return &zone->kept[i];
    return NULL;
}

/* The place of this certificate, else of the response that ends first. */
static struct kept *
kept_room(const unsigned char *digest)
{
    struct kept *k = kept_find(digest), *first = &zone->kept[0];
    unsigned i;

    for (i = 1; i < KEPT_MAX; i++)
        if (zone->kept[i].until_s < first->until_s)
            first = &zone->kept[i];
    return k != NULL ? k : first;
}

void
kept_put(const X509 *leaf, const unsigned char *der, size_t n, int64_t asked_s, int64_t until_s)
{
    unsigned char digest[DIGEST_N];
    struct kept *k;

    if (zone == NULL || !digest_of(leaf, digest))
        return;
    k = kept_room(digest);
    atomic_fetch_or(&k->sequence, 1); /* a writer that was killed has left it odd */
    memcpy(k->digest, digest, DIGEST_N);
    k->n = (unsigned)n;
    k->asked_s = asked_s;
    k->until_s = until_s;
    if (n > 0)
        memcpy(zone->der[k - zone->kept], der, n);
    atomic_fetch_add_explicit(&k->sequence, 1, memory_order_release);
}

int
kept_get(const X509 *leaf, struct kept_response *to, unsigned char *der)
{
    unsigned char digest[DIGEST_N], found[DIGEST_N];
    struct kept *k = zone != NULL && digest_of(leaf, digest) ? kept_find(digest) : NULL;
    unsigned before;

    if (k == NULL)
        return 0;
    before = atomic_load_explicit(&k->sequence, memory_order_acquire);
    to->n = k->n;
    to->asked_s = k->asked_s;
    to->until_s = k->until_s;
    memcpy(found, k->digest, DIGEST_N);
    if (to->n > TLS_OCSP_MAX)
        return 0;
    memcpy(der, zone->der[k - zone->kept], to->n);
    return before % 2 == 0 && atomic_fetch_or(&k->sequence, 0) == before && /* after what was read */
           memcmp(found, digest, DIGEST_N) == 0;
}

void
kept_open(void)
{
    int is_fresh;

    zone = sl_zone("tls.staples", ZONE_LAYOUT, sizeof *zone, &is_fresh);
}

void
kept_close(void)
{
    zone = NULL;
}
