/* See override_file.h. */
#include "runtime/override_file.h"

#include <apr_strings.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME "overrides"
#define NEXT_NAME "overrides.next"
#define FILE_MOST (16 << 20)
#define TIME_FORMAT "%Y-%m-%dT%H:%M:%SZ"

/* ---- reading ---- */

/* Eats `text` at *at: 1, or 0 and nothing. */
static int
eat(char **at, const char *text)
{
    size_t n = strlen(text);

    if (strncmp(*at, text, n) != 0)
        return 0;
    *at += n;
    return 1;
}

static int
hex(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* A text in quotes, read in place; NULL: there is none. */
static char *
eat_quoted(char **at)
{
    char *text = *at + 1, *to = text, *from;

    if (**at != '"')
        return NULL;
    for (from = text; *from != '"'; from++) {
        if ((unsigned char)*from < ' ')
            return NULL;
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        if (!isxdigit((unsigned char)from[1]) || !isxdigit((unsigned char)from[2]))
            return NULL;
        *to = (char)(hex(from[1]) * 16 + hex(from[2]));
        if (*to++ == '\0')
            return NULL;
        from += 2;
    }
    *to = '\0';
    *at = from + 1;
    return text;
}

static char *
eat_word(char **at)
{
    char *word = *at;
    size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_-");

    if (n == 0 || word[n] != ' ')
        return NULL;
    word[n] = '\0';
    *at = word + n + 1;
    return word;
}

/* NULL, or what is wrong. */
static const char *
parse_line(char *at, struct sl_override *o)
{
    struct tm tm = {0};
    const char *end;

    if ((o->owner = eat_word(&at)) == NULL)
        return "expected a command's name";
    if ((o->key = eat_quoted(&at)) == NULL || !eat(&at, " says ") ||
        (o->says = eat_quoted(&at)) == NULL || !eat(&at, " of ") ||
        (o->of = eat_quoted(&at)) == NULL || !eat(&at, " at "))
        return "expected \"KEY\" says \"TEXT\" of \"TEXT\" at TIME";
    end = strptime(at, TIME_FORMAT, &tm);
    if (end == NULL || *end != '\0')
        return "expected a time such as 2026-11-25T19:16:39Z at its end";
    o->at = timegm(&tm);
    return NULL;
}

/* The next line, ended by NUL; NULL: that was all. */
static char *
next_line(char **at)
{
    char *line = *at, *end;

    if (*line == '\0')
        return NULL;
    end = line + strcspn(line, "\n");
    *at = *end == '\n' ? end + 1 : end;
    *end = '\0';
    return line;
}

apr_array_header_t *
overrides_parse(apr_pool_t *pool, char *text, const char **why)
{
    apr_array_header_t *all = apr_array_make(pool, 8, sizeof(struct sl_override));
    char *line = next_line(&text);
    struct sl_override o;
    int n;

    *why = NULL;
    if (line == NULL || strcmp(line, OVERRIDES_FORMAT) != 0)
        *why = "line 1: expected " OVERRIDES_FORMAT;
    for (n = 2; *why == NULL && (line = next_line(&text)) != NULL; n++) {
        if (line[0] == '#' || line[0] == '\0')
            continue;
        *why = all->nelts < OVERRIDES_MOST ? parse_line(line, &o) : "there are too many";
        if (*why != NULL)
            *why = apr_psprintf(pool, "line %d: %s", n, *why);
        else
            APR_ARRAY_PUSH(all, struct sl_override) = o;
    }
    return *why == NULL ? all : NULL;
}

/* Its bytes, ended by NUL; NULL with errno. */
static char *
file_bytes(apr_pool_t *pool, int fd)
{
    struct stat st = {0};
    char *text;
    ssize_t n;

    if (fstat(fd, &st) != 0)
        return NULL;
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MOST) {
        errno = EFBIG;
        return NULL;
    }
    text = apr_palloc(pool, (size_t)st.st_size + 1);
    n = pread(fd, text, (size_t)st.st_size, 0);
    if (n < 0)
        return NULL;
    text[n] = '\0';
    if (strlen(text) == (size_t)n)
        return text;
    errno = EILSEQ;
    return NULL;
}

int
overrides_open(const char *folder)
{
    int fd = -1, dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

    if (dir < 0)
        return -1;
    fd = openat(dir, NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    error = errno;
    close(dir);
    errno = error;
    return fd;
}

apr_array_header_t *
overrides_read_file(apr_pool_t *pool, int fd, const char **why)
{
    char *text = file_bytes(pool, fd);

    if (text != NULL)
        return overrides_parse(pool, text, why);
    *why = strerror(errno);
    return NULL;
}

apr_array_header_t *
overrides_read(apr_pool_t *pool, const char *folder, const char **why)
{
    int fd = overrides_open(folder);
    apr_array_header_t *all = NULL;

    *why = NULL;
    if (fd < 0 && errno == ENOENT)
        return apr_array_make(pool, 1, sizeof(struct sl_override));
    if (fd < 0)
        *why = strerror(errno);
    else {
        all = overrides_read_file(pool, fd, why);
        close(fd);
    }
    if (*why != NULL)
        *why = apr_psprintf(pool, "%s/" NAME ": %s", folder, *why);
    return all;
}

/* ---- writing ---- */

static void
put_quoted(FILE *f, const char *text)
{
    putc('"', f);
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f || *text == '"' || *text == '%')
            fprintf(f, "%%%02x", (unsigned char)*text);
        else
            putc(*text, f);
    putc('"', f);
}

const char *
override_time(apr_pool_t *pool, int64_t at)
{
    time_t seconds = (time_t)at;
    struct tm tm;
    char text[32];

    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, TIME_FORMAT, &tm);
    return apr_pstrdup(pool, text);
}

static void
put_line(apr_pool_t *pool, FILE *f, const struct sl_override *o)
{
    fprintf(f, "%s ", o->owner);
    put_quoted(f, o->key);
    fputs(" says ", f);
    put_quoted(f, o->says);
    fputs(" of ", f);
    put_quoted(f, o->of);
    fprintf(f, " at %s\n", override_time(pool, o->at));
}

/* 0 or -1 with errno; closes. */
static int
put_all(apr_pool_t *pool, FILE *f, const apr_array_header_t *all)
{
    int i, rc;

    fputs(OVERRIDES_FORMAT "\n"
          "# What sluice ctl said at run time.  Read at a start, written by the server.\n", f);
    for (i = 0; i < all->nelts; i++)
        put_line(pool, f, &APR_ARRAY_IDX(all, i, struct sl_override));
    rc = fflush(f) == 0 && fsync(fileno(f)) == 0 ? 0 : -1;
    return fclose(f) == 0 ? rc : -1;
}

/* What a server that died left is written over; a link is not followed. */
static FILE *
next_open(int folder)
{
    int fd;

    unlinkat(folder, NEXT_NAME, 0);
    fd = openat(folder, NEXT_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    return fd >= 0 ? fdopen(fd, "w") : NULL;
}

const char *
overrides_write(apr_pool_t *pool, const char *folder, const apr_array_header_t *all)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;
    FILE *f = fd >= 0 ? next_open(fd) : NULL;

    if (f == NULL || put_all(pool, f, all) != 0 || renameat(fd, NEXT_NAME, fd, NAME) != 0 ||
        fsync(fd) != 0)
        error = errno;
    if (error != 0 && f != NULL)
        unlinkat(fd, NEXT_NAME, 0);
    if (fd >= 0)
        close(fd);
    return error == 0 ? NULL : apr_psprintf(pool, "%s/" NAME ": %s", folder, strerror(error));
}
