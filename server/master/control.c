/* See control.h. */
#include "master/control.h"

#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define GREETING "sluice-control"
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
    if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 64) == 0) {
        umask(mask);
        return fd;
    }
    umask(mask);
    close(fd);
    return -1;
}

const char *
control_line_command(const char *line)
{
    int version = 0, used = 0;

    return sscanf(line, GREETING " %d%*1[ ]%n", &version, &used) == 1 && used > 0 &&
                   version == CONTROL_VERSION ? line + used : NULL;
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

/* Whether it arrived shows in the answer. */
static void
command_write(int fd, const char *text)
{
    char *line;
    int n = asprintf(&line, GREETING " %d %s\n", CONTROL_VERSION, text), done = 0;
    ssize_t k = 1;

    while (done < n && (k = send(fd, line + done, (size_t)(n - done), MSG_NOSIGNAL)) > 0)
        done += (int)k;
    if (n >= 0)
        free(line);
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
    command_write(fd, text);
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
