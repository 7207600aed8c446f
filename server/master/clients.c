/* See clients.h. */
#include "master/clients.h"

#include "master/control.h"
#include "runtime/clock.h"

#include "sluice/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MS 1000
#define WRITE_MS 10000
#define PAUSE_MS 100 /* without a descriptor */

enum client_state {
    CLIENT_COMES,  /* its line is being read */
    CLIENT_WAITS,  /* the line is there */
    CLIENT_TAKEN,  /* its command has it */
    CLIENT_LEAVES, /* what is left of its answer is sent */
};

struct client {
    struct client *next; /* oldest first: who came first is taken first */
    enum client_state state;
    int fd;
    int64_t until; /* ms; 0: for as long as it takes */
    char *answer;  /* what could not be sent yet; malloc()ed */
    size_t n_answer, n_line;
    char line[CONTROL_TAKEN_MAX];
};

static struct clients {
    struct client *first;
    unsigned n;
    int reserve;       /* given up to accept one more; -1: in use */
    int64_t paused_until; /* ms */
    int is_exhausted;  /* it has been logged */
} clients = {.reserve = -1};

/* ---- one client ---- */

static struct client *
client_new(int fd, enum client_state state)
{
    struct client *c = calloc(1, sizeof *c), **at = &clients.first;

    if (c == NULL)
        return NULL;
    c->fd = fd;
    c->state = state;
    while (*at != NULL)
        at = &(*at)->next;
    *at = c;
    clients.n++;
    return c;
}

static void
client_free(struct client **cp)
{
    struct client *c = *cp, **at = &clients.first;

    *cp = NULL;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    clients.n--;
    close(c->fd);
    free(c->answer);
    free(c);
}

/* One that the master before has taken is met here for the first time. */
static struct client *
client_of(int fd)
{
    struct client *c;

    for (c = clients.first; c != NULL; c = c->next)
        if (c->fd == fd)
            return c;
    return client_new(fd, CLIENT_TAKEN);
}

void
client_pass(int *client)
{
    struct client *c = client_of(*client);

    *client = -1;
    if (c != NULL)
        client_free(&c);
}

/* ---- its line ---- */

static void
client_read(struct client *c)
{
    size_t room = sizeof c->line - 1 - c->n_line;
    ssize_t k = recv(c->fd, c->line + c->n_line, room, MSG_DONTWAIT);

    if (k < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (k <= 0) {
        client_free(&c);
        return;
    }
    c->n_line += (size_t)k;
    if ((size_t)k < room && memchr(c->line, '\n', c->n_line) == NULL)
        return;
    c->state = CLIENT_WAITS;
    c->until = 0;
}

int
clients_take(char *line)
{
    struct client *c;

    for (c = clients.first; c != NULL && c->state != CLIENT_WAITS; c = c->next)
        ;
    if (c == NULL)
        return -1;
    c->state = CLIENT_TAKEN;
    memcpy(line, c->line, sizeof c->line);
    return c->fd;
}

/* ---- its answer ---- */

static void
client_write(struct client *c)
{
    ssize_t k = 1;
    size_t done = 0;

    while (done < c->n_answer &&
           (k = send(c->fd, c->answer + done, c->n_answer - done, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
        done += (size_t)k;
    if (k < 0 && errno != EAGAIN)
        done = c->n_answer; /* it has gone: nobody reads the rest */
    c->n_answer -= done;
    if (c->n_answer > 0)
        memmove(c->answer, c->answer + done, c->n_answer);
    if (c->n_answer == 0 && c->state == CLIENT_LEAVES)
        client_free(&c);
}

static void
client_say(struct client *c, const char *text, size_t n)
{
    char *more = n > 0 ? realloc(c->answer, c->n_answer + n) : NULL;

    if (more == NULL)
        return;
    memcpy(more + c->n_answer, text, n);
    c->answer = more;
    c->n_answer += n;
    client_write(c);
}

void
control_print(int client, const char *fmt, ...)
{
    struct client *c = client >= 0 ? client_of(client) : NULL;
    va_list args;
    char *text;
    int n;

    if (c == NULL)
        return;
    va_start(args, fmt);
    n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0)
        return;
    client_say(c, text, (size_t)n);
    free(text);
}

void
control_exit(int *client, int status)
{
    struct client *c = *client >= 0 ? client_of(*client) : NULL;

    control_print(*client, "exit %d\n", status);
    *client = -1;
    if (c == NULL)
        return;
    c->state = CLIENT_LEAVES;
    c->until = monotonic_ms() + WRITE_MS;
    client_write(c);
}

/* ---- all of them ---- */

static int
reserve_open(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void
clients_open(void)
{
    clients.reserve = reserve_open();
}

int
clients_may_come(int64_t now)
{
    return now >= clients.paused_until;
}

/* The one that has been coming for longest makes room.  Whether there is some. */
static int
clients_make_room(void)
{
    struct client *c;

    if (clients.n < CLIENTS_MAX)
        return 1;
    for (c = clients.first; c != NULL && c->state != CLIENT_COMES; c = c->next)
        ;
    if (c == NULL)
        return 0;
    client_free(&c);
    return 1;
}

/* The reserve lets the operator in all the same, one client at a time. */
static int
accept_one(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), error = errno;

    if (fd >= 0 || (error != EMFILE && error != ENFILE))
        return fd;
    if (!clients.is_exhausted)
        sl_log(SL_ERROR, "SL0264", "the master has no descriptor left for a client of the control "
               "socket: %s", strerror(error));
    clients.is_exhausted = 1;
    if (clients.reserve < 0) {
        errno = error;
        return -1;
    }
    close(clients.reserve);
    clients.reserve = -1;
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

void
clients_accept(int listener, int64_t now)
{
    struct client *c;
    int fd = -1;

    errno = EMFILE;
    while (clients_make_room() && (fd = accept_one(listener)) >= 0) {
        if ((c = client_new(fd, CLIENT_COMES)) == NULL)
            close(fd);
        else
            c->until = now + READ_MS;
        errno = EMFILE; /* should there be no more room */
    }
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        clients.paused_until = now + PAUSE_MS; /* it stays readable: do not turn around it */
}

static int
client_wants(const struct client *c)
{
    return c->state == CLIENT_COMES ? POLLIN : c->n_answer > 0 ? POLLOUT : 0;
}

nfds_t
clients_poll(struct pollfd *fds)
{
    const struct client *c;
    nfds_t n = 0;

    for (c = clients.first; c != NULL && n < CLIENTS_MAX; c = c->next)
        if (client_wants(c) != 0)
            fds[n++] = (struct pollfd){c->fd, (short)client_wants(c), 0};
    return n;
}

void
clients_run(int64_t now)
{
    struct client *c, *next;

    for (c = clients.first; c != NULL; c = next) {
        next = c->next;
        if (c->until > 0 && now >= c->until)
            client_free(&c);
        else if (c->state == CLIENT_COMES)
            client_read(c);
        else if (c->n_answer > 0)
            client_write(c);
    }
    if (clients.reserve < 0)
        clients.reserve = reserve_open();
    if (clients.reserve >= 0)
        clients.is_exhausted = 0;
}

int64_t
clients_next(void)
{
    int64_t at = clients.paused_until > monotonic_ms() ? clients.paused_until : 0;
    const struct client *c;

    for (c = clients.first; c != NULL; c = c->next)
        if (c->until > 0 && (at == 0 || c->until < at))
            at = c->until;
    return at;
}
