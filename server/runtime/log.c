/* The error log: one line a message, one write a line, from any thread.
 *
 * A line is put together by functions that a signal handler may call, so that the last words of
 * a process look like all others. */
#include "runtime/log.h"

#include "runtime/append.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192
#define TEXT_MAX_BYTES 4096 /* of a message */
#define HOST_MAX 256
#define PATH_MAX_BYTES 256
#define METHOD_MAX 32

static const char *const level_names[] = {"error", "warn", "notice", "info", "debug", "trace"};

const struct log_levels log_levels_default = {SL_NOTICE, SL_NOTICE, 0, NULL};

static _Atomic(const struct log_levels *) log_levels = &log_levels_default;
static atomic_int log_most = SL_NOTICE;
static atomic_int log_fd = STDERR_FILENO;
static atomic_int is_syslog, is_json;

/* ---- which messages ---- */

int
log_levels_want(const struct log_levels *levels, enum sl_level level, const char *module)
{
    unsigned i;

    for (i = 0; i < levels->n; i++)
        if (strcmp(levels->of[i].module, module) == 0)
            return level <= levels->of[i].level;
    return level <= levels->level;
}

#define ID_DIGITS 4

static int
id_is_of(const char *id, const char *module)
{
    const char *end = id + strlen(id) - ID_DIGITS;

    if (strcmp(module, "core") == 0)
        module = "sl";
    for (; id < end; id++, module++) {
        while (*module == '_')
            module++;
        if (tolower((unsigned char)*id) != *module)
            return 0;
    }
    return *module == '\0';
}

int
log_levels_want_id(const struct log_levels *levels, enum sl_level level, const char *id)
{
    unsigned i;

    for (i = 0; i < levels->n; i++)
        if (id_is_of(id, levels->of[i].module))
            return level <= levels->of[i].level;
    return level <= levels->level;
}

int
sl_log_wants(enum sl_level level)
{
    return (int)level <= atomic_load_explicit(&log_most, memory_order_relaxed);
}

/* ---- where to ---- */

