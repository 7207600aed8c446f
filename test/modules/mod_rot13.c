/* A transport of a third party: letters are turned by half the alphabet, other
 * bytes pass as they are.  Listen PORT rot13.  It keeps state, holds bytes back, and can never be spliced:
 * what TLS needs of the seam, without TLS. */
#include "sluice/module.h"

#include <stdlib.h>

struct rot13 {
    char held[64]; /* read from the socket, not handed out: pending() */
    size_t n_held;
};

static void
turn(char *at, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (at[i] >= 'a' && at[i] <= 'z')
            at[i] = (char)('a' + (at[i] - 'a' + 13) % 26);
        else if (at[i] >= 'A' && at[i] <= 'Z')
            at[i] = (char)('A' + (at[i] - 'A' + 13) % 26);
    }
}

static int
rot13_open(struct sl_conn *c, int server)
{
    (void)server;
    *sl_conn_transport_data(c) = calloc(1, sizeof(struct rot13));
    return *sl_conn_transport_data(c) != NULL ? 0 : -1;
}

static ssize_t
rot13_read(struct sl_conn *c, void *to, size_t n)
{
    struct rot13 *t = *sl_conn_transport_data(c);
    ssize_t k;

    if (t->n_held == 0) {
        k = sl_conn_raw_read(c, t->held, sizeof t->held);
        if (k <= 0)
            return k;
        turn(t->held, (size_t)k);
        t->n_held = (size_t)k;
    }
    n = n < t->n_held ? n : t->n_held;
    memcpy(to, t->held, n);
    t->n_held -= n;
    memmove(t->held, t->held + n, t->n_held);
    return (ssize_t)n;
}

static ssize_t
rot13_writev(struct sl_conn *c, const struct iovec *iov, int n)
{
    char copy[1000];
    struct iovec one = {copy, 0};
    size_t k;
    int i;

    for (i = 0; i < n && one.iov_len < sizeof copy; i++) {
        k = sizeof copy - one.iov_len;
        k = iov[i].iov_len < k ? iov[i].iov_len : k;
        memcpy(copy + one.iov_len, iov[i].iov_base, k);
        one.iov_len += k;
    }
    turn(copy, one.iov_len);
    return sl_conn_raw_writev(c, &one, 1);
}

static int
rot13_pending(struct sl_conn *c)
{
    return ((struct rot13 *)*sl_conn_transport_data(c))->n_held > 0;
}

static int
rot13_can_splice(struct sl_conn *c)
{
    (void)c;
    return 0;
}

static void
rot13_shutdown(struct sl_conn *c)
{
    shutdown(sl_conn_fd(c), SHUT_WR);
}

static void
rot13_close(struct sl_conn *c)
{
    free(*sl_conn_transport_data(c));
    *sl_conn_transport_data(c) = NULL;
}

static const struct sl_transport rot13 = {
    "rot13", rot13_open, rot13_read, rot13_writev, rot13_pending, rot13_can_splice, rot13_shutdown,
    rot13_close, NULL,
};

static int
rot13_init(const struct sl_module *self)
{
    (void)self;
    return sl_provider_register("transport", "rot13", &rot13);
}

SL_MODULE(rot13) = {.name = "rot13", .init = rot13_init};
