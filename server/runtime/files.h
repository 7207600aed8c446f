/* Files a worker keeps open for writing.  It opened them while it was root; the master opens
 * them again when they are rotated and sends the descriptor, which takes the old one's number:
 * whoever writes there notices nothing. */
#ifndef RUNTIME_FILES_H
#define RUNTIME_FILES_H

/* Registers an open descriptor of the process's error log (path NULL: it is no file). */
void files_keep_error_log(const char *path, int fd);
/* Tells the master all of them; before MSG_READY.  0 or -1. */
int files_announce(int channel);
/* A fresh descriptor for a number; closes fd. */
void files_replace(unsigned number, int fd);

#endif
