/* Providers: a short list, written while modules load by one thread, read-only after. */
#include "sluice/base.h"
#include "sluice/provider.h"

#define PROVIDERS_MAX 256

static struct provider {
    const char *group;
    const char *name;
    const void *vtable;
} providers[PROVIDERS_MAX];
static unsigned n_providers;

const void *
sl_provider_find(const char *group, const char *name)
{
    unsigned i;

    for (i = 0; i < n_providers; i++)
        if (strcmp(providers[i].group, group) == 0 && strcmp(providers[i].name, name) == 0)
            return providers[i].vtable;
    return NULL;
}

int
sl_provider_register(const char *group, const char *name, const void *vtable)
{
    if (n_providers == PROVIDERS_MAX || sl_provider_find(group, name) != NULL)
        return -1;
    providers[n_providers++] = (struct provider){group, name, vtable};
    return 0;
}

const char *
sl_provider_name(const char *group, unsigned i)
{
    unsigned k;

    for (k = 0; k < n_providers; k++)
        if (strcmp(providers[k].group, group) == 0 && i-- == 0)
            return providers[k].name;
    return NULL;
}
