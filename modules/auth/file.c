/* Files of passwords and keys: kept with the configuration as it was accepted, read again when the
 * worker begins and whenever they change.  What does not parse is told, and what was read before
 * stays.
 *
 * Each thread has the contents it uses in a slot of its own, so that none waits for another and
 * none sees them go.  Thread 0 reads what has changed and puts it beside each slot; a mail has the
 * thread take it from there. */
#include "auth.h"

#include <apr_strings.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct slot {
    struct sl_mail mail; /* on its way while `next` is not NULL */
    struct auth_contents *now; /* the thread's */
    _Atomic(struct auth_contents *) next; /* NULL: `now` is the newest */
};

struct auth_file {
    struct auth_file *next;
    const char *path;
    const struct auth_file_kind *kind;
    struct auth_contents *first; /* as the configuration was accepted */
    struct slot *slots;          /* one a thread; NULL before there are any, and in dry runs */
    unsigned n_slots;
};

static struct auth_file *all;
static struct sl_worker *worker; /* once files are watched */

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
auth_contents_hold(struct auth_contents *c)
{
    atomic_fetch_add(&c->n_holders, 1);
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
auth_file_contents(const struct auth_file *f, const struct sl_loop *loop)
{
    return f->slots != NULL ? f->slots[sl_loop_index(loop)].now : f->first;
}

static void
slot_take(struct sl_loop *loop, struct sl_mail *mail)
{
    struct slot *s = (struct slot *)(void *)mail;
    struct auth_contents *old = s->now;

    (void)loop;
    s->now = atomic_exchange(&s->next, NULL);
    auth_contents_drop(&old);
}

/* On thread 0; c's first holder is the caller, who gives it up. */
static void
contents_spread(struct auth_file *f, struct auth_contents *c)
{
    unsigned i;

    for (i = 0; i < f->n_slots; i++) {
        struct slot *s = &f->slots[i];
        struct auth_contents *untaken;

        auth_contents_hold(c);
        untaken = atomic_exchange(&s->next, c);
        if (untaken != NULL) /* the mail that is on its way brings the newer ones */
            auth_contents_drop(&untaken);
        else
            sl_loop_post(sl_worker_loop(worker, i), &s->mail);
    }
    auth_contents_drop(&c);
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
    unsigned i;

    for (at = &all; *at != f; at = &(*at)->next)
        ;
    *at = f->next;
    for (i = 0; i < f->n_slots; i++) {
        struct auth_contents *next = atomic_load(&f->slots[i].next);

        auth_contents_drop(&f->slots[i].now);
        if (next != NULL)
            auth_contents_drop(&next);
    }
    auth_contents_drop(&f->first);
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
    struct sl_span text;

    f->path = path_beside(cmd, path);
    f->kind = kind;
    if ((err = sl_cmd_file(cmd, path, AUTH_FILE_MAX, &text)) != NULL)
        return err;
    f->first = contents_make(kind, text, why);
    if (f->first == NULL)
        return sl_cmd_error(cmd, "%s%s", f->path, why);
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

/* NULL: it was told what is wrong. */
static struct auth_contents *
file_take(const struct auth_file *f, int fd, const char *happened)
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
    if (c == NULL)
        sl_log(SL_WARN, "AUTH0001", "%s%s: %s; what was read before is kept", f->path, why,
               happened);
    return c;
}

static void
file_changed(int fd, void *ctx)
{
    struct auth_file *f = ctx;
    struct auth_contents *c = file_take(f, fd, "it has changed");

    if (c == NULL)
        return;
    contents_spread(f, c);
    sl_log(SL_NOTICE, "AUTH0002", "%s: it has changed and was read again", f->path);
}

/* The threads do not run yet. */
static void
slots_make(struct sl_worker *w, struct auth_file *f, struct auth_contents *c)
{
    unsigned i;

    f->n_slots = sl_worker_threads(w);
    f->slots = apr_pcalloc(sl_worker_pool(w), f->n_slots * sizeof *f->slots);
    for (i = 0; i < f->n_slots; i++) {
        auth_contents_hold(c);
        f->slots[i].now = c;
        f->slots[i].mail.fn = slot_take;
    }
}

void
auth_files_watch(struct sl_worker *w)
{
    struct auth_file *f;

    worker = w;
    for (f = all; f != NULL; f = f->next) {
        int fd = sl_file_open(f->path, file_changed, f);
        struct auth_contents *c = NULL;

        if (fd >= 0)
            c = file_take(f, fd, "it has changed since the configuration was read");
        else
            sl_log(SL_WARN, "AUTH0003", "%s: %s: changes will not be seen", f->path,
                   strerror(errno));
        slots_make(w, f, c != NULL ? c : f->first);
        if (c != NULL)
            auth_contents_drop(&c);
    }
}
