/* Messages between master and workers: one datagram each, versioned, with a descriptor beside
 * the bytes where a message carries one. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <stdint.h>
#include <sys/types.h>

#define CHANNEL_VERSION 7
#define CHANNEL_OLDEST 4 /* of workers that a master of this version gets on with */
#define CHANNEL_COMMANDS 5 /* since this one workers know MSG_COMMAND */
#define CHANNEL_STATE 7    /* since this one they wait for an answer to MSG_STATE_DIR */
#define CHANNEL_TEXT 1024
#define FILES_MAX 1024 /* the numbers of MSG_FILE are below */

/* Workers outlive an upgrade of the master: kinds keep their numbers, new ones come last. */
enum message_kind {
    /* worker, while it starts */
    MSG_LISTEN,   /* open this; text is the address as written */
    MSG_SETTINGS, /* number is StopTimeout in ms, port GenerationsMax, text PidFile: make it,
                     MSG_PLACED answers */
    MSG_CONTROL,  /* text is ControlSocket, answered in the same way */
    MSG_LOG,      /* text is ErrorLog, where the master writes, too, number its format */
    MSG_FILE,     /* text is a file kept open for writing, number its name between both sides;
                     the master answers a rotation with the same number and a descriptor */
    MSG_SNAPSHOT, /* descriptor: the configuration as read; the master gives it back to the
                     process that replaces a crashed one */
    MSG_ZONE,     /* lend me the zone text: port its layout, number the bytes of its shared part,
                     backlog the pages of a slot, 0: none */
    MSG_REFUSED,  /* descriptor: what is wrong, as text; the worker exits */
    MSG_READY,    /* it serves */
    /* worker, later */
    MSG_QUIET, /* after MSG_DRAIN or MSG_STANDBY: it accepts no more */
    /* master */
    MSG_LISTENER, /* the descriptor, or text why there is none */
    MSG_PLACED,   /* text is why it cannot be placed; none: it is */
    MSG_FRESH,    /* read the configuration from its files: there is no snapshot; here, as in
                     MSG_SNAPSHOT from the master, number is the process's place in zones */
    MSG_ZONE_LENT, /* the descriptor and, as number, whether it is fresh, or text why not */
    MSG_DRAIN,    /* take nothing new, finish, exit; number is how long, ms, -1 for as long as
                     it takes; descriptor: idle connections go there, MSG_CONN each */
    MSG_STANDBY,  /* accept nothing, be ready to go on */
    MSG_RESUME,   /* accept again */
    MSG_TAKE,     /* descriptor: connections come from here */
    MSG_STOP,     /* close all and exit */
    /* worker to worker */
    MSG_CONN, /* descriptor: an idle connection; family, port and text of its listener */
    /* files that are read again: worker, while it starts, and the master */
    MSG_WATCH,   /* text is a file read again when it changes, port its name between both sides,
                    number the stamp of what the worker has */
    MSG_CHANGED, /* number is that name, the descriptor leads to the present contents */
    MSG_MODULE,  /* descriptor: a module as it was loaded, text its file; the master gives it back,
                    before MSG_SNAPSHOT, to the process that replaces a crashed one */
    MSG_COMMAND, /* master: descriptor: a client of the control socket, text what was read of its
                    line, from the command on */
    MSG_STATE_DIR, /* worker, while it starts: text is StateDir, MSG_PLACED answers */
    MSG_KEEP,  /* worker, later: text is what was said at run time, to be kept there: "OWNER KEY SAYS
                  OF", or without the last two to be forgotten; number is the worker's for it */
    MSG_KEPT,  /* master: the answer, with its number; text is why not, none: it is on the disk */
    MSG_STATE, /* worker, while it starts: what is kept there now?  The same is the answer, with the
                  file as its descriptor; number is whether there is none */
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
/* The same, but where the other side does not keep up: -1 with EAGAIN, at once. */
int channel_try(int channel, const struct message *m, int fd);
#define CHANNEL_FD_LOST (-2) /* there was one, but this process had no room for it */
/* 1: a message, *fd its descriptor, the caller's, -1, or CHANNEL_FD_LOST, which the text then says
 * if it would be empty; 0: the other side is gone; -1: errno, EPROTO when it is malformed or of a
 * version out of reach. */
int channel_receive(int channel, struct message *m, int *fd);
/* A worker that starts asks the master; *m becomes the answer.  0, or -1.  Where nobody listens any
 * more the server stops: nothing is lost yet, and the process ends. */
int channel_ask(int channel, struct message *m, int *fd);
void message_make(struct message *m, enum message_kind kind, const char *text);
/* A message without numbers. */
int channel_say(int channel, enum message_kind kind, const char *text, int fd);

#endif
