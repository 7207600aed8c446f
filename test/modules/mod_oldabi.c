/* A module of another ABI: it must be refused before anything of it is called. */
#include "sluice/module.h"

const struct sl_abi sl_abi_record = {SL_ABI_MAGIC, SL_ABI_MAJOR + 1, 7, 0, 0, 0, 0, 0};
const char sl_module_name[] = "oldabi";
const struct sl_module sl_module_record = {.name = "oldabi"};
