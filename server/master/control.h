/* The control socket: a command is one line, "sluice-control 1 COMMAND [NAME=VALUE]...", its
 * answer lines of text and at last "exit N". */
#ifndef CONTROL_H
#define CONTROL_H

#include <stddef.h>

#define CONTROL_VERSION 1

/* ---- the master's side ---- */

/* A listening socket only its owner may use; -1 with errno.  What a dead server left at the
 * path is replaced, what a living one listens at is not (EADDRINUSE). */
int control_listen(const char *path);
/* One command, read within a second; the client's descriptor, or -1.  text is what stands
 * behind the version; "" when the client speaks another one (it has been told). */
int control_accept(int listener, char *text, size_t n);
void control_print(int client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The end of an answer: closes. */
void control_exit(int *client, int status);
/* The value of NAME=VALUE in a command, from 0 to 1e9; otherwise: fallback. */
long control_number(const char *text, const char *name, long fallback);

/* ---- the operator's side ---- */

/* Sends a command and prints the answer; its status, 3 when nobody answers. */
int control_command(const char *path, const char *text);

#endif
