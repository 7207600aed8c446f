/* The error log: one line a message, one write a line, from any thread. */
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static const char *const level_names[] = {"error", "warn", "notice", "info", "debug", "trace"};

static atomic_int log_level = SL_NOTICE;
static atomic_int log_fd = STDERR_FILENO;
static atomic_int is_syslog;

int
log_open(const char *where, enum sl_level level)
{
    int fd = STDERR_FILENO, before, to_syslog = strcmp(where, "syslog") == 0;

    if (to_syslog)
        openlog("sluice", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    else if (strcmp(where, "stderr") != 0)
        fd = open(where, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return errno;
    atomic_store(&log_level, (int)level);
    before = atomic_exchange(&log_fd, fd);
    atomic_store(&is_syslog, to_syslog);
    if (before != STDERR_FILENO)
        close(before);
    return 0;
}

void
log_close(void)
{
    int fd = atomic_exchange(&log_fd, STDERR_FILENO);

    if (fd != STDERR_FILENO)
        close(fd);
}

int
log_descriptor(void)
{
    return atomic_load(&is_syslog) ? -1 : atomic_load(&log_fd);
}

int
sl_log_wants(enum sl_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

static size_t
log_stamp(char *to, size_t n)
{
    struct timespec t;
    struct tm tm;
    size_t used;

    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    used = strftime(to, n, "%Y-%m-%dT%H:%M:%S", &tm);
    return used + (size_t)snprintf(to + used, n - used, ".%03ldZ", t.tv_nsec / 1000000);
}

/* What a client sent may be quoted in a message: nothing of it may forge a line. */
static size_t
log_plain(char *text, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    return n;
}

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG,
                                     LOG_DEBUG};
    char line[LINE_MAX_BYTES];
    size_t n = 0, head, room;
    int k;
    va_list args;

    if (!sl_log_wants(level))
        return;
    if (!atomic_load(&is_syslog))
        n = log_stamp(line, sizeof line);
    n += (size_t)snprintf(line + n, sizeof line - n, " %s %s ", level_names[level], id);
    head = n;
    room = sizeof line - n - 1;
    va_start(args, fmt);
    k = vsnprintf(line + n, room, fmt, args);
    va_end(args);
    n += k < 0 ? 0 : (size_t)k < room ? (size_t)k : room - 1;
    log_plain(line + head, n - head);
    if (atomic_load(&is_syslog)) {
        line[n] = '\0';
        syslog(priorities[level], "%s", line + 1);
        return;
    }
    line[n++] = '\n';
    if (write(atomic_load(&log_fd), line, n) < 0)
        return; /* there is nobody left to tell */
}
