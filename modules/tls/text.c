/* Files read whole: certificates, keys, lists of what was revoked, OCSP responses. */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FILE_MAX (1 << 20)

void
tls_text_free(struct tls_text *t)
{
    if (t->at != NULL)
        OPENSSL_clear_free(t->at, t->n + 1);
    *t = (struct tls_text){NULL, 0};
}

int
tls_text_read(int fd, struct tls_text *t)
{
    ssize_t k = 0;

    *t = (struct tls_text){OPENSSL_malloc(FILE_MAX + 1), 0};
    while (t->at != NULL && t->n < FILE_MAX &&
           ((k = read(fd, t->at + t->n, FILE_MAX - t->n)) > 0 || (k < 0 && errno == EINTR)))
        t->n += k > 0 ? (size_t)k : 0;
    if (t->n == FILE_MAX)
        errno = EFBIG;
    if (t->at == NULL || k != 0) {
        tls_text_free(t);
        return -1;
    }
    t->at = OPENSSL_clear_realloc(t->at, FILE_MAX + 1, t->n + 1);
    t->at[t->n] = '\0';
    return 0;
}

int
tls_text_open(const char *path, struct tls_text *t)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = fd >= 0 ? tls_text_read(fd, t) : -1, why = errno;

    if (fd >= 0)
        close(fd);
    errno = why;
    return rc;
}

int
tls_text_is(const struct tls_text *t, const struct tls_text *other)
{
    return t->at != NULL && other->at != NULL && t->n == other->n &&
           memcmp(t->at, other->at, t->n) == 0;
}
