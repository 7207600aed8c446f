/* Files that are written to at their end: logs. */
#ifndef RUNTIME_APPEND_H
#define RUNTIME_APPEND_H

/* Opens path, and makes it if it is not there (0640).  As root a link is followed only when it is
 * root's: whoever may write to the folder of a log could lead root to any file with it.  A
 * descriptor, or -1 with errno; ELOOP: such a link. */
int append_open(const char *path);

#endif
