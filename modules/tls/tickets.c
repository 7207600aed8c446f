/* The keys of session tickets.  They are in a zone, so that every thread, the next generation
 * and a worker after a crash take the same tickets; one key writes, it and the two before it
 * read.  Thread 0 of the generation that serves makes a new one every few hours.  Where machines
 * share keys, these are of a file (ticket_file.c) and the zone is not made.
 *
 *   keys[number % 4]   the key that writes; number only grows, and is written last
 *   keys[number - 1 % 4], keys[number - 2 % 4]   those that still read */
#include "tls.h"

#include <stdatomic.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/rand.h>

#define ZONE_LAYOUT 2
#define READERS 3
#define LOOK_MS 60000

struct own_key {
    struct tls_ticket_key key;
    int64_t made_s;
};

struct ticket_zone {
    _Atomic(uint64_t) number; /* of the key that writes */
    struct own_key keys[4];
};

static struct ticket_zone *zone;
static int zone_is_fresh;
static int64_t rotate_s;
static EVP_CIPHER *cipher, *cipher_128;
static struct sl_timer timer;

static const struct own_key *
key_at(uint64_t number)
{
    return &zone->keys[number % 4];
}

static void
key_make(void)
{
    uint64_t number = atomic_load(&zone->number) + 1;
    struct own_key *own = &zone->keys[number % 4];
    struct tls_ticket_key *k = &own->key;

    if (RAND_bytes(k->name, sizeof k->name) != 1 ||
        RAND_priv_bytes(k->cipher, sizeof k->cipher) != 1 || RAND_priv_bytes(k->mac, sizeof k->mac) != 1)
        return;
    k->size = sizeof k->cipher;
    own->made_s = time(NULL);
    atomic_store_explicit(&zone->number, number, memory_order_release);
}

/* name NULL: the key that writes. */
static const struct tls_ticket_key *
own_key(const unsigned char *name, int *is_current)
{
    uint64_t number = atomic_load_explicit(&zone->number, memory_order_acquire), i;

    for (i = 0; i < READERS && i < number; i++)
        if (name == NULL || memcmp(key_at(number - i)->key.name, name, TLS_TICKET_NAME) == 0) {
            *is_current = i == 0;
            return &key_at(number - i)->key;
        }
    return NULL;
}

/* 1 go on, 2 go on and give a new ticket, 0 no ticket of ours, -1 failure.  Who comes back by TLS 1.3
 * gets a new one each time: clients use a ticket once, or others would know them by it (RFC 8446,
 * C.4). */
static int
ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *c, EVP_MAC_CTX *mac,
           int is_new)
{
    const unsigned char *wanted = is_new ? NULL : name;
    int is_current = 1;
    const struct tls_ticket_key *k = zone != NULL ? own_key(wanted, &is_current)
                                                  : tls_ticket_file_key(wanted, &is_current);
    OSSL_PARAM params[3];

    if (k == NULL)
        return 0;
    if (is_new) {
        memcpy(name, k->name, TLS_TICKET_NAME);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(cipher)) != 1)
            return -1;
    }
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)k->mac, k->size);
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)"sha256", 0);
    params[2] = OSSL_PARAM_construct_end();
    if (EVP_CipherInit_ex2(c, k->size == sizeof k->cipher ? cipher : cipher_128, k->cipher, iv, is_new,
                           NULL) != 1 ||
        EVP_MAC_CTX_set_params(mac, params) != 1)
        return -1;
    return is_current && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
}

/* Keys and time are those of the context that a connection began with, which may have no tickets where
 * the host that its client names has. */
void
tls_tickets_use(SSL_CTX *ctx, const struct tls_tickets *conf)
{
    int is_on = conf == NULL || conf->is_on;

    if (!is_on)
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx, is_on);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_key);
    SSL_CTX_set_timeout(ctx, (long)(rotate_s * (READERS - 1)));
}

/* ---- made and renewed ---- */

static apr_status_t
ciphers_free(void *unused)
{
    (void)unused;
    EVP_CIPHER_free(cipher);
    EVP_CIPHER_free(cipher_128);
    cipher = cipher_128 = NULL;
    zone = NULL;
    return APR_SUCCESS;
}

int
tls_tickets_open(apr_pool_t *pool, const struct tls_tickets *conf)
{
    rotate_s = conf != NULL ? conf->rotate_ms / 1000 : 8 * 3600;
    cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    cipher_128 = EVP_CIPHER_fetch(NULL, "AES-128-CBC", NULL);
    apr_pool_cleanup_register(pool, NULL, ciphers_free, apr_pool_cleanup_null);
    if (cipher == NULL || cipher_128 == NULL)
        return -1;
    if (conf != NULL && conf->file != NULL)
        return tls_ticket_file_open(pool, conf);
    zone = sl_zone("tls.tickets", ZONE_LAYOUT, sizeof *zone, &zone_is_fresh);
    if (zone == NULL)
        return -1;
    if (zone_is_fresh || atomic_load(&zone->number) == 0)
        key_make();
    return atomic_load(&zone->number) != 0 ? 0 : -1; /* without a key none may be used */
}

int
tls_tickets_are_new(void)
{
    return zone != NULL && zone_is_fresh;
}

static void
rotate(struct sl_loop *loop, struct sl_timer *t)
{
    const struct own_key *k = key_at(atomic_load(&zone->number));

    if (time(NULL) - k->made_s >= rotate_s)
        key_make();
    sl_timer_set(loop, t, sl_loop_now(loop) + (rotate_s < LOOK_MS / 1000 ? 1000 : LOOK_MS));
}

int
tls_tickets_ready(struct sl_worker *w)
{
    if (zone == NULL)
        return 0;
    timer.fn = rotate;
    sl_timer_set(sl_worker_loop(w, 0), &timer, sl_loop_now(sl_worker_loop(w, 0)) + 1000);
    return 0;
}

int
tls_tickets_drain(void)
{
    if (zone != NULL)
        sl_timer_stop(&timer);
    return 0;
}

void
tls_tickets_close(void)
{
    if (zone != NULL)
        sl_timer_unlink(&timer);
}
