/* See record.h.  All strings end with NUL: the format; for each record its name, its version, keys
 * and values in turn, and an empty key. */
#include "master/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- writing ---- */

static void
put(struct records_out *out, const char *text)
{
    fwrite(text, 1, strlen(text) + 1, out->f);
}

int
records_begin(struct records_out *out)
{
    int copy;

    *out = (struct records_out){.fd = memfd_create("sluice-state", MFD_CLOEXEC)};
    copy = out->fd < 0 ? -1 : dup(out->fd);
    out->f = copy < 0 ? NULL : fdopen(copy, "w");
    if (out->f != NULL) {
        put(out, RECORD_FORMAT);
        return 0;
    }
    if (copy >= 0)
        close(copy);
    records_free(out);
    return -1;
}

void
record_begin(struct records_out *out, const char *name, int version)
{
    put(out, name);
    fprintf(out->f, "%d%c", version, 0);
}

void
record_text(struct records_out *out, const char *key, const char *value)
{
    put(out, key);
    put(out, value);
}

void
record_number(struct records_out *out, const char *key, int64_t value)
{
    put(out, key);
    fprintf(out->f, "%lld%c", (long long)value, 0);
}

void
record_fd(struct records_out *out, const char *key, int fd)
{
    int *more;

    record_number(out, key, fd);
    if (fd < 0)
        return;
    more = realloc(out->fds, (size_t)(out->n_fds + 1) * sizeof *more);
    if (more == NULL) {
        out->is_broken = 1;
        return;
    }
    out->fds = more;
    out->fds[out->n_fds++] = fd;
}

void
record_end(struct records_out *out)
{
    put(out, "");
}

int
records_end(struct records_out *out)
{
    int rc = fclose(out->f);

    out->f = NULL;
    if (out->is_broken)
        errno = ENOMEM;
    return rc != 0 || out->is_broken ? -1 : 0;
}

void
records_pass(const struct records_out *out, int do_pass)
{
    int i;

    for (i = 0; i < out->n_fds; i++)
        fcntl(out->fds[i], F_SETFD, do_pass ? 0 : FD_CLOEXEC);
    fcntl(out->fd, F_SETFD, do_pass ? 0 : FD_CLOEXEC);
}

void
records_free(struct records_out *out)
{
    if (out->f != NULL)
        fclose(out->f);
    if (out->fd >= 0)
        close(out->fd);
    free(out->fds);
    *out = (struct records_out){.fd = -1};
}

/* ---- reading ---- */

/* The next string, or NULL at the end. */
static const char *
take(struct records_in *in)
{
    const char *s = in->at;

    if (s >= in->end)
        return NULL;
    in->at = s + strlen(s) + 1;
    return s;
}

const char *
records_open(struct records_in *in, int fd, int is_test)
{
    const char *format;
    struct stat st;

    *in = (struct records_in){.is_test = is_test};
    if (fstat(fd, &st) != 0 || st.st_size <= 0 || (in->bytes = malloc((size_t)st.st_size + 1)) == NULL)
        return "there is no state to take over";
    if (pread(fd, in->bytes, (size_t)st.st_size, 0) != (ssize_t)st.st_size)
        return "the state cannot be read";
    in->bytes[st.st_size] = '\0';
    in->at = in->bytes;
    in->end = in->bytes + st.st_size;
    format = take(in);
    return format != NULL && strcmp(format, RECORD_FORMAT) == 0
               ? NULL : "the state is in another format than \"" RECORD_FORMAT "\"";
}

int
records_next(struct records_in *in, struct record *r)
{
    const char *version, *key, *value;

    *r = (struct record){.is_test = in->is_test};
    r->name = take(in);
    if (r->name == NULL)
        return 0;
    version = take(in);
    if (version == NULL)
        return -1;
    r->version = atoi(version);
    while ((key = take(in)) != NULL && *key != '\0') {
        if ((value = take(in)) == NULL)
            return -1;
        if (r->n == RECORD_KEYS)
            continue;
        r->at[r->n].key = key;
        r->at[r->n++].value = value;
    }
    return key != NULL ? 1 : -1;
}

const char *
record_get(const struct record *r, const char *key)
{
    int i;

    for (i = 0; i < r->n; i++)
        if (strcmp(r->at[i].key, key) == 0)
            return r->at[i].value;
    return "";
}

int64_t
record_get_number(const struct record *r, const char *key)
{
    return strtoll(record_get(r, key), NULL, 10);
}

int
record_get_fd(const struct record *r, const char *key)
{
    const char *text = record_get(r, key);
    int fd = *text != '\0' ? atoi(text) : -1;

    if (fd < 0 || r->is_test)
        return fd;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
}

void
records_close(struct records_in *in)
{
    free(in->bytes);
    in->bytes = NULL;
}
