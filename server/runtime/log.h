/* The error log of the process. */
#ifndef RUNTIME_LOG_H
#define RUNTIME_LOG_H

#include "sluice/log.h"

enum log_format { LOG_AS_TEXT, LOG_AS_JSON };

/* Which messages are wanted: `level` is for modules that are not named. */
struct log_level_of {
    const char *module; /* "core": the server's own */
    enum sl_level level;
};
struct log_levels {
    enum sl_level level, most; /* most: of any module */
    unsigned n;
    const struct log_level_of *of;
};
extern const struct log_levels log_levels_default;

int log_levels_want(const struct log_levels *levels, enum sl_level level, const char *module);
/* The same for the module whose message this is: its number begins with the module's name, in
 * capitals and without underscores; the core's with SL. */
int log_levels_want_id(const struct log_levels *levels, enum sl_level level, const char *id);

/* "stderr", "syslog" or a file, appended to.  0 or an errno; on failure the log stays. */
int log_open(const char *where, enum log_format format, const struct log_levels *levels);
/* Hosts may want more than the rest: from now on sl_log_wants() says yes up to this level. */
void log_raise(enum sl_level most);
void log_close(void);
/* Where lines go; -1: to syslog. */
int log_descriptor(void);

/* What request a line is about; what has no bytes is left out. */
struct log_about {
    struct sl_span request, client, host, method, path;
};
/* Another place than the process's log.  Under fd a rotation puts the new file. */
struct log_sink {
    int fd; /* -1: syslog */
    enum log_format format;
};
void log_write_to(const struct log_sink *sink, enum sl_level level, const char *id,
                  const struct log_about *about, struct sl_span text);
/* Syslog knows us from now on. */
void log_open_syslog(void);
/* One line, wanted or not; about NULL: no request. */
void log_write(enum sl_level level, const char *id, const struct log_about *about,
               struct sl_span text);
/* The same from a signal handler, to stderr where the log is syslog's. */
void log_write_last(enum sl_level level, const char *id, const struct log_about *about,
                    struct sl_span text);

#endif
