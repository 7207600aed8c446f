/* The control socket: a command is one line, "sluice-control 1 COMMAND [WORD]...", its answer
 * lines of text and at last "exit N".  The words of the master's own commands are NAME=VALUE; how
 * others are written is in control_words.h. */
#ifndef CONTROL_H
#define CONTROL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CONTROL_VERSION 1
#define CONTROL_NOBODY 3 /* the exit status when no server answers */
#define CONTROL_TAKEN_MAX 512 /* what the master reads of a line; its own commands are shorter */

/* ---- the master's side ---- */

/* A listening socket only its owner may use; -1 with errno.  What a dead server left at the
 * path is replaced, what a living one listens at is not (EADDRINUSE, with its process). */
int control_listen(const char *path, pid_t *taken_by);
/* The command in a client's line, with what follows; NULL: it speaks another version. */
const char *control_line_command(const char *line);
/* clients.c: a piece of the answer.  It waits for nothing: what does not go at once goes later.
 * client -1: nobody hears it. */
void control_print(int client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The end of an answer: closes, when all of it is sent. */
void control_exit(int *client, int status);
/* The value of NAME=VALUE in a command, from 0 to 1e9; otherwise: fallback. */
long control_number(const char *text, const char *name, long fallback);

/* ---- the operator's side ---- */

/* Sends a command and prints the answer; its status, CONTROL_NOBODY when nobody answers, 1 when the
 * answer is not complete within ms (0: however long it takes). */
int control_command(const char *path, const char *text, int64_t ms);

#endif
