/* A configuration as it was read, in a memfd: the lines after Include, Define and ${NAME},
 * with their places.  Who starts from it depends on no file that may have changed since. */
#ifndef CONFIG_SNAPSHOT_H
#define CONFIG_SNAPSHOT_H

#include "config/lexer.h"

/* A new memfd, the caller's, sealed: what was accepted stays as it is whoever has it, for the next
 * worker begins with all rights and with this.  -1 with errno. */
int snapshot_write(const apr_array_header_t *lines);
/* Whether it can be changed no more. */
int snapshot_is_sealed(int fd);
/* The lines of a memfd; NULL when it is malformed. */
apr_array_header_t *snapshot_read(apr_pool_t *pool, int fd);
/* What one holds and the other does not, a line each, "+ place: text" or "- place: text",
 * in the order of the files.  Text in the pool; "" when they are equal. */
const char *snapshot_difference(apr_pool_t *pool, int before, int after);

#endif
