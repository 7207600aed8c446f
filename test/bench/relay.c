/* The floor of a proxy: each client connection has one of its own to the backend, and bytes
 * are passed on as they come, unread.  relay PORT BACKEND_PORT, on 127.0.0.1, one thread.
 *
 * Nothing is kept for a peer that does not read: made for small messages on kept
 * connections only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 128

/* One direction's source; its bytes go to the other end. */
struct end {
    int fd;
    struct end *other;
};

static int epfd, listener;
static struct sockaddr_in backend;
static char bytes[65536];

static int
watch(int fd, void *what)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | (what != NULL ? EPOLLET : 0u),
                             .data.ptr = what};
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
}

static struct sockaddr_in
loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void
take_client(void)
{
    int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct end *pair = calloc(2, sizeof *pair);

    if (client < 0 || server < 0 || pair == NULL ||
        connect(server, (struct sockaddr *)&backend, sizeof backend) != 0) {
        perror("relay: a connection");
        exit(1);
    }
    pair[0] = (struct end){client, &pair[1]};
    pair[1] = (struct end){server, &pair[0]};
    watch(client, &pair[0]);
    watch(server, &pair[1]);
}

/* Both ends at once: an event of the other may still be in this turn's list, so the memory
 * stays. */
static void
end_pair(struct end *e)
{
    if (e->fd < 0)
        return;
    close(e->fd);
    close(e->other->fd);
    e->fd = e->other->fd = -1;
}

static void
pass_on(struct end *e)
{
    ssize_t n = e->fd < 0 ? -1 : recv(e->fd, bytes, sizeof bytes, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || send(e->other->fd, bytes, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
        end_pair(e);
}

int
main(int argc, char **argv)
{
    struct sockaddr_in here = loopback(argc == 3 ? argv[1] : "0");
    struct epoll_event ev[EVENTS];
    int i, n, one = 1;

    backend = loopback(argc == 3 ? argv[2] : "0");
    epfd = epoll_create1(0);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (argc != 3 || bind(listener, (struct sockaddr *)&here, sizeof here) != 0 ||
        listen(listener, 4096) != 0 || watch(listener, NULL) != 0) {
        fprintf(stderr, "usage: relay PORT BACKEND_PORT\n");
        return 1;
    }
    for (;;) {
        n = epoll_wait(epfd, ev, EVENTS, -1);
        for (i = 0; i < n; i++) {
            if (ev[i].data.ptr == NULL)
                take_client();
            else
                pass_on(ev[i].data.ptr);
        }
    }
}
