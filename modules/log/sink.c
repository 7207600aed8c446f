/* A sink has one buffer a thread: no lock, and one write(2) of whole lines when the buffer
 * is full or a second has passed.  The file is opened for appending, so lines of several
 * threads do not mix. */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_ROOM 16384 /* a longer line is cut by its writer */
#define COMPLAIN_MS 60000

struct out {
    struct sl_timer timer; /* flushes */
    struct sink *sink;
    char *buf;
    size_t n;
    int64_t complained_ms;
    char pad[64];
};

struct sink {
    const char *where, *place;
    int fd;
    int is_syslog;
    size_t size;
    int64_t flush_ms;
    unsigned n_outs;
    struct out *outs;
};

static int lost; /* a counter */

int
sinks_init(void)
{
    lost = sl_counter("access_log_lines_lost", "lines of access logs that could not be written");
    return lost < 0 ? -1 : 0;
}

struct sink *
sink_make(apr_pool_t *pool, const char *where, const char *place, int64_t buffer,
          int64_t flush_ms)
{
    struct sink *s = apr_pcalloc(pool, sizeof *s);

    s->where = where;
    s->place = place;
    s->fd = -1;
    s->size = (size_t)buffer;
    s->flush_ms = flush_ms;
    return s;
}

const char *
sink_where(const struct sink *s)
{
    return s->where;
}

const char *
sink_place(const struct sink *s)
{
    return s->place;
}

int
sink_check(const struct sink *s)
{
    const char *slash = strrchr(s->where, '/');
    char folder[PATH_MAX];
    struct stat st;

    if (slash == NULL || slash == s->where)
        return 0;
    if ((size_t)(slash - s->where) >= sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(folder, s->where, (size_t)(slash - s->where));
    folder[slash - s->where] = '\0';
    if (stat(folder, &st) != 0)
        return -1;
    errno = S_ISDIR(st.st_mode) ? EISDIR : ENOTDIR;
    return S_ISDIR(st.st_mode) && (stat(s->where, &st) != 0 || !S_ISDIR(st.st_mode)) ? 0 : -1;
}

static int
sink_open_file(const char *where)
{
    if (strcmp(where, "stdout") == 0)
        return STDOUT_FILENO;
    if (strcmp(where, "stderr") == 0)
        return STDERR_FILENO;
    return sl_log_file(where);
}

int
sink_open(struct sink *s, unsigned n_threads)
{
    unsigned i;

    s->is_syslog = strcmp(s->where, "syslog") == 0;
    if (!s->is_syslog && (s->fd = sink_open_file(s->where)) < 0)
        return -1;
    s->outs = calloc(n_threads, sizeof *s->outs);
    for (i = 0; s->outs != NULL && i < n_threads; i++) {
        s->outs[i].sink = s;
        s->outs[i].timer.due = INT64_MAX;
        s->outs[i].buf = malloc(s->size + LINE_ROOM);
        if (s->outs[i].buf == NULL)
            break;
        s->n_outs++;
    }
    if (s->n_outs == n_threads)
        return 0;
    errno = ENOMEM;
    return -1;
}

static void
out_syslog(struct out *o)
{
    char *p = o->buf, *end = o->buf + o->n, *stop;

    for (; p < end; p = stop + 1) {
        stop = memchr(p, '\n', (size_t)(end - p));
        syslog(LOG_INFO | LOG_LOCAL0, "%.*s", (int)(stop - p), p);
    }
}

static int64_t
n_lines(const char *at, size_t n)
{
    const char *end = at + n;
    int64_t lines = 0;

    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL && ++at <= end)
        lines++;
    return lines;
}

static void
out_failed(struct out *o, struct sl_loop *loop, size_t done)
{
    int error = errno;

    sl_count(loop, lost, n_lines(o->buf + done, o->n - done));
    if (sl_loop_now(loop) - o->complained_ms <= COMPLAIN_MS)
        return;
    o->complained_ms = sl_loop_now(loop);
    sl_log(SL_ERROR, "LOG0002", "AccessLog %s: %s; %lld lines of access logs have been lost so far",
           o->sink->where, strerror(error), (long long)sl_counter_sum(lost));
}

static void
out_flush(struct out *o, struct sl_loop *loop)
{
    size_t done = 0;

    if (o->sink->is_syslog)
        out_syslog(o);
    while (!o->sink->is_syslog && done < o->n) {
        ssize_t k = write(o->sink->fd, o->buf + done, o->n - done);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0) {
            out_failed(o, loop, done);
            break;
        }
        done += (size_t)k;
    }
    o->n = 0;
}

static void
out_late(struct sl_loop *loop, struct sl_timer *timer)
{
    out_flush((struct out *)(void *)timer, loop);
}

char *
sink_room(struct sink *s, struct sl_loop *loop, size_t n)
{
    struct out *o = &s->outs[sl_loop_index(loop)];

    if (o->n + n > s->size + LINE_ROOM)
        out_flush(o, loop);
    return o->buf + o->n;
}

void
sink_wrote(struct sink *s, struct sl_loop *loop, char *end)
{
    struct out *o = &s->outs[sl_loop_index(loop)];
    int was_empty = o->n == 0;

    o->n = (size_t)(end - o->buf);
    if (o->n >= s->size)
        out_flush(o, loop);
    else if (was_empty) {
        o->timer.fn = out_late;
        sl_timer_set(loop, &o->timer, sl_loop_now(loop) + s->flush_ms);
    }
}

void
sink_close(struct sink *s, struct sl_worker *w)
{
    unsigned i;

    for (i = 0; i < s->n_outs; i++) {
        sl_timer_unlink(&s->outs[i].timer);
        out_flush(&s->outs[i], sl_worker_loop(w, i));
        free(s->outs[i].buf);
    }
    free(s->outs);
    s->outs = NULL;
    s->n_outs = 0;
    if (s->fd > STDERR_FILENO)
        close(s->fd);
}
