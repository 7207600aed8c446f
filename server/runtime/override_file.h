/* The file "overrides" in StateDir: a line that names its format, then a line for each override.
 *
 *   server "web/a" says "drain weight=5" of "10.0.0.1:80 weight=1" at 2026-11-25T19:16:39Z
 *
 * Between quotes, control bytes, quotes and "%" are written %XX.  Lines that begin with # are
 * comments.  Whatever is not so makes the whole file one that is not read. */
#ifndef RUNTIME_OVERRIDE_FILE_H
#define RUNTIME_OVERRIDE_FILE_H

#include "sluice/override.h"

#include <apr_tables.h>

#include <stdio.h>

#define OVERRIDES_FORMAT "sluice-overrides 1"
#define OVERRIDES_MOST 16384

/* Pure.  The overrides in a text that may be written into, as an array of struct sl_override; NULL,
 * and *why. */
apr_array_header_t *overrides_parse(apr_pool_t *pool, char *text, const char **why);
/* The file in a folder; -1 with errno. */
int overrides_open(const char *folder);
/* Of an open file, which stays open: NULL, and *why. */
apr_array_header_t *overrides_read_file(apr_pool_t *pool, int fd, const char **why);
/* Of the file in a folder; one that is not there has none.  NULL, and *why. */
apr_array_header_t *overrides_read(apr_pool_t *pool, const char *folder, const char **why);
/* 2026-11-25T19:16:39Z */
const char *override_time(apr_pool_t *pool, int64_t at);
/* Puts the file in the place of the one before, whole and on the disk, or leaves that.  NULL, or
 * why. */
const char *overrides_write(apr_pool_t *pool, const char *folder, const apr_array_header_t *all);

#endif
