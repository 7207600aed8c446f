/* What the operator said at run time, as StateDir has it, beside the lines it was said of. */
#ifndef CONFIG_OVERRIDES_H
#define CONFIG_OVERRIDES_H

#include "config/config.h"
#include "sluice/override.h"

/* For which line one stands. */
struct claim {
    const char *place; /* NULL: no module has found it one */
    int holds;
};

struct overrides {
    apr_pool_t *pool;        /* of what is in it, for it changes while the server runs */
    apr_array_header_t *all; /* of struct sl_override; one that is forgotten has no owner: "" */
    struct claim *claims;    /* as many as were read */
    const char *trouble;     /* why the file was not read; NULL: nothing is wrong with it */
};

/* Read when it is first asked for; of a file that is not as it should be none, and trouble says
 * why. */
struct overrides *config_overrides(struct config *c);
/* Reads it again, from a file that is open; -1: there is none.  One that cannot be read changes
 * nothing. */
void overrides_renew(struct overrides *o, int fd);
/* It is on the disk; with says NULL it is not any more.  The strings are copied. */
void overrides_put(struct overrides *o, const struct sl_override *put);
/* Its name, its sentence and an end of line, if there is trouble. */
void config_print_trouble(struct config *c, FILE *to);

#endif
