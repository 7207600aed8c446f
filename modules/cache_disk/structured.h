/* Structured fields (RFC 8941), as far as it has to be known whether a field is one.  Pure. */
#ifndef CACHE_STRUCTURED_H
#define CACHE_STRUCTURED_H

#include "sluice/base.h"

/* Whether it is a Dictionary (RFC 8941, 3.2): all lines of the field, joined by commas.  One that
 * is empty has no members. */
int is_dictionary(struct sl_span field);

#endif
