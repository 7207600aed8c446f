/* Variables by name: the core's and those of loaded modules. */
#ifndef HTTP_VARIABLES_H
#define HTTP_VARIABLES_H

#include "sluice/expr.h"

extern const struct sl_variable core_variables[];

/* Adds a module's rows, walked by the stride they were built with.  0, or -1 when a name is
 * taken or there are too many. */
int variables_add(const char *module, const struct sl_variable *rows, size_t stride);
const struct sl_variable *variable_find(struct sl_span name);
/* The nearest known name; NULL: none is near. */
const char *variable_nearest(const char *name);

#endif
