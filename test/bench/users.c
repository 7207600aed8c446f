/* Users and the servers they want, in one loop of one thread, with a proxy between.
 *
 *     users PROXY_PORT RATE CONNECTIONS SECONDS SERVER_PORT...
 *
 * RATE 0, a closed loop: each connection asks again as soon as it has its answer, so that the proxy is
 * never idle.  Else an open one: so many requests a second, at moments drawn as independent users come,
 * whatever the proxy does.  A wait begins when the request is due, not when a connection was free for
 * it, so who stalls pays for all that came meanwhile.
 *
 * One program, for several on a processor wait for one another's time slices, of some ms: the faster the
 * proxy the busier they are, and its p99 is theirs.
 *
 * GET / of 127.0.0.1:PROXY_PORT, on connections that stay; answers have 1 KiB.  The first 1.2 s do not
 * count: time for a proxy to find out which of its servers are there.  Printed, in a line: requests a
 * second, failures, and in us the median, 99 % and 99.9 % of the waits, and the longest.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"
#define WARM_NS 1200000000

enum { DESCRIPTORS = 8192, MOST = 1 << 24 };
enum role { USER, LISTENER, SERVER };

struct socket {
  enum role role;
  int64_t due;    /* of the user's request under way; 0: none */
  size_t left;    /* of its answer's body; SIZE_MAX: of the head, too */
  int is_bad;     /* not answered with 200 */
};

static struct socket sockets[DESCRIPTORS];
static int idle[DESCRIPTORS], n_idle, n_users, port, ep;
static int64_t *waits, first_due, closed_until;    /* 0: an open loop */
static size_t n_waits, n_failed;
static char answer[sizeof HEAD - 1 + 1024];

static void turn(int64_t wait_ns);

static int64_t now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
  perror(what);
  exit(1);
}

static int watched(int fd, enum role role)
{
  struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
  if (fd < 0 || fd >= DESCRIPTORS || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e))
    die("users");
  sockets[fd] = (struct socket){.role = role};
  return fd;
}

static struct sockaddr_in loopback(int at)
{
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((unsigned short)at),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int without_delay(int fd)
{
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

/* ---- servers ---- */

static void server_listen(int at)
{
  struct sockaddr_in a = loopback(at);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096))
    die("users: listen");
  watched(fd, LISTENER);
}

static void server_answer(int fd)
{
  char in[16384];
  ssize_t n = recv(fd, in, sizeof in - 1, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN)
    return;
  if (n <= 0) {
    close(fd);
    return;
  }
  in[n] = 0;
  for (char *p = in; (p = strstr(p, "\r\n\r\n")); p += 4)    /* heads come whole from all that are measured */
    send(fd, answer, sizeof answer, MSG_NOSIGNAL);
}

/* ---- users ---- */

/* The proxy may be about to start. */
static void user_open(void)
{
  struct sockaddr_in a = loopback(port);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  for (int i = 0; connect(fd, (struct sockaddr *)&a, sizeof a); i++) {
    if (i == 500)
      die("users: connect");
    turn(10000000);
  }
  idle[n_idle++] = watched(without_delay(fd), USER);
}

static void user_count(const struct socket *s, int failed, int64_t now)
{
  if (s->due - first_due < WARM_NS)
    return;
  n_failed += (size_t)failed;
  if (n_waits < MOST)
    waits[n_waits++] = now - s->due;
}

static void user_replace(int fd)
{
  if (sockets[fd].due)
    user_count(&sockets[fd], 1, now_ns());
  for (int i = 0; i < n_idle; i++)
    if (idle[i] == fd)
      idle[i] = idle[--n_idle];
  close(fd);
  user_open();
}

static void user_ask(int64_t due)
{
  int fd = idle[--n_idle];
  sockets[fd] = (struct socket){.role = USER, .due = due, .left = SIZE_MAX};
  if (send(fd, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) < 0)
    user_replace(fd);
}

