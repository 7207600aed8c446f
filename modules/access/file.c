/* Files of networks.  Each is read with the configuration, and again when it changes: an offload
 * thread reads it and makes the tree, thread 0 puts it in the place of the old one, which all
 * threads see at once.  A hook may still look at the old tree then, so that is freed when a mail
 * has been round all threads: none of them has a hook running when it takes one.
 *
 *     at rest -> being read -> going round -> at rest      with bad contents: -> at rest
 *
 * A change that comes meanwhile waits, the latest one only. */
#include "access.h"

#include <apr_strings.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGAIN_MS 1000 /* until offload is asked again when its queue was full */

/* What reading a file came to. */
struct reading {
    struct access_tree *tree; /* NULL: the rest says why */
    size_t n;
    unsigned line; /* of what is no network; 0: error says why */
    char word[64];
    int error;
};

struct access_file {
    struct access_file *next;
    const char *path;
    struct sl_span accepted; /* as it was when the configuration was read */
    struct access_tree *_Atomic tree;

    /* Thread 0's: */
    struct sl_worker *worker;
    int is_busy;
    int waiting; /* descriptor of contents to read next, or -1 */
    struct sl_timer again;
    struct access_tree *old; /* going round */
    struct sl_mail mail;

    /* The offload thread's while it reads: */
    struct sl_offload job;
    int fd;
    struct reading read;
};

/* ---- reading ---- */

static void
reading_parse(struct reading *to, struct sl_span text)
{
    struct sl_span word = {"", 0};

    *to = (struct reading){.error = ENOMEM};
    to->tree = access_text_parse(text, &to->n, &to->line, &word);
    apr_cpystrn(to->word, "", sizeof to->word);
    if (to->tree == NULL && to->line > 0)
        apr_cpystrn(to->word, word.at, word.n < sizeof to->word ? word.n + 1 : sizeof to->word);
}

/* The whole file, the caller's to free; NULL with errno.  One that is written to while it is read
 * changes again. */
static char *
file_bytes(int fd, size_t *n)
{
    struct stat st;
    char *text;
    ssize_t k = 1;

    if (fstat(fd, &st) != 0)
        return NULL;
    if (st.st_size > ACCESS_FILE_MAX) {
        errno = EFBIG;
        return NULL;
    }
    text = malloc((size_t)st.st_size + 1);
    *n = 0;
    while (text != NULL && k > 0 && *n < (size_t)st.st_size) {
        k = read(fd, text + *n, (size_t)st.st_size - *n);
        if (k > 0)
            *n += (size_t)k;
    }
    if (k >= 0 || text == NULL)
        return text;
    free(text);
    return NULL;
}

/* Closes fd. */
static void
file_read(int fd, struct reading *to)
{
    size_t n = 0;
    char *text = file_bytes(fd, &n);

    if (text != NULL)
        reading_parse(to, (struct sl_span){text, n});
    else
        *to = (struct reading){.error = errno};
    free(text);
    close(fd);
}

static void
file_complain(const struct access_file *f, const struct reading *r)
{
    if (r->line > 0)
        sl_log(SL_WARN, "ACCESS0001", "%s:%u: expected an address or a network such as 10.0.0.0/8, "
               "found \"%s\"; the networks from before are kept", f->path, r->line, r->word);
    else
        sl_log(SL_WARN, "ACCESS0002", "%s: %s; the networks from before are kept", f->path,
               strerror(r->error));
}

/* ---- one after the other, on thread 0 ---- */

static void file_begin(struct access_file *f);

static void
file_rests(struct access_file *f)
{
    access_tree_free(&f->old);
    f->is_busy = 0;
    if (f->waiting >= 0)
        file_begin(f);
}

/* On each thread in turn, 0 being the last. */
static void
file_goes_round(struct sl_loop *loop, struct sl_mail *mail)
{
    struct access_file *f = (struct access_file *)(void *)((char *)mail -
                                                           offsetof(struct access_file, mail));
    unsigned i = sl_loop_index(loop) + 1;

    if (i == 1)
        file_rests(f);
    else
        sl_loop_post(sl_worker_loop(f->worker, i % sl_worker_threads(f->worker)), mail);
}

static void
file_was_read(struct sl_loop *loop, struct sl_offload *job)
{
    struct access_file *f =
        (struct access_file *)(void *)((char *)job - offsetof(struct access_file, job));
    unsigned n = sl_worker_threads(f->worker);

    (void)loop;
    if (f->read.tree == NULL) {
        file_complain(f, &f->read);
        file_rests(f);
        return;
    }
    f->old = atomic_exchange_explicit(&f->tree, f->read.tree, memory_order_acq_rel);
    f->read.tree = NULL;
    sl_log(SL_NOTICE, "ACCESS0003", "%s: read again, %lu networks", f->path,
           (unsigned long)f->read.n);
    f->mail.fn = file_goes_round;
    sl_loop_post(sl_worker_loop(f->worker, n > 1 ? 1 : 0), &f->mail);
}

