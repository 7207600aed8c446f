/* See channel.h. */
#include "channel.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

void
message_make(struct message *m, enum message_kind kind, const char *text)
{
    memset(m, 0, sizeof *m);
    m->version = CHANNEL_VERSION;
    m->kind = kind;
    if (text != NULL)
        snprintf(m->text, sizeof m->text, "%s", text);
    m->n_text = (uint32_t)strlen(m->text);
}

static int
message_send(int channel, const struct message *m, int fd, int flags)
{
    struct iovec iov = {(void *)(uintptr_t)m, sizeof *m};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union control control;
    struct cmsghdr *c;
    ssize_t k;

    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    do
        k = sendmsg(channel, &msg, MSG_NOSIGNAL | flags);
    while (k < 0 && errno == EINTR);
    return k == (ssize_t)sizeof *m ? 0 : -1;
}

int
channel_send(int channel, const struct message *m, int fd)
{
    return message_send(channel, m, fd, 0);
}

int
channel_try(int channel, const struct message *m, int fd)
{
    return message_send(channel, m, fd, MSG_DONTWAIT);
}

static int
message_is_sane(const struct message *m, ssize_t n)
{
    return n == (ssize_t)sizeof *m && m->version >= CHANNEL_OLDEST &&
           m->version <= CHANNEL_VERSION &&
           m->n_text < sizeof m->text && m->text[m->n_text] == '\0';
}

int
channel_receive(int channel, struct message *m, int *fd)
{
    struct iovec iov = {m, sizeof *m};
    union control control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c;
    ssize_t k;

    *fd = -1;
    do
        k = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC);
    while (k < 0 && errno == EINTR);
    if (k <= 0)
        return (int)k;
    if (msg.msg_flags & MSG_CTRUNC)
        *fd = CHANNEL_FD_LOST;
    c = CMSG_FIRSTHDR(&msg);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof *fd))
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    if (message_is_sane(m, k)) {
        if (*fd == CHANNEL_FD_LOST && m->n_text == 0)
            m->n_text = (uint32_t)snprintf(m->text, sizeof m->text, "no descriptor is left for it");
        return 1;
    }
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = EPROTO;
    return -1;
}

int
channel_ask(int channel, struct message *m, int *fd)
{
    int rc = channel_send(channel, m, -1) == 0 ? channel_receive(channel, m, fd) : -1;

    if (rc == 0 || (rc < 0 && (errno == EPIPE || errno == ECONNRESET)))
        _exit(0);
    return rc == 1 ? 0 : -1;
}

int
channel_say(int channel, enum message_kind kind, const char *text, int fd)
{
    struct message m;

    message_make(&m, kind, text);
    return channel_send(channel, &m, fd);
}
