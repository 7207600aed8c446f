/* A generation: one accepted or tried configuration and the process that serves it.  The
 * master alone knows them. */
#ifndef GENERATION_H
#define GENERATION_H

#include "channel.h"

#include <stdint.h>
#include <sys/types.h>

#define LISTENERS_MAX 256

enum generation_state {
    GENERATION_STARTING, /* reads, opens, is not accepted yet */
    GENERATION_SERVING,  /* there is at most one */
    GENERATION_STANDBY,  /* was serving and does so again unless the next is confirmed */
    GENERATION_DRAINING, /* finishes what it has */
};

/* A listening socket, shared by the generations that name it. */
struct kept_listener {
    int family, port, fd;
    unsigned n_users;
    char address[108];
};

struct listeners {
    struct kept_listener at[LISTENERS_MAX];
    int n;
};

struct generation {
    struct generation *next;
    unsigned id;
    unsigned place; /* in zones; the same for each of its processes */
    enum generation_state state;
    pid_t pid;     /* 0: it crashed and starts again */
    int channel;   /* -1: none */
    unsigned version; /* of the channel, as its program speaks it */
    int program;   /* the binary it was started from */
    int snapshot;  /* -1: none yet */
    int is_ready;  /* of this process: before, it is told nothing but what it asks for */
    int is_reopen_due; /* a rotation came meanwhile */
    int64_t started_at; /* ms, of this process */
    int64_t start_at;   /* ms: when the next process is due; 0: not */
    int64_t kill_at;    /* ms: when patience ends; 0: never */
    int64_t stop_ms;
    int backoff_ms;
    int generations_max;
    char pid_file[CHANNEL_TEXT], control[CHANNEL_TEXT], error_log[CHANNEL_TEXT];
    char state_dir[CHANNEL_TEXT]; /* "": none */
    int log_format; /* enum log_format */
    unsigned char uses[LISTENERS_MAX]; /* by index */
    char *files[FILES_MAX];            /* kept open for writing, by number */
    struct kept_module *modules;       /* modules.c; a process that replaces a crashed one has them */
};

const char *generation_state_name(enum generation_state state);

/* Opens the program anew, so that what was installed since is what runs.  NULL with errno. */
struct generation *generation_new(const char *program, unsigned id, unsigned place);
/* Its process is gone: gives everything back, clears the memory. */
void generation_free(struct generation **g, struct listeners *ls);
/* Starts the process: from the snapshot if there is one, else from the files.  0 or -1. */
int generation_start(struct generation *g, char **argv, int n_argv);
void generation_close_channel(struct generation *g);
/* All that is said to a worker goes by this: m in the version its program speaks.  0 or -1. */
int generation_send(const struct generation *g, struct message *m, int fd);
/* The same without waiting for a worker that does not keep up. */
int generation_try(const struct generation *g, struct message *m, int fd);
int generation_say(const struct generation *g, enum message_kind kind, int64_t number, int fd);
/* Idle connections of `from` go to `to` (NULL: nowhere); it exits within ms, -1: in its own
 * time.  One that only starts hears no more than the end of its channel: it has nothing to finish. */
void generation_drain(struct generation *from, const struct generation *to, int64_t ms,
                      struct listeners *ls);
/* Every registered file is opened again and sent.  How many could not be. */
int generation_reopen(struct generation *g);
void generation_keep_file(struct generation *g, const struct message *m);

/* A file a module was loaded from, open: whatever is installed at its path later, the next process
 * of this generation loads this one. */
struct kept_module {
    struct kept_module *next;
    char *file;
    int fd;
};

/* MSG_MODULE; takes fd over.  0, or -1 without memory. */
int modules_keep(struct generation *g, const char *file, int fd);
/* To a process that starts: all of them.  0 or -1. */
int modules_give(const struct generation *g);
/* None is needed any more: g drains, and is not restarted. */
void modules_release(struct generation *g);

/* Answers MSG_LISTEN. */
void listeners_answer(struct listeners *ls, struct generation *g, const struct message *asked);
/* g needs none of them any more. */
void listeners_release(struct listeners *ls, struct generation *g);

#endif