static void
file_work(struct sl_offload *job)
{
    struct access_file *f =
        (struct access_file *)(void *)((char *)job - offsetof(struct access_file, job));

    file_read(f->fd, &f->read);
}

static void
file_begin(struct access_file *f)
{
    struct sl_loop *loop = sl_worker_loop(f->worker, 0);

    f->fd = f->waiting;
    f->job.work = file_work;
    f->job.done = file_was_read;
    if (sl_offload(loop, &f->job) != 0) {
        sl_timer_set(loop, &f->again, sl_loop_now(loop) + AGAIN_MS);
        return;
    }
    f->waiting = -1;
    f->is_busy = 1;
}

static void
file_again(struct sl_loop *loop, struct sl_timer *timer)
{
    struct access_file *f =
        (struct access_file *)(void *)((char *)timer - offsetof(struct access_file, again));

    (void)loop;
    if (!f->is_busy && f->waiting >= 0)
        file_begin(f);
}

static void
file_changed(int fd, void *ctx)
{
    struct access_file *f = ctx;

    if (f->waiting >= 0)
        close(f->waiting);
    f->waiting = fd;
    if (!f->is_busy)
        file_begin(f);
}

/* ---- from the configuration to the end ---- */

/* With the generation: no thread runs any more. */
static apr_status_t
file_end(void *data)
{
    struct access_file *f = data;
    struct access_tree *tree = atomic_load(&f->tree);

    access_tree_free(&tree);
    access_tree_free(&f->old);
    access_tree_free(&f->read.tree);
    if (f->waiting >= 0)
        close(f->waiting);
    return APR_SUCCESS;
}

static const char *
file_accept(struct sl_cmd *cmd, struct access_file *f)
{
    struct reading r;

    reading_parse(&r, f->accepted);
    if (r.tree != NULL) {
        atomic_store(&f->tree, r.tree);
        return NULL;
    }
    if (r.line == 0)
        return sl_cmd_error(cmd, "%s: %s", f->path, strerror(r.error));
    sl_cmd_cure(cmd, "a line has one network or address, or nothing; \"#\" begins a comment");
    return sl_cmd_error(cmd, "%s:%u: expected an address or a network such as 10.0.0.0/8, "
                        "found \"%s\"", f->path, r.line, r.word);
}

const char *
access_file_get(struct sl_cmd *cmd, const char *name, struct access_file **file)
{
    struct access_data *data = sl_cmd_module_data(cmd);
    const char *path = sl_cmd_path(cmd, name), *err;
    struct access_file *f = data->files;
    struct sl_span bytes;

    /* Each line keeps its own copy for a worker that takes the place of a crashed one. */
    if ((err = sl_cmd_file(cmd, name, ACCESS_FILE_MAX, &bytes)) != NULL)
        return err;
    while (f != NULL && strcmp(f->path, path) != 0)
        f = f->next;
    *file = f;
    if (f != NULL)
        return NULL;
    *file = f = apr_pcalloc(sl_cmd_pool(cmd), sizeof *f);
    f->path = path;
    f->accepted = bytes;
    f->waiting = -1;
    f->again.fn = file_again;
    apr_pool_cleanup_register(sl_cmd_pool(cmd), f, file_end, apr_pool_cleanup_null);
    f->next = data->files;
    data->files = f;
    return file_accept(cmd, f);
}

int
access_file_has(const struct access_file *f, const struct access_address *addr)
{
    return access_tree_has(atomic_load_explicit(&f->tree, memory_order_acquire), addr);
}

/* What the file holds now, where it is not what was accepted: a worker in the place of a crashed
 * one begins with that, and keeps it where the file is bad. */
static void
file_catch_up(struct access_file *f, int fd)
{
    struct access_tree *old = atomic_load(&f->tree);
    size_t n = 0;
    char *text = file_bytes(fd, &n);
    struct reading r = {.error = errno};

    if (text == NULL || n != f->accepted.n || memcmp(text, f->accepted.at, n) != 0) {
        if (text != NULL)
            reading_parse(&r, (struct sl_span){text, n});
        if (r.tree == NULL)
            file_complain(f, &r);
        else {
            atomic_store(&f->tree, r.tree);
            access_tree_free(&old);
        }
    }
    free(text);
    close(fd);
}

int
access_files_watch(struct sl_worker *w)
{
    struct access_data *data = sl_worker_module_data(w, &sl_module_record);
    struct access_file *f;
    int fd;

    for (f = data->files; f != NULL; f = f->next) {
        f->worker = w;
        fd = sl_file_open(f->path, file_changed, f);
        if (fd >= 0)
            file_catch_up(f, fd);
        else
            sl_log(SL_WARN, "ACCESS0004", "%s: %s; changes will not be seen", f->path,
                   strerror(errno));
    }
    return 0;
}