static void user_done(int fd)
{
  int64_t now = now_ns();
  user_count(&sockets[fd], sockets[fd].is_bad, now);
  sockets[fd].due = 0;
  idle[n_idle++] = fd;
  if (now < closed_until)
    user_ask(now);
}

static void user_read(int fd)
{
  char in[16384];
  struct socket *s = &sockets[fd];
  ssize_t n = recv(fd, in, sizeof in - 1, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN)
    return;
  size_t body = (size_t)n;
  if (n > 0 && s->left == SIZE_MAX) {
    in[n] = 0;
    const char *end = strstr(in, "\r\n\r\n"), *length = strcasestr(in, "\ncontent-length:");
    s->is_bad = strncmp(in + 9, "200", 3) != 0;
    s->left = end && length ? strtoul(length + 16, NULL, 10) : SIZE_MAX;
    body = end ? (size_t)(in + n - end - 4) : 0;
  }
  if (n <= 0 || s->left == SIZE_MAX) {
    user_replace(fd);
    return;
  }
  s->left -= body < s->left ? body : s->left;
  if (s->left == 0)
    user_done(fd);
}

/* ---- the loop ---- */

static void turn(int64_t wait_ns)
{
  struct epoll_event events[256];
  struct timespec t = {wait_ns / 1000000000, wait_ns % 1000000000};
  int n = epoll_pwait2(ep, events, 256, &t, NULL);
  for (int i = 0; i < n; i++) {
    int fd = events[i].data.fd;
    switch (sockets[fd].role) {
    case USER: user_read(fd); break;
    case SERVER: server_answer(fd); break;
    case LISTENER: watched(without_delay(accept(fd, NULL, NULL)), SERVER); break;
    }
  }
}

static void ask_as_they_come(int64_t end, double gap_ns)
{
  for (int64_t due = first_due, now; (now = now_ns()) < end;) {
    for (; due <= now && n_idle > 0; due += (int64_t)(-log(1 - drand48()) * gap_ns) + 1)
      user_ask(due);
    turn(n_idle == 0 ? 100000000 : due > now ? due - now : 0);
  }
}

static void ask_again_and_again(int64_t end)
{
  closed_until = end;
  while (n_idle > 0)
    user_ask(now_ns());
  while (now_ns() < end)
    turn(100000000);
}

static int by_size(const void *a, const void *b)
{
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static double quantile_us(double q)
{
  return n_waits ? (double)waits[(size_t)(q * (double)(n_waits - 1))] / 1000 : 0;
}

int main(int argc, char **argv)
{
  if (argc < 6) {
    fprintf(stderr, "usage: %s PROXY_PORT RATE CONNECTIONS SECONDS SERVER_PORT...\n", argv[0]);
    return 2;
  }
  double rate = atof(argv[2]), seconds = atof(argv[4]);
  port = atoi(argv[1]);
  n_users = atoi(argv[3]);
  waits = malloc(MOST * sizeof *waits);
  ep = epoll_create1(0);
  memset(answer, 'x', sizeof answer);
  memcpy(answer, HEAD, sizeof HEAD - 1);
  for (int i = 5; i < argc; i++)
    server_listen(atoi(argv[i]));
  for (int i = 0; i < n_users; i++)
    user_open();
  first_due = now_ns();
  int64_t end = first_due + WARM_NS + (int64_t)(seconds * 1e9);
  if (rate > 0)
    ask_as_they_come(end, 1e9 / rate);
  else
    ask_again_and_again(end);
  for (int64_t late = now_ns() + 2000000000; n_idle < n_users && now_ns() < late;)
    turn(100000000);
  n_failed += (size_t)(n_users - n_idle);
  qsort(waits, n_waits, sizeof *waits, by_size);
  printf("%.0f %zu %.0f %.0f %.0f %.0f\n", (double)n_waits / seconds, n_failed, quantile_us(.5), quantile_us(.99),
         quantile_us(.999), quantile_us(1));
  return 0;
}
