/* Files of passwords and keys: kept with the configuration as it was accepted, read again when the
 * worker begins and whenever they change.  What does not parse is told, and what was read before
 * stays.  Contents are replaced on thread 0 and held by whoever uses them, so that no thread sees
 * them go. */
#include "auth.h"

#include <apr_strings.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct auth_file {
    struct auth_file *next;
    const char *path, *place;
    const struct auth_file_kind *kind;
    pthread_mutex_t lock; /* of `contents`, while it is taken or replaced */
    struct auth_contents *contents;
    _Atomic uint64_t version;
};

static struct auth_file *all;

/* ---- contents ---- */

static struct auth_contents *
contents_make(const struct auth_file_kind *kind, struct sl_span text, char why[AUTH_WHY_MAX])
{
    static _Atomic uint64_t n_made;
    void *parsed = kind->parse(text, why);
    struct auth_contents *c;

    if (parsed == NULL)
        return NULL;
    c = calloc(1, sizeof *c);
    SL_ASSERT(c != NULL);
    atomic_init(&c->n_holders, 1);
    c->version = atomic_fetch_add(&n_made, 1) + 1;
    c->parsed = parsed;
    c->forget = kind->forget;
    return c;
}

void
auth_contents_drop(struct auth_contents **cp)
{
    struct auth_contents *c = *cp;

    *cp = NULL;
    if (atomic_fetch_sub(&c->n_holders, 1) > 1)
        return;
    c->forget(c->parsed);
    free(c);
}

struct auth_contents *
auth_file_hold(struct auth_file *f)
{
    struct auth_contents *c;

    pthread_mutex_lock(&f->lock);
    c = f->contents;
    atomic_fetch_add(&c->n_holders, 1);
    pthread_mutex_unlock(&f->lock);
    return c;
}

static void
contents_replace(struct auth_file *f, struct auth_contents *fresh)
{
    struct auth_contents *old;

    pthread_mutex_lock(&f->lock);
    old = f->contents;
    f->contents = fresh;
    pthread_mutex_unlock(&f->lock);
    atomic_store(&f->version, fresh->version);
    if (old != NULL)
        auth_contents_drop(&old);
}

uint64_t
auth_file_version(const struct auth_file *f)
{
    return atomic_load(&f->version);
}

const char *
auth_file_path(const struct auth_file *f)
{
    return f->path;
}

/* ---- the line ---- */

static apr_status_t
file_forget(void *ctx)
{
    struct auth_file *f = ctx, **at;

    for (at = &all; *at != f; at = &(*at)->next)
        ;
    *at = f->next;
    if (f->contents != NULL)
        auth_contents_drop(&f->contents);
    pthread_mutex_destroy(&f->lock);
    return APR_SUCCESS;
}

/* A relative path begins where the line's own file is, as with sl_cmd_file(). */
static const char *
path_beside(const struct sl_cmd *cmd, const char *path)
{
    const char *place = sl_cmd_place(cmd), *slash = strrchr(place, '/');

    if (*path == '/' || slash == NULL)
        return path;
    return apr_pstrcat(sl_cmd_pool(cmd),
                       apr_pstrmemdup(sl_cmd_pool(cmd), place, (size_t)(slash - place + 1)), path,
                       NULL);
}

const char *
auth_file_read(struct sl_cmd *cmd, const char *path, const struct auth_file_kind *kind,
               struct auth_file **file)
{
    struct auth_file *f = apr_pcalloc(sl_cmd_pool(cmd), sizeof *f);
    const char *err;
    char why[AUTH_WHY_MAX] = "";
    struct auth_contents *c;
    struct sl_span text;

    f->path = path_beside(cmd, path);
    f->place = sl_cmd_place(cmd);
    f->kind = kind;
    if ((err = sl_cmd_file(cmd, path, AUTH_FILE_MAX, &text)) != NULL)
        return err;
    c = contents_make(kind, text, why);
    if (c == NULL)
        return sl_cmd_error(cmd, "%s%s", f->path, why);
    pthread_mutex_init(&f->lock, NULL);
    contents_replace(f, c);
    f->next = all;
    all = f;
    apr_pool_cleanup_register(sl_cmd_pool(cmd), f, file_forget, apr_pool_cleanup_null);
    *file = f;
    return NULL;
}

/* ---- changes ---- */

/* All of a file, with NUL behind it; at NULL: errno says why not. */
static struct sl_span
fd_read(int fd)
{
    char *text = malloc(AUTH_FILE_MAX + 2);
    ssize_t k = 1;
    size_t n = 0;

    SL_ASSERT(text != NULL);
    while (n <= AUTH_FILE_MAX && k != 0) {
        k = read(fd, text + n, AUTH_FILE_MAX + 1 - n);
        if (k < 0 && errno != EINTR)
            break;
        n += k > 0 ? (size_t)k : 0;
    }
    if (k == 0) {
        text[n] = '\0';
        return (struct sl_span){text, n};
    }
    if (k > 0)
        errno = EFBIG;
    free(text);
    return (struct sl_span){NULL, 0};
}

static void
file_take(struct auth_file *f, int fd, const char *happened)
{
    char why[AUTH_WHY_MAX] = "";
    struct sl_span text = fd_read(fd);
    struct auth_contents *c = NULL;

    if (text.at == NULL)
        apr_snprintf(why, sizeof why, ": %s", strerror(errno));
    else
        c = contents_make(f->kind, text, why);
    free((char *)(uintptr_t)text.at);
    close(fd);
    if (c != NULL)
        contents_replace(f, c);
    else
        sl_log(SL_WARN, "AUTH0001", "%s%s: %s; what was read before is kept", f->path, why, happened);
}

static void
file_changed(int fd, void *ctx)
{
    struct auth_file *f = ctx;
    uint64_t before = auth_file_version(f);

    file_take(f, fd, "it has changed");
    if (auth_file_version(f) != before)
        sl_log(SL_NOTICE, "AUTH0002", "%s: it has changed and was read again", f->path);
}

void
auth_files_watch(void)
{
    struct auth_file *f;

    for (f = all; f != NULL; f = f->next) {
        int fd = sl_file_open(f->path, file_changed, f);

        if (fd >= 0)
            file_take(f, fd, "it has changed since the configuration was read");
        else
            sl_log(SL_WARN, "AUTH0003", "%s: %s: changes will not be seen", f->path, strerror(errno));
    }
}
