/* What the operator finds outside: the pid file, the control socket, StateDir and the error log, where
 * the configuration of the generation that serves wants them, and the end of the command that
 * starts a daemon.  What is said over the control socket is read in commands.c. */
#include "master/state.h"

#include "master/control.h"
#include "runtime/log.h"
#include "runtime/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the pid file, the control socket and StateDir: made first, then taken into use ---- */

static const char *const rows[] = {"ControlSocket", "PidFile", "StateDir"};

static int
same(const struct outside *o, const char *path)
{
    return o->fd >= 0 && strcmp(o->path, path) == 0;
}

/* Whether the file is still the one of that name: a server that ends takes it away. */
static int
is_named(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

/* What ends with the server. */
static int
is_own(const struct outside *o)
{
    struct stat st;

    return fstat(o->fd, &st) == 0 && !S_ISDIR(st.st_mode) &&
           (S_ISSOCK(st.st_mode) || is_named(o->fd, o->path));
}

static void
outside_remove(struct outside *o)
{
    if (o->fd < 0)
        return;
    if (is_own(o))
        unlink(o->path);
    close(o->fd);
    o->fd = -1;
    o->path[0] = '\0';
}

static void
running_already(pid_t pid, char *why, size_t n)
{
    snprintf(why, n, "a server is running already, process %d", (int)pid);
}

static int
is_file_of(const struct outside *o, const char *path)
{
    struct stat a, b;

    return o->fd >= 0 && stat(o->path, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

/* A regular file that is empty or holds a number, as pid files do. */
static int
holds_number(int fd)
{
    char text[32];
    struct stat st;
    ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? pread(fd, text, sizeof text, 0) : -1;

    while (n > 0 && (text[n - 1] == '\n' || (text[n - 1] >= '0' && text[n - 1] <= '9')))
        n--;
    return n == 0;
}

/* The lock is the process's, and gone with it: what a dead server left is written over. */
static int
pid_file_make(const char *path, char *why, size_t n)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);

    if (fd < 0 || !holds_number(fd)) { /* a link or another's file is not written to */
        snprintf(why, n, "%s", fd >= 0 ? "it is no pid file" : strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (fcntl(fd, F_SETLK, &lock) != 0 || !is_named(fd, path)) {
        if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
            running_already(lock.l_pid, why, n);
        else
            snprintf(why, n, "a server was just ending: try again");
        close(fd);
        return -1;
    }
    if (ftruncate(fd, 0) == 0 && dprintf(fd, "%d\n", (int)getpid()) > 0)
        return fd;
    snprintf(why, n, "%s", strerror(errno));
    close(fd);
    return -1;
}

static int
control_make(const char *path, char *why, size_t n)
{
    pid_t pid = 0;
    int fd = control_listen(path, &pid);

    if (fd < 0 && pid > 0)
        running_already(pid, why, n);
    else if (fd < 0)
        snprintf(why, n, "%s", strerror(errno));
    return fd;
}

/* Where a folder knows no locks, as on some networks, nobody is kept away. */
static int
state_dir_make(const char *path, char *why, size_t n)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        snprintf(why, n, "%s", strerror(errno));
    else if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        snprintf(why, n, "another server keeps its state there");
        close(fd);
        fd = -1;
    }
    return fd;
}

static int
outside_make(struct master *ma, enum outside_kind kind, const char *path, char *why, size_t n)
{
    static int (*const make[])(const char *path, char *why, size_t n) = {
        control_make, pid_file_make, state_dir_make};
    struct outside *next = &ma->next[kind];

    if (path[0] == '\0' || same(&ma->placed[kind], path) || same(next, path))
        return 0;
    if (is_file_of(&ma->placed[kind], path)) { /* it would lose its lock or its place */
        snprintf(why, n, "it is the one in use, %s, by another name", ma->placed[kind].path);
        return -1;
    }
    outside_remove(next);
    next->fd = make[kind](path, why, n);
    if (next->fd < 0)
        return -1;
    snprintf(next->path, sizeof next->path, "%s", path);
    return 0;
}

void
operator_prepare(struct master *ma, const struct generation *g, enum outside_kind kind,
                 const char *path)
{
    char why[256] = "";
    struct message m;

    if (g == ma->reload.g || ma->serving == NULL)
        outside_make(ma, kind, path, why, sizeof why);
    message_make(&m, MSG_PLACED, why);
    generation_send(g, &m, -1);
}

void
operator_forget(struct master *ma)
{
    int kind;

    for (kind = 0; kind < OUTSIDE_KINDS; kind++)
        outside_remove(&ma->next[kind]);
}

/* Who comes back after a reload that nobody confirmed may find its old place taken. */
static void
outside_place(struct master *ma, enum outside_kind kind, const char *path)
{
    struct outside *now = &ma->placed[kind], *next = &ma->next[kind];
    char why[256] = "";

    if (same(now, path))
        return;
    if (outside_make(ma, kind, path, why, sizeof why) != 0) {
        sl_log(SL_ERROR, "SL0242", "%s %s: %s; it stays at %s", rows[kind], path, why, now->path);
        return;
    }
    outside_remove(now);
    *now = *next;
    next->fd = -1;
    next->path[0] = '\0';
}

/* ---- the error log ---- */

void
operator_log_open(const struct generation *g)
{
    int error = log_open(g->error_log, (enum log_format)g->log_format, &log_levels_default);

    if (error != 0)
        sl_log(SL_ERROR, "SL0244", "ErrorLog %s: %s; messages go where they went", g->error_log,
               strerror(error));
}

void
operator_apply(struct master *ma, const struct generation *g)
{
    operator_log_open(g);
    outside_place(ma, OUTSIDE_PID_FILE, g->pid_file);
    outside_place(ma, OUTSIDE_CONTROL, g->control);
    outside_place(ma, OUTSIDE_STATE_DIR, g->state_dir);
}

/* ---- the process that started a daemon waits for one byte ---- */

static void
starter_tell(struct master *ma, char status)
{
    if (ma->starter < 0)
        return;
    if (write(ma->starter, &status, 1) != 1)
        sl_log(SL_WARN, "SL0243", "who started this server did not wait for it");
    close(ma->starter);
    ma->starter = -1;
}

int
operator_split(struct master *ma)
{
    int pair[2];
    char status = 1;
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
        fprintf(stderr, "sluice: cannot start: %s\n", strerror(errno));
        return 1;
    }
    if (pid == 0) {
        close(pair[0]);
        ma->starter = pair[1];
        setsid();
        return -1;
    }
    close(pair[1]);
    if (read(pair[0], &status, 1) != 1)
        status = 1;
    close(pair[0]);
    return status;
}

void
operator_ready(struct master *ma)
{
    if (ma->starter >= 0)
        streams_close(STDIN_FILENO);
    starter_tell(ma, 0);
}

void
operator_end(struct master *ma)
{
    int i;

    starter_tell(ma, 1);
    operator_forget(ma);
    for (i = 0; i < OUTSIDE_KINDS; i++)
        outside_remove(&ma->placed[i]);
    for (i = 0; i < ma->n_stoppers; i++) {
        control_print(ma->stoppers[i], "%s\n", ma->status == 0 ? "stopped"
                      : "stopped, after a worker had to be killed: the error log says why");
        control_exit(&ma->stoppers[i], 0);
    }
}
