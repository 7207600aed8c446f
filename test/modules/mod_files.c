/* Serves the present contents of a file, as they were read when it changed last, and how often it
 * changed in this process: ServeFile PATH. */
#include "sluice/module.h"

#include <apr_strings.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct files_conf {
    const char *path;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char contents[4096];
static int n_changes;

static void
take(int fd)
{
    char fresh[sizeof contents];
    ssize_t n = read(fd, fresh, sizeof fresh - 1);

    close(fd);
    fresh[n > 0 ? n : 0] = '\0';
    pthread_mutex_lock(&lock);
    memcpy(contents, fresh, sizeof contents);
    pthread_mutex_unlock(&lock);
}

static void
changed(int fd, void *ctx)
{
    SL_ASSERT(ctx == contents);
    SL_ASSERT(sl_loop_index(sl_loop_self()) == 0);
    pthread_mutex_lock(&lock);
    n_changes++;
    pthread_mutex_unlock(&lock);
    take(fd);
}

static int
files_open(struct sl_worker *w)
{
    const struct files_conf *conf = sl_scope_conf(sl_worker_global(w), &sl_module_record);
    int fd;

    if (conf == NULL || conf->path == NULL)
        return 0;
    fd = sl_file_open(conf->path, changed, contents);
    if (fd < 0) {
        sl_log(SL_ERROR, "FILES0001", "%s: %s", conf->path, strerror(errno));
        return -1;
    }
    take(fd);
    return 0;
}

/* Too late for a new one. */
static int
files_ready(struct sl_worker *w)
{
    (void)w;
    return sl_file_open("/dev/null", changed, contents) < 0 && errno == EPERM ? 0 : -1;
}

static enum sl_verdict
files_handler(struct sl_req *r, const void *confp)
{
    const struct files_conf *conf = confp;
    char *text;

    if (conf->path == NULL || !sl_span_eq(sl_req_path(r), SL_SPAN("/")))
        return SL_NEXT;
    pthread_mutex_lock(&lock);
    text = apr_psprintf(sl_req_pool(r), "%s uid=%d pid=%d changes=%d\n", contents, (int)getuid(),
                        (int)getpid(), n_changes);
    pthread_mutex_unlock(&lock);
    return sl_respond(r, 200, "text/plain", sl_span(text));
}

static const struct sl_directive directives[] = {
    SL_STRING("ServeFile", struct files_conf, path, NULL, SL_IN_GLOBAL, "The file"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_POST_CONFIG(files_open),
    SL_ON_READY(files_ready),
    SL_ON_HANDLER(files_handler, SL_MIDDLE, 0),
    SL_HOOKS_END,
};
SL_MODULE(files) = {
    .name = "files",
    .conf_size = sizeof(struct files_conf),
    .directives = directives,
    .hooks = hooks,
};
