/* The master's state, and who in master/ does what with it.  One thread has it all: nothing
 * here is locked, nothing waits.  The generations, by themselves, are in generation.h. */
#ifndef MASTER_STATE_H
#define MASTER_STATE_H

#include "master/generation.h"
#include "master/zones.h"
#include "runtime/watch.h"

#include <limits.h>

/* The one reload that is under way.  The generations are the list's. */
struct reload {
    struct generation *g;      /* starts, to be accepted or refused; NULL: none */
    int client;                /* who waits for its end, closed with the answer; -1: nobody */
    int64_t deadline;          /* ms */
    int64_t confirm_ms;        /* 0: accepted at once */
    struct generation *before; /* g is accepted; this one still has to stop accepting */
    int is_upgrade;            /* the master was replaced before */
};

/* What the operator finds in the file system.  The descriptor of a pid file and of StateDir holds its
 * lock, that of the control socket listens. */
enum outside_kind { OUTSIDE_CONTROL, OUTSIDE_PID_FILE, OUTSIDE_STATE_DIR, OUTSIDE_KINDS };
struct outside {
    int fd; /* -1: there is none */
    char path[CHANNEL_TEXT];
};

#define STOPPERS_MAX 16
/* The one upgrade that is under way: until the program was tested. */
struct upgrade {
    pid_t pid;        /* of the test; 0: there is none */
    int client;       /* who waits for its end; -1: nobody */
    int program;      /* what is tested, and executed then; -1: none */
    int answer;       /* the memfd it writes to; -1: none */
    int64_t deadline; /* ms; 0: none */
    char command[256];
};

struct records_out;

struct master {
    char **argv; /* main()'s, for the workers */
    int n_argv;
    const char *file; /* the configuration; NULL: there is none but the options */
    char program[PATH_MAX];
    struct generation *generations; /* newest first; the owner of each */
    struct generation *serving;     /* NULL: none has been accepted yet */
    struct generation *standby;     /* waits for confirm_at; NULL: none does */
    int64_t confirm_at;             /* ms; 0: nothing is to be confirmed */
    unsigned last_id;
    struct listeners listeners;
    struct zones zones;
    struct watch files; /* read again by workers: files.h */
    struct reload reload;
    struct upgrade upgrade;
    int signals;
    struct outside placed[OUTSIDE_KINDS]; /* those in use */
    struct outside next[OUTSIDE_KINDS];   /* those of the generation that starts, until it is accepted */
    int stoppers[STOPPERS_MAX], n_stoppers; /* clients that wait for the end */
    int starter; /* leads to the process that waits for the daemon; -1: none */
    int is_stopping;
    int status; /* the exit status */
};

/* ---- master.c: the generations there are ---- */

/* A new one, in the list, not started; NULL with errno. */
struct generation *generations_add(struct master *ma);
/* g has no process (any more): out of the list and freed; it neither serves nor stands by. */
void generations_remove(struct master *ma, struct generation *g);
void generations_print(const struct master *ma, int client);

/* ---- commands.c: what the operator says ---- */

/* Commands that have come are done, begun or passed on. */
void commands_run(struct master *ma);
/* The name of the i-th command behind "ctl", NULL past the last. */
const char *commands_name(unsigned i);
/* A second time: at once.  is_patient: in their own time. */
void commands_stop(struct master *ma, int is_patient);
/* Takes client over (-1: nobody) and answers it. */
void commands_reopen(struct master *ma, int client);

/* ---- reload.c ---- */

/* Why no reload can begin now; NULL: nothing is against it. */
const char *reload_obstacle(const struct master *ma);
/* "reload [confirm=MS] [timeout=MS]".  Takes client over (-1: nobody waits), answers it now or
 * when the reload ends. */
void reload_begin(struct master *ma, int client, const char *command);
/* Ends the one that begins: why is told and logged, and its generation ends. */
void reload_refuse(struct master *ma, const char *why);
/* g, which the reload started, is ready: it serves, and the one before is told to drain or to
 * stand by. */
void reload_accept(struct master *ma, struct generation *g);
/* The one before accepts no more, so every new client meets the new generation. */
void reload_end(struct master *ma);
/* The operator is content: there is no return.  Takes client over and answers it. */
void reload_confirm(struct master *ma, int client);
/* Who drains hands over to who serves now, not to who served when it began.  One that waits
 * for a new process after a crash needs none any more, and is removed; one that starts is told
 * when it is ready. */
void reload_redirect(struct master *ma);
/* The server stops: nothing of it, and no return, is waited for any more. */
void reload_abandon(struct master *ma);
/* Whatever of it is due by now: refused, ended or taken back. */
void reload_times(struct master *ma, int64_t now);

/* ---- upgrade.c, and state.c: all of this for the master that comes next ---- */

/* "upgrade [confirm=MS] [timeout=MS]".  Takes client over (-1: nobody waits), answers it when it is
 * refused; else the next master answers it, with the reload that follows. */
void upgrade_begin(struct master *ma, int client, const char *command);
/* A process that is no worker has ended: the test, perhaps.  May not return. */
void upgrade_ended(struct master *ma, pid_t pid, int status);
void upgrade_times(struct master *ma, int64_t now);
/* 0, or -1 with errno. */
int state_write(const struct master *ma, struct records_out *out);
/* Into a master that is empty but for its watch of files.  is_test: the descriptors are not there.
 * NULL, or what is wrong. */
const char *state_read(struct master *ma, int fd, int is_test);

/* ---- operator.c ---- */

/* Before anything else, for a daemon: forks.  -1: this is the master, with ma->starter set; else
 * this is the process that was started, has waited for what becomes of the master and has its
 * exit status. */
int operator_split(struct master *ma);
/* g, which starts, wants this path: made beside the one in use and answered with MSG_PLACED, which
 * says why when it cannot be. */
void operator_prepare(struct master *ma, const struct generation *g, enum outside_kind kind,
                      const char *path);
/* What was prepared goes: its generation is refused. */
void operator_forget(struct master *ma);
/* The error log, and the pid file and the control socket as they were prepared for g, in the place
 * of those before; what fails is logged and stays as it was. */
void operator_apply(struct master *ma, const struct generation *g);
/* Again, after a rotation. */
void operator_log_open(const struct generation *g);
/* Clients are served: who started a daemon may go, and its streams go with it. */
void operator_ready(struct master *ma);
/* Nothing is left behind; who still waits for the daemon learns that it failed, who asked for a
 * stop that it has come. */
void operator_end(struct master *ma);

#endif
