/* Files a line names: read once, and kept with the line from then on, so that a process that
 * takes the place of a crashed one depends on no file that may have changed since. */
#include "config/load.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *
sl_cmd_path(const struct sl_cmd *cmd, const char *path)
{
    const char *place = cmd->line->place, *slash = strrchr(place, '/');

    if (*path == '/' || slash == NULL)
        return path;
    return apr_pstrcat(cmd->c->pool, apr_pstrmemdup(cmd->c->pool, place, (size_t)(slash - place + 1)),
                       path, NULL);
}

static const char *
file_read(struct sl_cmd *cmd, const char *path, int fd, size_t max, struct sl_span *bytes)
{
    struct stat st;
    char *to;
    ssize_t k = 1;
    size_t n = 0;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return sl_cmd_error(cmd, "expected a file, found %s, which is something else", path);
    if ((size_t)st.st_size > max)
        return sl_cmd_error(cmd, "expected a file of at most %lu bytes, found %s with %lld",
                            (unsigned long)max, path, (long long)st.st_size);
    to = apr_palloc(cmd->c->pool, (size_t)st.st_size + 1);
    while (n < (size_t)st.st_size && (k = read(fd, to + n, (size_t)st.st_size - n)) > 0)
        n += (size_t)k;
    if (k < 0)
        return sl_cmd_error(cmd, "expected a file that can be read, found %s: %s", path,
                            strerror(errno));
    to[n] = '\0';
    *bytes = (struct sl_span){to, n};
    return NULL;
}

const char *
sl_cmd_file(struct sl_cmd *cmd, const char *name, size_t max, struct sl_span *bytes)
{
    struct conf_line *line = (struct conf_line *)(uintptr_t)cmd->line;
    const char *path = sl_cmd_path(cmd, name), *err;
    int fd;

    if (line->file.at == NULL) {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            return sl_cmd_error(cmd, "expected a file that can be read, found %s: %s", path,
                                strerror(errno));
        err = file_read(cmd, path, fd, max, &line->file);
        close(fd);
        if (err != NULL)
            return err;
    }
    *bytes = line->file;
    return NULL;
}

const char *
sl_cmd_status(struct sl_cmd *cmd, int i, struct sl_statuses *set)
{
    const char *word = sl_cmd_arg(cmd, i);
    int status = word != NULL && strlen(word) == 3 ? atoi(word) : 0;

    if (status < SL_STATUS_FIRST || status > SL_STATUS_LAST)
        return "expected a status between 400 and 599";
    set->bits[(status - SL_STATUS_FIRST) / 64] |= (uint64_t)1 << (status - SL_STATUS_FIRST) % 64;
    return NULL;
}
