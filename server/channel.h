/* Messages between master and worker: one datagram each, versioned, with descriptors beside
 * the bytes where a message carries one. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <stdint.h>
#include <sys/types.h>

#define CHANNEL_VERSION 1
#define CHANNEL_TEXT 1024
#define CHANNEL_FDS 1

enum message_kind {
    MSG_HELLO,    /* worker: text is its version */
    MSG_LISTEN,   /* worker: open this; text is the address as written */
    MSG_LISTENER, /* master: the descriptor, or text why there is none */
    MSG_SETTINGS, /* worker: number is StopTimeout, text the pid file */
    MSG_READY,    /* worker: it serves */
    MSG_DRAIN,    /* master: take nothing new, finish, exit; number is how long, ms */
    MSG_STOP,     /* master: close all and exit */
};

struct message {
    uint32_t version;
    uint32_t kind;
    int64_t number;
    int32_t family, port, backlog;
    uint32_t n_text;
    char text[CHANNEL_TEXT]; /* NUL-terminated */
};

/* fd -1: none goes along.  0 or -1 with errno. */
int channel_send(int channel, const struct message *m, int fd);
/* 1: a message, *fd its descriptor or -1, the caller's; 0: the other side is gone; -1: errno,
 * EPROTO when it is malformed or of another version. */
int channel_receive(int channel, struct message *m, int *fd);
void message_make(struct message *m, enum message_kind kind, const char *text);

#endif
