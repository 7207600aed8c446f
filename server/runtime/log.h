/* The error log of the process. */
#ifndef RUNTIME_LOG_H
#define RUNTIME_LOG_H

#include "sluice/log.h"

/* "stderr", "syslog" or a file, appended to.  0 or an errno; on failure the log stays. */
int log_open(const char *where, enum sl_level level);
void log_close(void);
/* Where lines go; -1: to syslog. */
int log_descriptor(void);

#endif
