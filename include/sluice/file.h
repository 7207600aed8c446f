/* Files a worker needs again when they change, though it has no rights to them any more. */
#ifndef SLUICE_FILE_H
#define SLUICE_FILE_H

#include "sluice/base.h"

/* Opens a file for reading, now; while the configuration is put to use (post_config) only.
 * changed(): called on thread 0 whenever the file changed; fd reads the new one from its
 * beginning and is the callee's to close.  path and ctx live as long as the worker.  The
 * descriptor, the caller's to close, or -1 with errno. */
int sl_file_open(const char *path, void (*changed)(int fd, void *ctx), void *ctx);

#endif
