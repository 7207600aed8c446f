/* Formats: what a line of the log is made of, compiled once. */
#ifndef LOG_FORMAT_H
#define LOG_FORMAT_H

#include "sluice/module.h"

#define LINE_MAX_BYTES 16000

struct format;

/* "common", "combined", "json"; NULL when it is none of them. */
struct format *format_builtin(apr_pool_t *pool, const char *name);
/* Text with httpd's %-letters and %{variables}.  NULL and a phrase in *err. */
struct format *format_text(apr_pool_t *pool, const char *text, const char **err);
/* A JSON object of name=VALUE pairs.  NULL, a phrase in *err and which pair in *bad. */
struct format *format_json(apr_pool_t *pool, char *const *pairs, int n, int *bad,
                           const char **err);

/* Writes the line with its newline: at most LINE_MAX_BYTES.  Returns its end. */
char *format_line(const struct format *f, struct sl_req *r, char *to);

/* Bytes of a peer as they may stand in a log: escapes quotes, backslashes and controls.
 * `end` is never passed. */
char *put_escaped(char *to, char *end, struct sl_span s);
/* A JSON string, valid whatever the bytes: what is no UTF-8 becomes U+FFFD. */
char *put_json_string(char *to, char *end, struct sl_span s);

#endif
