/* The core as mod_tls's certificates see it: the last line in the log is kept by its id, and what the
 * parsers of directives ask is not called. */
#ifndef TLS_DOUBLES_H
#define TLS_DOUBLES_H

#include "panic_double.h"

#include "sluice/conf.h"
#include "sluice/log.h"

static char said[32];

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    (void)level;
    (void)fmt;
    snprintf(said, sizeof said, "%s", id);
}

const char *sl_cmd_arg(const struct sl_cmd *cmd, int i) { (void)cmd; (void)i; return NULL; }
int sl_cmd_argc(const struct sl_cmd *cmd) { (void)cmd; return 0; }
apr_pool_t *sl_cmd_pool(const struct sl_cmd *cmd) { (void)cmd; return NULL; }
const char *sl_cmd_path(const struct sl_cmd *cmd, const char *path) { (void)cmd; return path; }
const char *sl_cmd_place(const struct sl_cmd *cmd) { (void)cmd; return NULL; }

#endif
