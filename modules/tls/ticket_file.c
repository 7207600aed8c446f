/* TLSTickets FILE: the keys of session tickets that several machines share, so that each takes the
 * tickets of the others.  The first key of the file writes, all of them read.
 *
 * Threads look at the set in force while a ticket is made or opened; when the file changes another
 * takes its place, and the old one waits for a minute, longer than any of them looks at it. */
#include "tls.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define KEYS_MAX 8
#define LONG_KEY 80u
#define SHORT_KEY 48u
#define SHORT_KEYS_MAX 4 /* five are as long as three long ones */
#define FILE_MAX (KEYS_MAX * LONG_KEY)
#define RETIRED_S 60

struct key_set {
    struct key_set *next; /* of the retired ones */
    time_t retired_at;
    unsigned n;
    struct tls_ticket_key keys[KEYS_MAX];
};

static const char *path; /* NULL: there is no file */
static _Atomic(struct key_set *) current;
static struct key_set *retired;

/* ---- what stands in it ---- */

/* As nginx and those who took its form from there have them: a name, then the key of the digest and
 * that of the cipher, 32 bytes each; or that of the cipher and that of the digest, 16 each. */
static void
key_take(struct tls_ticket_key *key, const unsigned char *at, size_t n)
{
    unsigned half = (unsigned)(n - TLS_TICKET_NAME) / 2;
    const unsigned char *first = at + TLS_TICKET_NAME, *second = first + half;

    key->size = half;
    memcpy(key->name, at, TLS_TICKET_NAME);
    memcpy(key->mac, n == LONG_KEY ? first : second, half);
    memcpy(key->cipher, n == LONG_KEY ? second : first, half);
}

unsigned
tls_ticket_keys_read(struct sl_span bytes, struct tls_ticket_key *keys, unsigned max)
{
    const unsigned char *at = (const unsigned char *)bytes.at;
    size_t one = bytes.n % LONG_KEY == 0 ? LONG_KEY : SHORT_KEY, n = bytes.n / one, i;

    if (n == 0 || n > max || bytes.n % one != 0 || (one == SHORT_KEY && n > SHORT_KEYS_MAX))
        return 0;
    for (i = 0; i < n; i++)
        key_take(&keys[i], at + i * one, one);
    return (unsigned)n;
}

static const char wanted[] = "one to eight keys of 80 bytes, or one to four of 48, one behind the other";

const char *
tls_ticket_file_parse(struct sl_cmd *cmd, const char *name, struct tls_tickets *conf)
{
    struct tls_ticket_key keys[KEYS_MAX];
    const char *err;
    unsigned n;

    sl_cmd_cure(cmd, "write on, off, or the file of the keys; \"openssl rand 80\" makes one");
    if ((err = sl_cmd_file(cmd, name, FILE_MAX, &conf->keys)) != NULL)
        return err;
    n = tls_ticket_keys_read(conf->keys, keys, KEYS_MAX);
    OPENSSL_cleanse(keys, sizeof keys);
    if (n == 0)
        return sl_cmd_error(cmd, "expected %s, found %lu bytes in %s", wanted,
                            (unsigned long)conf->keys.n, name);
    conf->file = sl_cmd_path(cmd, name);
    return NULL;
}

/* ---- the set in force ---- */

static void
retired_free(time_t before)
{
    struct key_set **at = &retired;

    while (*at != NULL) {
        struct key_set *old = *at;

        if (old->retired_at > before) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        OPENSSL_clear_free(old, sizeof *old);
    }
}

/* 0: these are no keys, or there is no memory; nothing has changed. */
static int
set_take(struct sl_span bytes)
{
    struct key_set *fresh = OPENSSL_zalloc(sizeof *fresh), *old;
    time_t now = time(NULL);

    if (fresh == NULL || (fresh->n = tls_ticket_keys_read(bytes, fresh->keys, KEYS_MAX)) == 0) {
        OPENSSL_free(fresh);
        return 0;
    }
    old = atomic_exchange_explicit(&current, fresh, memory_order_acq_rel);
    retired_free(now - RETIRED_S);
    if (old != NULL) {
        old->retired_at = now;
        old->next = retired;
        retired = old;
    }
    return 1;
}

const struct tls_ticket_key *
tls_ticket_file_key(const unsigned char *name, int *is_first)
{
    const struct key_set *set = atomic_load_explicit(&current, memory_order_acquire);
    unsigned i;

    for (i = 0; i < set->n; i++)
        if (name == NULL || memcmp(set->keys[i].name, name, TLS_TICKET_NAME) == 0) {
            *is_first = i == 0;
            return &set->keys[i];
        }
    return NULL;
}

/* ---- changes ---- */

/* All of a file, up to FILE_MAX and one byte more; -1 with errno. */
static ssize_t
file_read(int fd, unsigned char *to)
{
    ssize_t n = 0, k;

    do {
        k = read(fd, to + n, FILE_MAX + 1 - (size_t)n);
        n += k > 0 ? k : 0;
    } while (k > 0 || (k < 0 && errno == EINTR));
    return k == 0 ? n : -1;
}

static void
file_changed(int fd, void *unused)
{
    unsigned char bytes[FILE_MAX + 1];
    ssize_t n = file_read(fd, bytes);
    int why = errno;

    (void)unused;
    close(fd);
    if (n < 0)
        sl_log(SL_WARN, "TLS0065", "TLSTickets: %s changed, but cannot be read: %s; the keys from before "
               "are kept", path, strerror(why));
    else if (set_take((struct sl_span){(const char *)bytes, (size_t)n}))
        sl_log(SL_NOTICE, "TLS0066", "TLSTickets: the keys of %s are used, %u of them", path,
               atomic_load(&current)->n);
    else
        sl_log(SL_WARN, "TLS0067", "TLSTickets: %s changed, but holds %zd bytes, not %s; the keys from "
               "before are kept", path, n, wanted);
    OPENSSL_cleanse(bytes, sizeof bytes);
}

/* ---- from start to end ---- */

static apr_status_t
sets_free(void *unused)
{
    (void)unused;
    retired_free((time_t)INT64_MAX);
    OPENSSL_clear_free(atomic_exchange(&current, NULL), sizeof(struct key_set));
    path = NULL;
    return APR_SUCCESS;
}

/* What was accepted with the configuration stands in for a file that has been broken since. */
int
tls_ticket_file_open(apr_pool_t *pool, const struct tls_tickets *conf)
{
    int fd;

    if (!set_take(conf->keys))
        return -1;
    path = conf->file;
    apr_pool_cleanup_register(pool, NULL, sets_free, apr_pool_cleanup_null);
    fd = sl_file_open(path, file_changed, NULL);
    if (fd < 0)
        sl_log(SL_WARN, "TLS0068", "TLSTickets: %s: %s; changes will not be seen", path, strerror(errno));
    else
        file_changed(fd, NULL);
    return 0;
}
