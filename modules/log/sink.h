/* Where log lines go: a file (or stdout, stderr, syslog), written in whole lines from a
 * buffer of each thread. */
#ifndef LOG_SINK_H
#define LOG_SINK_H

#include "sluice/module.h"

struct sink;

/* Registers the counter of lines that were lost.  0 or -1. */
int sinks_init(void);
/* One per distinct place. */
struct sink *sink_make(apr_pool_t *pool, const char *where, const char *place, int64_t buffer,
                       int64_t flush_ms);
const char *sink_where(const struct sink *s);
/* Of the line that named it first. */
const char *sink_place(const struct sink *s);
/* Opens nothing: 0, or -1 with errno when its folder is not there. */
int sink_check(const struct sink *s);
/* 0, or -1 with errno. */
int sink_open(struct sink *s, unsigned n_threads);
/* A thread's buffer, room for at least n bytes; what is written there counts after
 * sink_wrote(). */
char *sink_room(struct sink *s, struct sl_loop *loop, size_t n);
void sink_wrote(struct sink *s, struct sl_loop *loop, char *end);
/* All threads' buffers; when no thread writes any more. */
void sink_close(struct sink *s, struct sl_worker *w);

#endif
