/* A backend that costs next to nothing, so that the proxy before it is what is measured.
 *
 *     origin PORT
 *
 * Answers GET /N with N bytes on 127.0.0.1:PORT, keep-alive unless the request says
 * "Connection: close".  One thread, no parsing beyond the path and the end of the head;
 * heads are taken to come whole, as they do from the proxies measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGEST = 64 << 20, CONNECTIONS = 16384 };

struct connection {
  size_t left;    /* bytes of the answer not sent yet; its tail is what follows */
  bool close;     /* after this answer */
};

static struct connection conns[CONNECTIONS];
static char *answer;    /* room for a head, then LARGEST bytes of body */
enum { HEAD = 128 };

static void finish(int ep, int fd)
{
  epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
  close(fd);
}

/* Sends what is left; true while the connection lives. */
static bool flush(int ep, int fd)
{
  struct connection *c = &conns[fd];
  while (c->left > 0) {
    ssize_t n = send(fd, answer + HEAD + LARGEST - c->left, c->left, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN)
      return true;
    if (n <= 0) {
      finish(ep, fd);
      return false;
    }
    c->left -= (size_t)n;
  }
  if (c->close)
    finish(ep, fd);
  return !c->close;
}

/* Head and body leave in one send: the head is written into the bytes before the body. */
static bool respond(int ep, int fd, const char *request)
{
  const char *path = strchr(request, '/');
  size_t size = path ? strtoul(path + 1, NULL, 10) : 0;
  if (size > LARGEST)
    size = 0;
  conns[fd].close = strcasestr(request, "\nconnection: close") != NULL;
  char head[HEAD];
  int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", size);
  char *at = answer + HEAD + LARGEST - size - (size_t)n;
  memcpy(at, head, (size_t)n);
  ssize_t sent = send(fd, at, size + (size_t)n, MSG_NOSIGNAL);
  memset(at, 'x', (size_t)n);
  if (sent < n) {
    finish(ep, fd);    /* a socket that cannot take a head was closed by its peer */
    return false;
  }
  conns[fd].left = size - (size_t)(sent - n);
  return flush(ep, fd);
}

static void serve(int ep, int fd)
{
  char request[16384];
  ssize_t n = recv(fd, request, sizeof request - 1, 0);
  if (n <= 0) {
    if (n == 0 || errno != EAGAIN)
      finish(ep, fd);
    return;
  }
  request[n] = 0;
  for (char *p = request, *end; (end = strstr(p, "\r\n\r\n")); p = end + 4)
    if (!respond(ep, fd, p))
      return;
}

static int listen_on(int port)
{
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) {
    perror("origin");
    exit(1);
  }
  return fd;
}

static void watch(int ep, int fd)
{
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.fd = fd};
  if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)) {
    perror("origin");
    exit(1);
  }
}

static void welcome(int ep, int listener)
{
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= CONNECTIONS) {
      close(fd);
      continue;
    }
    conns[fd] = (struct connection){0};
    watch(ep, fd);
  }
}

int main(int argc, char **argv)
{
  if (argc != 2) {
    fprintf(stderr, "usage: %s PORT\n", argv[0]);
    return 2;
  }
  answer = malloc(HEAD + LARGEST);
  if (!answer)
    return 1;
  memset(answer, 'x', HEAD + LARGEST);
  int listener = listen_on(atoi(argv[1])), ep = epoll_create1(0);
  watch(ep, listener);
  for (;;) {
    struct epoll_event events[256];
    int n = epoll_wait(ep, events, 256, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener)
        welcome(ep, fd);
      else if (conns[fd].left == 0 || flush(ep, fd))
        if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
          serve(ep, fd);
    }
  }
}
