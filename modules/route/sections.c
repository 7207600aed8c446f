/* <VirtualHost>, <Location>, <LocationMatch>: each opens a site, put where the look-ups of
 * its enclosing site find it.  What could never win is an error here, with both places.
 * <If> opens none: it says what else holds in the site around it. */
#include "route.h"

#include <apr_lib.h>
#include <apr_strings.h>

struct route_site *
route_site(struct route_map *map, const struct sl_scope *scope)
{
    while (sl_scope_kind(scope) == SL_SCOPE_IF)
        scope = sl_scope_parent(scope);
    return sl_scope_kind(scope) == SL_SCOPE_GLOBAL ? &map->global : sl_scope_owned(scope);
}

/* Ifs hold over every location: further inside over further out, then later over earlier. */
unsigned
route_rank(const struct sl_scope *scope)
{
    const unsigned *order = sl_scope_kind(scope) == SL_SCOPE_IF ? sl_scope_owned(scope) : NULL;
    unsigned depth = 0;

    while ((scope = sl_scope_parent(scope)) != NULL)
        depth++;
    return order != NULL ? depth << 24 | *order : depth;
}

static struct route_site *
site_make(struct sl_cmd *cmd, struct sl_scope *scope, enum route_site_kind kind)
{
    struct route_site *site = apr_pcalloc(sl_cmd_pool(cmd), sizeof *site);

    site->scope = scope;
    site->kind = kind;
    site->path = SL_SPAN("/");
    sl_scope_own(scope, site);
    return site;
}

static struct route_site *
site_around(struct sl_cmd *cmd, struct sl_scope *scope)
{
    return route_site(sl_cmd_module_data(cmd), sl_scope_parent(scope));
}

/* ---- hosts ---- */

static const char *
host_check(struct sl_cmd *cmd, const char *name)
{
    const char *colon = *name != '[' ? strchr(name, ':') : strstr(name, "]:");

    if (strstr(name, "://") != NULL)
        return sl_cmd_error(cmd, "expected the name of a host, found the URL \"%s\"", name);
    if (colon != NULL) {
        sl_cmd_cure(cmd, "leave the port to Listen; a host is matched by name alone");
        return sl_cmd_error(cmd, "expected a name without a port, found \"%s\"", name);
    }
    if (strchr(*name == '*' && (name[1] == '.' || name[1] == '\0') ? name + 1 : name, '*'))
        return sl_cmd_error(cmd, "expected a name, \"*.suffix\" or \"*\", found \"%s\"", name);
    if (*name == '\0' || *name == '.' || strcmp(name, "*.") == 0 ||
        name[strcspn(name, "/?#@ \t\\\"")] != '\0')
        return sl_cmd_error(cmd, "\"%s\" is no name of a host", name);
    return NULL;
}

static struct sl_span
host_lower(apr_pool_t *pool, const char *name)
{
    char *low = apr_pstrdup(pool, name);
    size_t i, n = strlen(low);

    for (i = 0; i < n; i++)
        low[i] = (char)apr_tolower(low[i]);
    return (struct sl_span){low, n > 1 && low[n - 1] == '.' ? n - 1 : n};
}

const char *
route_open_host(struct sl_cmd *cmd, struct sl_scope *scope)
{
    struct route_map *map = sl_cmd_module_data(cmd);
    struct route_site *site = site_make(cmd, scope, ROUTE_HOST);
    const struct route_site *other;
    const char *name, *err;
    int i;

    if (sl_cmd_argc(cmd) == 0)
        return "expected the names this host answers to, or *";
    for (i = 0; (name = sl_cmd_arg(cmd, i)) != NULL; i++) {
        if ((err = host_check(cmd, name)) != NULL)
            return err;
        other = route_hosts_put(sl_cmd_pool(cmd), &map->hosts,
                                host_lower(sl_cmd_pool(cmd), name), site);
        if (other == site)
            return sl_cmd_error(cmd, "\"%s\" stands here twice", name);
        if (other != NULL)
            return sl_cmd_error(cmd, "\"%s\" has a VirtualHost already, at %s", name,
                                sl_scope_place(other->scope));
    }
    return NULL;
}

/* ---- locations ---- */

static void
site_list(struct sl_cmd *cmd, struct route_site *around, struct route_site *site)
{
    if (around->all == NULL)
        around->all = apr_array_make(sl_cmd_pool(cmd), 4, sizeof(struct route_site *));
    site->index = (unsigned)around->all->nelts;
    APR_ARRAY_PUSH(around->all, struct route_site *) = site;
}

