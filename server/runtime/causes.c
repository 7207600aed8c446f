/* The core's causes of failure, made from the rows of sluice/log.h. */
#include "sluice/log.h"

#define SL_CAUSE_DEFINE(name, id, status, text)                                              \
    const struct sl_cause sl_cause_##name = {id, #name, status, text};
SL_CAUSES(SL_CAUSE_DEFINE)
#undef SL_CAUSE_DEFINE
