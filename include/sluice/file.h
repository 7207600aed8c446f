/* Files that are read again whenever they change: certificates, passwords, lists. */
#ifndef SLUICE_FILE_H
#define SLUICE_FILE_H

#include "sluice/base.h"

/* The file has new contents: fd leads to their beginning, the callee's to close.  On thread 0's
 * loop; others learn of it by sl_loop_post().  A file may be half written in spite of all care:
 * what does not parse is left alone, and the old contents stay in use until the next call. */
typedef void sl_file_changed_f(int fd, void *ctx);

/* Opens for reading a file that is read again whenever it changes, by rename or in place, also
 * when the worker has no rights to it any more.  In post_config and open_logs only.  The
 * descriptor of the present contents, the caller's to close, or -1 with errno (EINVAL: it is no
 * regular file).  path is copied.  A file that vanishes or cannot be opened is told once in the
 * log; nothing is called until it is there again, with other contents. */
int sl_file_open(const char *path, sl_file_changed_f *changed, void *ctx);

#endif