void
log_open_syslog(void)
{
    openlog("sluice", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

int
log_open(const char *where, enum log_format format, const struct log_levels *levels)
{
    int fd = STDERR_FILENO, before, to_syslog = strcmp(where, "syslog") == 0;

    if (to_syslog)
        log_open_syslog();
    else if (strcmp(where, "stderr") != 0)
        fd = append_open(where);
    if (fd < 0)
        return errno;
    atomic_store(&log_levels, levels);
    atomic_store(&log_most, (int)levels->most);
    before = atomic_exchange(&log_fd, fd);
    atomic_store(&is_syslog, to_syslog);
    atomic_store(&is_json, format == LOG_AS_JSON);
    if (before != STDERR_FILENO)
        close(before);
    return 0;
}

void
log_raise(enum sl_level most)
{
    if (!sl_log_wants(most))
        atomic_store(&log_most, (int)most);
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

/* ---- a line ---- */

struct line {
    char *at, *end; /* end leaves room for what closes the line */
};

static void
put(struct line *l, struct sl_span s)
{
    size_t room = (size_t)(l->end - l->at), n = s.n < room ? s.n : room;

    if (n > 0)
        memcpy(l->at, s.at, n);
    l->at += n;
}

static void
put_text(struct line *l, const char *text)
{
    put(l, sl_span(text));
}

static void
put_digits(struct line *l, int64_t value, unsigned width)
{
    char digits[20];
    unsigned i = sizeof digits;

    while (i > 0 && (value > 0 || sizeof digits - i < width)) {
        digits[--i] = (char)('0' + value % 10);
        value /= 10;
    }
    put(l, (struct sl_span){digits + i, sizeof digits - i});
}

/* What a client sent may be quoted in a message: nothing of it may forge a line. */
static void
put_plain(struct line *l, struct sl_span s)
{
    char *at = l->at;

    put(l, s);
    for (; at < l->at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
}

/* UTC.  Months are counted from March of a year that then begins with it: the leap day is its
 * last, and the days of the months repeat every five. */
static void
put_stamp(struct line *l)
{
    struct timespec t;
    int64_t days, of_era, year, of_year, month, s;

    clock_gettime(CLOCK_REALTIME, &t);
    days = t.tv_sec / 86400 + 719468; /* since 0000-03-01 */
    s = t.tv_sec % 86400;
    of_era = days % 146097;
    year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    of_year = of_era - (365 * year + year / 4 - year / 100);
    month = (5 * of_year + 2) / 153;
    put_digits(l, days / 146097 * 400 + year + (month >= 10), 4);
    put_text(l, "-");
    put_digits(l, month < 10 ? month + 3 : month - 9, 2);
    put_text(l, "-");
    put_digits(l, of_year - (153 * month + 2) / 5 + 1, 2);
    put_text(l, "T");
    put_digits(l, s / 3600, 2);
    put_text(l, ":");
    put_digits(l, s / 60 % 60, 2);
    put_text(l, ":");
    put_digits(l, s % 60, 2);
    put_text(l, ".");
    put_digits(l, t.tv_nsec / 1000000, 3);
    put_text(l, "Z");
}

static struct sl_span
cut(struct sl_span s, size_t max)
{
    return (struct sl_span){s.at, s.n < max ? s.n : max};
}

static void
put_about(struct line *l, const struct log_about *about)
{
    put_text(l, "[");
    put(l, about->request);
    put_text(l, "] ");
    if (about->client.n == 0)
        return;
    put_text(l, "client ");
    put_plain(l, about->client);
    put_text(l, " host ");
    put_plain(l, cut(about->host, HOST_MAX));
    put_text(l, " \"");
    put_plain(l, cut(about->method, METHOD_MAX));
    put_text(l, " ");
    put_plain(l, cut(about->path, PATH_MAX_BYTES));
    put_text(l, "\": ");
}

static void
put_as_text(struct line *l, enum sl_level level, const char *id, const struct log_about *about,
            struct sl_span text)
{
    put_text(l, level_names[level]);
    put_text(l, " ");
    put_text(l, id);
    put_text(l, " ");
    if (about != NULL)
        put_about(l, about);
    put_plain(l, text);
}

#define MEMBER_LEAST 64 /* room below which a member is left out: a line stays an object */

static void
put_member(struct line *l, const char *name, struct sl_span value)
{
    if (value.n == 0 || l->end - l->at < MEMBER_LEAST)
        return;
    put_text(l, ",\"");
    put_text(l, name);
    put_text(l, "\":");
    l->at = sl_json_string(l->at, l->end, value);
}

static void
put_as_json(struct line *l, enum sl_level level, const char *id, const struct log_about *about,
            struct sl_span text)
{
    put_text(l, "{\"time\":\"");
    put_stamp(l);
    put_text(l, "\",\"level\":\"");
    put_text(l, level_names[level]);
    put_text(l, "\",\"id\":\"");
    put_text(l, id);
    put_text(l, "\",\"pid\":");
    put_digits(l, getpid(), 1);
    if (about != NULL) {
        put_member(l, "request", about->request);
        put_member(l, "client", about->client);
        put_member(l, "host", cut(about->host, HOST_MAX));
        put_member(l, "method", cut(about->method, METHOD_MAX));
        put_member(l, "path", cut(about->path, PATH_MAX_BYTES));
    }
    put_member(l, "message", text);
    *l->at++ = '}';
}

/* The length of the line, without an end: there is room for a newline or NUL. */
static size_t
line_make(char *bytes, const struct log_sink *sink, enum sl_level level, const char *id,
          const struct log_about *about, struct sl_span text)
{
    struct line l = {bytes, bytes + LINE_MAX_BYTES - 2};

    if (sink->format == LOG_AS_JSON)
        put_as_json(&l, level, id, about, text);
    else {
        if (sink->fd >= 0) { /* syslog has its own */
            put_stamp(&l);
            put_text(&l, " ");
        }
        put_as_text(&l, level, id, about, text);
    }
    return (size_t)(l.at - bytes);
}

static void
write_file(const struct log_sink *sink, enum sl_level level, const char *id,
           const struct log_about *about, struct sl_span text)
{
    char bytes[LINE_MAX_BYTES];
    size_t n = line_make(bytes, sink, level, id, about, text);

    bytes[n++] = '\n';
    if (write(sink->fd, bytes, n) < 0)
        return; /* there is nobody left to tell */
}

void
log_write_to(const struct log_sink *sink, enum sl_level level, const char *id,
             const struct log_about *about, struct sl_span text)
{
    static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG,
                                     LOG_DEBUG};
    char bytes[LINE_MAX_BYTES];

    if (sink->fd >= 0) {
        write_file(sink, level, id, about, text);
        return;
    }
    bytes[line_make(bytes, sink, level, id, about, text)] = '\0';
    syslog(priorities[level], "%s", bytes);
}

static struct log_sink
own_sink(void)
{
    return (struct log_sink){log_descriptor(), atomic_load(&is_json) ? LOG_AS_JSON : LOG_AS_TEXT};
}

void
log_write_last(enum sl_level level, const char *id, const struct log_about *about,
               struct sl_span text)
{
    struct log_sink sink = own_sink();

    if (sink.fd < 0)
        sink.fd = STDERR_FILENO;
    write_file(&sink, level, id, about, text);
}

void
log_write(enum sl_level level, const char *id, const struct log_about *about, struct sl_span text)
{
    struct log_sink sink = own_sink();

    log_write_to(&sink, level, id, about, text);
}

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    char text[TEXT_MAX_BYTES];
    va_list args;

    if (!sl_log_wants(level) || !log_levels_want_id(atomic_load(&log_levels), level, id))
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    log_write(level, id, NULL, sl_span(text));
}
