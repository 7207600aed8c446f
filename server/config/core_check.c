/* What the rows of the core cannot see one by one: that something listens, and that users and
 * folders exist.  Looks, but opens and creates nothing. */
#include "config/load.h"

#include <apr_strings.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#define STATE_DIR_MOST 1000 /* the channel has room for it */

static void
check_listeners(struct config *c)
{
    const apr_array_header_t *lines = config_global(c)->core->listen;
    int i, j;

    if (lines == NULL || lines->nelts == 0)
        config_error(c, NULL, "write \"Listen 80\"", "no Listen line: nothing would be served");
    for (i = 1; lines != NULL && i < lines->nelts; i++) {
        const struct listen_conf *l = APR_ARRAY_IDX(lines, i, struct listen_conf *);

        for (j = 0; j < i; j++) {
            const struct listen_conf *before = APR_ARRAY_IDX(lines, j, struct listen_conf *);

            if (strcmp(before->text, l->text) == 0) {
                config_error(c, l->place, NULL, "Listen %s: is said already at %s", l->text,
                             before->place);
                break;
            }
        }
    }
}

static void
check_user(struct config *c)
{
    const struct sl_scope *global = config_global(c);
    const struct core_conf *core = global->core;

    if (core->user != NULL && getpwnam(core->user) == NULL)
        config_error(c, core_place(c, global, "User"), NULL,
                     "User: expected a user of this system, found \"%s\"", core->user);
    if (core->group != NULL && getgrnam(core->group) == NULL)
        config_error(c, core_place(c, global, "Group"), NULL,
                     "Group: expected a group of this system, found \"%s\"", core->group);
}

/* A file that will be made: its folder has to be there. */
static void
check_folder(struct config *c, const struct sl_scope *scope, const char *row, const char *path)
{
    const char *slash = path != NULL ? strrchr(path, '/') : NULL, *folder;
    struct stat st;

    if (slash == NULL || slash == path)
        return;
    folder = apr_pstrmemdup(c->pool, path, (size_t)(slash - path));
    if (stat(folder, &st) != 0)
        config_error(c, core_place(c, scope, row),
                     errno == ENOENT ? apr_psprintf(c->pool, "make it: mkdir -p %s", folder) : NULL,
                     "%s %s: %s: %s", row, path, folder, strerror(errno));
    else if (!S_ISDIR(st.st_mode) || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
        config_error(c, core_place(c, scope, row), NULL,
                     "%s: expected a file in a folder, found \"%s\"", row, path);
}

/* The folder the server keeps things in is the operator's to make. */
static void
check_state_dir(struct config *c, const char *path)
{
    const char *place = core_place(c, config_global(c), "StateDir");
    struct stat st;

    if (path == NULL)
        return;
    if (path[0] != '/' || strlen(path) > STATE_DIR_MOST)
        config_error(c, place, NULL, "StateDir: expected an absolute path of at most %d bytes, found "
                     "\"%s\"", STATE_DIR_MOST, path);
    else if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        config_error(c, place, apr_psprintf(c->pool, "make it: mkdir -m 0755 %s", path),
                     "StateDir: expected a folder, found \"%s\"", path);
}

static void
check_error_log(struct config *c, const struct sl_scope *scope)
{
    const struct error_log_conf *log = scope->core->error_log;

    if (log == NULL) /* its line is wrong */
        return;
    if (scope->parent == NULL || scope->parent->core->error_log != log)
        check_folder(c, scope, "ErrorLog", log->where);
}

void
core_check(struct config *c)
{
    const struct core_conf *core = config_global(c)->core;
    int i;

    if (c->errors->nelts == 0) /* else they are likely the reason */
        check_listeners(c);
    check_user(c);
    for (i = 0; i < c->scopes->nelts; i++)
        check_error_log(c, APR_ARRAY_IDX(c->scopes, i, const struct sl_scope *));
    check_folder(c, config_global(c), "PidFile", core->pid_file);
    check_state_dir(c, core->state_dir);
    check_folder(c, config_global(c), "ControlSocket", core->control_socket);
}