/* Which location a request has is known before its Ifs are asked. */
static const char *
not_in_if(struct sl_cmd *cmd, const struct sl_scope *scope)
{
    if (sl_scope_kind(sl_scope_parent(scope)) != SL_SCOPE_IF)
        return NULL;
    sl_cmd_cure(cmd, "put the <If> inside the location");
    return "may not stand in <If>, which is asked when the location is known";
}

const char *
route_open_location(struct sl_cmd *cmd, struct sl_scope *scope)
{
    int argc = sl_cmd_argc(cmd), is_exact = argc == 2 && strcmp(sl_cmd_arg(cmd, 0), "=") == 0;
    struct route_site *site = site_make(cmd, scope, is_exact ? ROUTE_EXACT : ROUTE_PREFIX);
    const struct route_site *other;
    const char *path = sl_cmd_arg(cmd, argc - 1), *err;

    if ((err = not_in_if(cmd, scope)) != NULL)
        return err;
    if (argc > 0 && strchr("~^", *sl_cmd_arg(cmd, 0)) != NULL)
        sl_cmd_cure(cmd, "a pattern needs <LocationMatch>");
    if (argc != 1 && !is_exact)
        return "expected a path, or \"=\" and a path";
    if (path[0] == '=')
        sl_cmd_cure(cmd, "an exact path is two words: <Location = %s>", path + 1);
    if ((err = route_path_check(cmd, path)) != NULL)
        return err;
    site->path = sl_span(apr_pstrdup(sl_cmd_pool(cmd), path));
    other = route_tree_put(sl_cmd_pool(cmd), &site_around(cmd, scope)->inside, site->path,
                           is_exact ? ROUTE_TREE_EXACT : ROUTE_TREE_PREFIX, site);
    if (other != NULL)
        return sl_cmd_error(cmd, "\"%s\" has a Location already, at %s", path,
                            sl_scope_place(other->scope));
    site_list(cmd, site_around(cmd, scope), site);
    return NULL;
}

const char *
route_open_location_match(struct sl_cmd *cmd, struct sl_scope *scope)
{
    struct route_site *site = site_make(cmd, scope, ROUTE_PATTERN);
    struct route_site *around = site_around(cmd, scope);
    const char *err, *text = apr_pstrdup(sl_cmd_pool(cmd), sl_cmd_arg(cmd, 0));
    int i;

    if ((err = not_in_if(cmd, scope)) != NULL)
        return err;
    if (sl_cmd_argc(cmd) != 1)
        return "expected one pattern, in double quotes where it has spaces";
    for (i = 0; i < route_n(around->patterns); i++) {
        const struct route_site *other = APR_ARRAY_IDX(around->patterns, i, struct route_site *);

        if (strcmp(sl_pattern_text(other->pattern), text) == 0)
            return sl_cmd_error(cmd, "\"%s\" has a LocationMatch already, at %s", text,
                                sl_scope_place(other->scope));
    }
    if ((err = sl_cmd_pattern(cmd, text, &site->pattern)) != NULL)
        return err;
    sl_scope_set_pattern(scope, site->pattern);
    if (around->patterns == NULL)
        around->patterns = apr_array_make(sl_cmd_pool(cmd), 4, sizeof(struct route_site *));
    APR_ARRAY_PUSH(around->patterns, struct route_site *) = site;
    site_list(cmd, around, site);
    return NULL;
}

/* ---- conditions ---- */

const char *
route_open_if(struct sl_cmd *cmd, struct sl_scope *scope)
{
    struct route_map *map = sl_cmd_module_data(cmd);
    unsigned *order = apr_palloc(sl_cmd_pool(cmd), sizeof *order);
    struct sl_cond *cond = NULL;
    const char *err;

    *order = ++map->n_ifs;
    sl_scope_own(scope, order);
    if (sl_cmd_argc(cmd) != 1) {
        sl_cmd_cure(cmd, "write <If \"%%{method} == POST\">");
        return "expected one condition, in double quotes where it has spaces";
    }
    err = sl_cmd_cond(cmd, sl_cmd_arg(cmd, 0), SL_PHASE_REQUEST, &cond);
    sl_scope_set_condition(scope, cond);
    return err;
}
