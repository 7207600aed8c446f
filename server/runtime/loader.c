/* The loader.  A module says by its ABI record what it was built against; only when that
 * fits are its rows read and its init called.
 *
 * A file is opened once a process and stays: its rows and functions are pointed to from
 * everywhere.  dlopen is called directly because APR's opens with RTLD_GLOBAL, which would
 * let one module's functions take the place of another's of the same name. */
#include "runtime/loader.h"

#include "channel.h"
#include "http/variables.h"

#include <apr_strings.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SL_LIBDIR
#define SL_LIBDIR "/usr/local/lib/sluice"
#endif

static const struct sl_abi core_abi = {
    SL_ABI_MAGIC,
    SL_ABI_MAJOR,
    SL_ABI_MINOR,
    sizeof(struct sl_module),
    sizeof(struct sl_directive),
    sizeof(struct sl_section),
    sizeof(struct sl_hook),
    sizeof(struct sl_variable),
};

/* The configuration of this process: there is one, and hooks ask by module. */
static const struct config *loaded;

/* What the master has kept of modules that were accepted. */
static struct given {
    struct given *next;
    char *file;
    int fd;
} *given;

const char *
loader_default_dir(void)
{
    const char *dir = getenv("SLUICE_MODULES");

    return dir != NULL ? dir : SL_LIBDIR;
}

static struct loaded_module *
module_add(struct config *c, const struct sl_module *module, const struct sl_abi *abi,
           const char *name, const char *file)
{
    struct loaded_module *m = apr_pcalloc(c->pool, sizeof *m);

    m->module = module;
    m->abi = abi;
    m->name = name;
    m->file = file;
    m->fd = -1;
    m->index = (unsigned)c->modules->nelts;
    APR_ARRAY_PUSH(c->modules, struct loaded_module *) = m;
    return m;
}

void
module_add_core(struct config *c)
{
    loaded = c;
    module_add(c, &core_module, &core_abi, "core", "(built in)");
    variables_add("core", core_variables, sizeof(struct sl_variable));
}

unsigned
loader_index_of(const struct sl_module *module)
{
    return loader_find(module)->index;
}

const struct loaded_module *
loader_find(const struct sl_module *module)
{
    int i;

    for (i = 0; i < loaded->modules->nelts; i++)
        if (APR_ARRAY_IDX(loaded->modules, i, struct loaded_module *)->module == module)
            return APR_ARRAY_IDX(loaded->modules, i, struct loaded_module *);
    sl_panic(__FILE__, __LINE__, __func__, "the module is loaded");
}

static const char *
abi_error(struct config *c, const struct sl_abi *abi)
{
    if (abi->magic != SL_ABI_MAGIC)
        return "is no module of sluice: its ABI record has another magic number";
    if (abi->major != SL_ABI_MAJOR || abi->minor > SL_ABI_MINOR)
        return apr_psprintf(c->pool, "was built for ABI %u.%u, this server has %u.%u: build it "
                            "again with slxs", abi->major, abi->minor, SL_ABI_MAJOR, SL_ABI_MINOR);
    if (abi->module_size > sizeof(struct sl_module) ||
        abi->directive_size > sizeof(struct sl_directive) ||
        abi->section_size > sizeof(struct sl_section) ||
        abi->hook_size > sizeof(struct sl_hook) ||
        abi->variable_size > sizeof(struct sl_variable))
        return "has larger rows than this server knows: build it again with slxs";
    return NULL;
}

/* ---- the file, or what was kept of it ---- */

int
loader_give(const char *file, int fd)
{
    struct given *g = calloc(1, sizeof *g);

    if (g == NULL || (g->file = strdup(file)) == NULL) {
        free(g);
        close(fd);
        return -1;
    }
    g->fd = fd;
    g->next = given;
    given = g;
    return 0;
}

/* All descriptors stay open while modules are loaded: dlopen() takes a name it has seen for the
 * file it had then. */
static void *
open_given(const char *file)
{
    const struct given *g;
    char path[64];

    for (g = given; g != NULL && strcmp(g->file, file) != 0; g = g->next)
        ;
    if (g == NULL)
        return NULL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", g->fd);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static int
is_at(const char *file, int fd)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(file, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* *fd leads to what was loaded; -1: it was given, or replaced while it was loaded.  NULL:
 * dlerror() says why. */
static void *
open_file(const char *file, int *fd)
{
    void *dso = open_given(file);

    *fd = -1;
    if (dso != NULL)
        return dso;
    *fd = open(file, O_RDONLY | O_CLOEXEC);
    dso = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (*fd >= 0 && (dso == NULL || !is_at(file, *fd))) {
        close(*fd);
        *fd = -1;
    }
    return dso;
}

static void
given_close(void)
{
    while (given != NULL) {
        struct given *g = given;

        given = g->next;
        close(g->fd);
        free(g->file);
        free(g);
    }
}

int
loader_announce(const struct config *c, int channel)
{
    int i, rc = 0;

    for (i = 0; i < c->modules->nelts; i++) {
        struct loaded_module *m = APR_ARRAY_IDX(c->modules, i, struct loaded_module *);

        if (m->fd < 0)
            continue;
        if (channel >= 0 && channel_say(channel, MSG_MODULE, m->file, m->fd) != 0)
            rc = -1;
        close(m->fd);
        m->fd = -1;
    }
    given_close();
    return rc;
}

/* ---- loading ---- */

static const char *
module_open(struct config *c, const char *name, const char *file, const struct sl_abi **abi,
            const struct sl_module **module, int *fd)
{
    void *dso = open_file(file, fd);
    const char *err, *own_name;

    if (dso == NULL)
        return apr_psprintf(c->pool, "cannot be loaded: %s", dlerror());
    *abi = dlsym(dso, "sl_abi_record");
    if (*abi == NULL)
        return apr_psprintf(c->pool, "%s is no module of sluice: it has no sl_abi_record", file);
    if ((err = abi_error(c, *abi)) != NULL)
        return apr_psprintf(c->pool, "%s %s", file, err);
    own_name = dlsym(dso, "sl_module_name");
    if (own_name == NULL || strcmp(own_name, name) != 0)
        return apr_psprintf(c->pool, "%s holds another module than %s", file, name);
    *module = dlsym(dso, "sl_module_record");
    return *module != NULL ? NULL : apr_psprintf(c->pool, "%s has no sl_module_record", file);
}

const char *
module_load(struct config *c, const char *name, const char *file)
{
    const struct sl_module *module = NULL;
    const struct sl_abi *abi = NULL;
    int fd;
    const char *err = module_open(c, name, file, &abi, &module, &fd);

    if (err != NULL)
        return err;
    module_add(c, module, abi, name, file)->fd = fd;
    if (module->init != NULL && module->init(module) != 0)
        return "its init failed";
    if (module->variables != NULL && variables_add(name, module->variables, abi->variable_size))
        return "one of its variables has a name that is taken";
    return NULL;
}
