/* See control.h. */
#include "master/control.h"

#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define GREETING "sluice-control"
#define PATIENCE_MS 1000
#define NUMBER_MAX 1000000000L /* eleven days in ms */

static int
address_of(const char *path, struct sockaddr_un *a)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof a->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(a->sun_path, path, strlen(path) + 1);
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* Who listens at path; 0: nobody. */
static pid_t
listening_at(const char *path)
{
    struct sockaddr_un a;
    struct ucred who = {0, 0, 0};
    socklen_t n = sizeof who;
    int fd = address_of(path, &a);

    if (fd < 0)
        return 0;
    fcntl(fd, F_SETFL, O_NONBLOCK); /* one that does not accept is there all the same */
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EAGAIN)
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n);
    close(fd);
    return who.pid;
}

int
control_listen(const char *path, pid_t *taken_by)
{
    struct sockaddr_un a;
    struct stat st;
    int fd;
    mode_t mask;

    *taken_by = listening_at(path);
    if (*taken_by > 0) {
        errno = EADDRINUSE;
        return -1;
    }
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    fd = address_of(path, &a);
    if (fd < 0)
        return -1;
    fcntl(fd, F_SETFL, O_NONBLOCK); /* a client may be gone before it is accepted */
    mask = umask(0177);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 16) == 0) {
        umask(mask);
        return fd;
    }
    umask(mask);
    close(fd);
    return -1;
}

/* A line, or the beginning of one that does not fit, within a second in all: the master has
 * nothing else to do it with.  0 or -1. */
static int
read_line(int fd, char *line, size_t n)
{
    int64_t until = monotonic_ms() + PATIENCE_MS, left;
    struct pollfd p = {fd, POLLIN, 0};
    size_t used = 0;

    while (used + 1 < n && (left = until - monotonic_ms()) > 0 && poll(&p, 1, (int)left) > 0) {
        ssize_t k = read(fd, line + used, n - 1 - used);

        if (k <= 0)
            return -1;
        used += (size_t)k;
        line[used] = '\0';
        if (memchr(line, '\n', used) != NULL)
            return 0;
    }
    return used + 1 == n ? 0 : -1;
}

int
control_accept(int listener, char *text, size_t n)
{
    struct timeval patience = {1, 0};
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), version = 0, used = 0;
    char line[CONTROL_TAKEN_MAX];

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (read_line(fd, line, sizeof line) != 0) {
        close(fd);
        return -1;
    }
    if (sscanf(line, GREETING " %d%*1[ ]%n", &version, &used) == 1 && used > 0 &&
        version == CONTROL_VERSION) {
        snprintf(text, n, "%s", line + used);
        return fd;
    }
    control_print(fd, "this server speaks " GREETING " %d\n", CONTROL_VERSION);
    control_exit(&fd, 2);
    return -1;
}

void
control_print(int client, const char *fmt, ...)
{
    va_list args;
    char *text;
    int n, done = 0;

    if (client < 0)
        return;
    va_start(args, fmt);
    n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0)
        return;
    while (done < n) {
        ssize_t k = send(client, text + done, (size_t)(n - done), MSG_NOSIGNAL);

        if (k <= 0)
            break;
        done += (int)k;
    }
    free(text);
}

void
control_exit(int *client, int status)
{
    if (*client < 0)
        return;
    control_print(*client, "exit %d\n", status);
    close(*client);
    *client = -1;
}

long
control_number(const char *text, const char *name, long fallback)
{
    const char *at = strstr(text, name);
    size_t n = strlen(name);
    long value;

    if (at == NULL || at == text || at[-1] != ' ' || at[n] != '=')
        return fallback;
    value = atol(at + n + 1);
    return value < 0 ? 0 : value > NUMBER_MAX ? NUMBER_MAX : value;
}

/* Prints the answer until it ends, or the time does: *status is its exit status, which the last
 * line has; a line like that before it is text. */
static int
answer_print(int fd, int64_t until, int *status)
{
    struct pollfd p = {fd, POLLIN, 0};
    char text[4096];
    size_t used = 0;
    int is_begun = 0; /* the line at text is the rest of one */

    for (;;) {
        int64_t left = until - monotonic_ms();
        ssize_t k;
        char *end;

        if (until > 0 && (left <= 0 || poll(&p, 1, left > 3600000 ? 3600000 : (int)left) == 0)) {
            if (left > 0)
                continue;
            return -1;
        }
        k = read(fd, text + used, sizeof text - 1 - used);
        if (k <= 0)
            return 0;
        used += (size_t)k;
        text[used] = '\0';
        while ((end = strchr(text, '\n')) != NULL || used + 1 == sizeof text) {
            size_t n = end != NULL ? (size_t)(end - text) + 1 : used;

            if (*status != CONTROL_NOBODY) {
                printf("exit %d\n", *status);
                *status = CONTROL_NOBODY;
            }
            if (is_begun || sscanf(text, "exit %d", status) != 1)
                fwrite(text, 1, n, stdout);
            is_begun = end == NULL;
            memmove(text, text + n, used - n + 1);
            used -= n;
        }
        fflush(stdout);
    }
}

int
control_command(const char *path, const char *text, int64_t ms)
{
    struct sockaddr_un a;
    int fd = address_of(path, &a), status = CONTROL_NOBODY, rc;

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        fprintf(stderr, "sluice: no server answers at %s: %s\n", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return CONTROL_NOBODY;
    }
    control_print(fd, GREETING " %d %s\n", CONTROL_VERSION, text);
    rc = answer_print(fd, ms > 0 ? monotonic_ms() + ms : 0, &status);
    close(fd);
    if (rc != 0) {
        fprintf(stderr, "sluice: the server has not done it within %lld ms; it goes on\n",
                (long long)ms);
        return 1;
    }
    if (status == CONTROL_NOBODY)
        fprintf(stderr, "sluice: the server ended before its answer did\n");
    return status;
}
