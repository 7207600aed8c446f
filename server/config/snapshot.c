/* See snapshot.h.  A record is: place, kind, number of words, words, and the size of the file the
 * line names, -1 for none, each NUL-terminated; then the bytes of that file and a NUL. */
#include "config/snapshot.h"

#include <apr_strings.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIFF_CELLS_MAX (4 << 20) /* of the table: more lines than some 2,000 are only counted */

#define SNAPSHOT_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static void
put(FILE *f, const char *text)
{
    fwrite(text, 1, strlen(text) + 1, f);
}

static void
line_put(FILE *f, const struct conf_line *line)
{
    int i;

    put(f, line->place);
    fprintf(f, "%d%c%d%c", (int)line->kind, 0, line->n_words, 0);
    for (i = 0; i < line->n_words; i++)
        put(f, line->words[i]);
    fprintf(f, "%lld%c", line->file.at != NULL ? (long long)line->file.n : -1, 0);
    if (line->file.at != NULL) {
        fwrite(line->file.at, 1, line->file.n, f);
        putc('\0', f);
    }
}

int
snapshot_write(const apr_array_header_t *lines)
{
    int fd = memfd_create("sluice-configuration", MFD_CLOEXEC | MFD_ALLOW_SEALING), copy = fd < 0 ? -1 : dup(fd), i;
    FILE *f = copy < 0 ? NULL : fdopen(copy, "w");

    if (f == NULL) {
        if (copy >= 0)
            close(copy);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    for (i = 0; i < lines->nelts; i++)
        line_put(f, APR_ARRAY_IDX(lines, i, struct conf_line *));
    if (fclose(f) == 0 && fcntl(fd, F_ADD_SEALS, SNAPSHOT_SEALS) == 0)
        return fd;
    close(fd);
    return -1;
}

int
snapshot_is_sealed(int fd)
{
    return (fcntl(fd, F_GET_SEALS) & SNAPSHOT_SEALS) == SNAPSHOT_SEALS;
}

static char *
file_bytes(apr_pool_t *pool, int fd, size_t *n)
{
    struct stat st;
    char *bytes;

    if (fstat(fd, &st) != 0 || st.st_size < 0)
        return NULL;
    *n = (size_t)st.st_size;
    bytes = apr_palloc(pool, *n + 1);
    if (pread(fd, bytes, *n, 0) != (ssize_t)*n)
        return NULL;
    bytes[*n] = '\0';
    return bytes;
}

/* The next string, or NULL at the end. */
static const char *
take(const char **at, const char *end)
{
    const char *s = *at;

    if (s >= end)
        return NULL;
    *at = s + strlen(s) + 1;
    return s;
}

/* As one would write it, for excerpts and lists. */
static const char *
line_shown(apr_pool_t *pool, const struct conf_line *line)
{
    const char *open = line->kind == LINE_DIRECTIVE ? "" : line->kind == LINE_OPEN ? "<" : "</";
    char *text = apr_pstrdup(pool, open);
    int i;

    for (i = 0; i < line->n_words; i++) {
        const char *quote = strpbrk(line->words[i], " \t\"") != NULL ? "\"" : "";

        line->columns[i] = (unsigned)(strlen(text) + (i > 0 ? 1 : 0));
        text = apr_pstrcat(pool, text, i > 0 ? " " : "", quote, line->words[i], quote, NULL);
    }
    return line->kind == LINE_DIRECTIVE ? text : apr_pstrcat(pool, text, ">", NULL);
}

static int
file_take(struct conf_line *line, const char **at, const char *end)
{
    const char *size = take(at, end);
    long long n = size != NULL ? atoll(size) : end - *at;

    if (n < 0)
        return 1;
    if (n >= end - *at)
        return 0;
    line->file = (struct sl_span){*at, (size_t)n};
    *at += n + 1;
    return 1;
}

static struct conf_line *
line_take(apr_pool_t *pool, const char **at, const char *end)
{
    struct conf_line *line = apr_pcalloc(pool, sizeof *line);
    const char *kind, *n;
    int i;

    line->place = take(at, end);
    kind = take(at, end);
    n = take(at, end);
    if (n == NULL || atoi(n) < 1 || atoi(n) > end - *at)
        return NULL;
    line->kind = (enum line_kind)atoi(kind);
    line->n_words = atoi(n);
    line->words = apr_pcalloc(pool, (size_t)line->n_words * sizeof *line->words);
    line->columns = apr_pcalloc(pool, (size_t)line->n_words * sizeof *line->columns);
    for (i = 0; i < line->n_words; i++)
        if ((line->words[i] = take(at, end)) == NULL)
            return NULL;
    line->text = line_shown(pool, line);
    return file_take(line, at, end) ? line : NULL;
}

apr_array_header_t *
snapshot_read(apr_pool_t *pool, int fd)
{
    apr_array_header_t *lines = apr_array_make(pool, 256, sizeof(struct conf_line *));
    size_t n = 0;
    const char *at = file_bytes(pool, fd, &n), *end = at + n;

    if (at == NULL)
        return NULL;
    while (at < end) {
        struct conf_line *line = line_take(pool, &at, end);

        if (line == NULL)
            return NULL;
        APR_ARRAY_PUSH(lines, struct conf_line *) = line;
    }
    return lines;
}

/* ---- the difference: a longest common subsequence ---- */

struct diff {
    apr_pool_t *pool;
    struct conf_line **a, **b;
    int n_a, n_b;
    unsigned short *table; /* [i][j]: the longest of a from i on and b from j on */
    apr_array_header_t *said; /* of const char * */
};

static int
is_same(const struct conf_line *a, const struct conf_line *b)
{
    return strcmp(a->text, b->text) == 0 && (a->file.at == NULL) == (b->file.at == NULL) &&
           (a->file.at == NULL || sl_span_eq(a->file, b->file));
}

static unsigned short *
cell(struct diff *d, int i, int j)
{
    return &d->table[(size_t)i * (size_t)(d->n_b + 1) + (size_t)j];
}

static void
diff_table(struct diff *d)
{
    int i, j;

    d->table = apr_pcalloc(d->pool, (size_t)(d->n_a + 1) * (size_t)(d->n_b + 1) *
                                        sizeof *d->table);
    for (i = d->n_a - 1; i >= 0; i--)
        for (j = d->n_b - 1; j >= 0; j--) {
            unsigned short down = *cell(d, i + 1, j), right = *cell(d, i, j + 1);

            *cell(d, i, j) = is_same(d->a[i], d->b[j])
                                 ? (unsigned short)(*cell(d, i + 1, j + 1) + 1)
                                 : down > right ? down : right;
        }
}

static void
diff_say(struct diff *d, char sign, const struct conf_line *line)
{
    APR_ARRAY_PUSH(d->said, const char *) =
        apr_psprintf(d->pool, "%c %s: %s\n", sign, line->place, line->text);
}

static void
diff_walk(struct diff *d)
{
    int i = 0, j = 0;

    while (i < d->n_a || j < d->n_b)
        if (i < d->n_a && j < d->n_b && is_same(d->a[i], d->b[j])) {
            i++;
            j++;
        } else if (j < d->n_b && (i == d->n_a || *cell(d, i, j + 1) > *cell(d, i + 1, j)))
            diff_say(d, '+', d->b[j++]);
        else
            diff_say(d, '-', d->a[i++]);
}

/* Equal beginnings and ends need no table. */
static void
diff_trim(struct diff *d)
{
    while (d->n_a > 0 && d->n_b > 0 && is_same(d->a[0], d->b[0])) {
        d->a++;
        d->b++;
        d->n_a--;
        d->n_b--;
    }
    while (d->n_a > 0 && d->n_b > 0 && is_same(d->a[d->n_a - 1], d->b[d->n_b - 1])) {
        d->n_a--;
        d->n_b--;
    }
}

const char *
snapshot_difference(apr_pool_t *pool, int before, int after)
{
    apr_array_header_t *a = snapshot_read(pool, before), *b = snapshot_read(pool, after);
    struct diff d = {.pool = pool};

    if (a == NULL || b == NULL)
        return "";
    d.a = (struct conf_line **)(void *)a->elts;
    d.b = (struct conf_line **)(void *)b->elts;
    d.n_a = a->nelts;
    d.n_b = b->nelts;
    diff_trim(&d);
    if ((int64_t)(d.n_a + 1) * (d.n_b + 1) > DIFF_CELLS_MAX)
        return apr_psprintf(pool, "%d lines became %d\n", d.n_a, d.n_b);
    d.said = apr_array_make(pool, d.n_a + d.n_b, sizeof(const char *));
    diff_table(&d);
    diff_walk(&d);
    return apr_array_pstrcat(pool, d.said, '\0');
}
