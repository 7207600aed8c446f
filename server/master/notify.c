/* See notify.h. */
#include "master/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

void
notify_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timespec t;
    char text[128];
    size_t n = path != NULL ? strlen(path) : 0;
    int fd, len;

    if (n == 0 || n >= sizeof a.sun_path || (fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
        return;
    memcpy(a.sun_path, path, n);
    if (a.sun_path[0] == '@')
        a.sun_path[0] = '\0';
    clock_gettime(CLOCK_MONOTONIC, &t);
    len = snprintf(text, sizeof text, "%s\nMONOTONIC_USEC=%lld", state,
                   (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000);
    sendto(fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&a,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}
