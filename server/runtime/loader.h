/* Modules: shared objects, checked before anything of theirs is called. */
#ifndef RUNTIME_LOADER_H
#define RUNTIME_LOADER_H

#include "config/config.h"

/* Adds the core as module 0. */
void module_add_core(struct config *c);
/* Loads a file as the next module and runs its init.  NULL or a phrase. */
const char *module_load(struct config *c, const char *name, const char *file);
/* $SLUICE_MODULES, else the installed folder. */
const char *loader_default_dir(void);
/* Before the configuration is read: what is asked for as `file` is loaded from fd, whatever lies
 * there now.  Takes fd over.  0, or -1 without memory. */
int loader_give(const char *file, int fd);
/* All modules are loaded.  Gives the master (channel -1: there is none) the descriptors of those
 * that came from their files, and closes all.  0 or -1. */
int loader_announce(const struct config *c, int channel);
/* A module's number in this process's configuration. */
unsigned loader_index_of(const struct sl_module *module);
const struct loaded_module *loader_find(const struct sl_module *module);

#endif
