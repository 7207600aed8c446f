/* A transport of a third party: letters are turned by half the alphabet, other
 * bytes pass as they are.  Listen PORT rot13.  It keeps state, holds bytes back, and can never be spliced:
 * what TLS needs of the seam, without TLS.  Listen PORT rot13hello begins with a handshake: the
 * client names a protocol in a line, the server says in a line whether it is one of its own. */
#include "sluice/module.h"

#include <stdio.h>
#include <stdlib.h>

struct rot13 {
    char held[64]; /* read from the socket, not handed out: pending() */
    size_t n_held;
    int is_server;
    int has_spoken;
    char protocol[16]; /* agreed on */
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
    struct rot13 *t = calloc(1, sizeof *t);

    *sl_conn_transport_data(c) = t;
    if (t == NULL)
        return -1;
    t->is_server = server;
    return 0;
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
    .name = "rot13",
    .open = rot13_open,
    .read = rot13_read,
    .writev = rot13_writev,
    .pending = rot13_pending,
    .can_splice = rot13_can_splice,
    .shutdown = rot13_shutdown,
    .close = rot13_close,
};

static int
say(struct sl_conn *c, const char *word)
{
    char line[32];
    struct iovec one = {line, (size_t)snprintf(line, sizeof line, "%s\n", word)};

    return sl_conn_raw_writev(c, &one, 1) == (ssize_t)one.iov_len;
}

/* A line of the other side, byte for byte: what follows is not ours.  1, 0, -1. */
static int
hear(struct sl_conn *c, struct rot13 *t)
{
    char byte;
    ssize_t k;

    while ((k = sl_conn_raw_read(c, &byte, 1)) == 1) {
        if (byte == '\n')
            return 1;
        t->held[t->n_held++] = byte;
        if (t->n_held == sizeof t->protocol)
            return -1;
    }
    return k == SL_IO_AGAIN ? 0 : -1;
}

static int
hello_handshake(struct sl_conn *c)
{
    struct rot13 *t = *sl_conn_transport_data(c);
    const char *name;
    unsigned i;
    int rc;

    if (!t->is_server && !t->has_spoken)
        t->has_spoken = say(c, "http/1.1");
    if ((rc = hear(c, t)) != 1)
        return rc;
    memcpy(t->protocol, t->held, t->n_held);
    t->n_held = 0;
    if (!t->is_server)
        return strcmp(t->protocol, "welcome") == 0 ? 1 : -1;
    for (i = 0; (name = sl_conn_protocol_name(c, i)) != NULL; i++)
        if (strcmp(name, t->protocol) == 0)
            return say(c, "welcome") ? 1 : -1;
    say(c, "unknown");
    return -1;
}

static const char *
hello_alpn(struct sl_conn *c)
{
    return ((struct rot13 *)*sl_conn_transport_data(c))->protocol;
}

static const struct sl_transport hello = {
    .name = "rot13hello",
    .open = rot13_open,
    .read = rot13_read,
    .writev = rot13_writev,
    .pending = rot13_pending,
    .can_splice = rot13_can_splice,
    .shutdown = rot13_shutdown,
    .close = rot13_close,
    .alpn = hello_alpn,
    .handshake = hello_handshake,
    .is_secure = 1,
};

static int
rot13_init(const struct sl_module *self)
{
    (void)self;
    return sl_provider_register("transport", "rot13", &rot13) |
           sl_provider_register("transport", "rot13hello", &hello);
}

SL_MODULE(rot13) = {.name = "rot13", .init = rot13_init};
