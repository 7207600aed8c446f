/* Files to lines: Include is carried out where it stands, Define from there on, ${NAME} is
 * replaced by what was defined, else by the environment. */
#include "config/lexer.h"
#include "config/load.h"
#include "config/snapshot.h"

#include <apr_file_io.h>
#include <apr_fnmatch.h>
#include <apr_strings.h>

#include <ctype.h>
#include <glob.h>
#include <stdlib.h>

#define INCLUDE_DEPTH 16
#define WORD_MAX 65536

struct reader {
    struct config *c;
    apr_array_header_t *lines; /* of struct conf_line * */
    apr_table_t *defined;
    int depth;
};

static void read_text(struct reader *rd, const char *name, const char *text, size_t n);

static void
line_error(struct reader *rd, const struct conf_line *line, int word, const char *fmt, ...)
{
    va_list args;
    const char *text;

    va_start(args, fmt);
    text = apr_pvsprintf(rd->c->pool, fmt, args);
    va_end(args);
    config_add_error(rd->c, line->place, text, line->text, line->columns[word],
                     strlen(line->words[word]), NULL);
}

/* ${NAME}: NULL and an error when nobody knows the name. */
static const char *
expand_word(struct reader *rd, struct conf_line *line, int word)
{
    const char *from = line->words[word], *open, *close, *name, *value;
    char *out = apr_pstrdup(rd->c->pool, "");

    while ((open = strstr(from, "${")) != NULL && (close = strchr(open, '}')) != NULL) {
        name = apr_pstrmemdup(rd->c->pool, open + 2, (size_t)(close - open - 2));
        value = apr_table_get(rd->defined, name);
        if (value == NULL)
            value = getenv(name);
        if (value == NULL) {
            line_error(rd, line, word, "found ${%s}, expected a name set by Define or in the "
                       "environment", name);
            return line->words[word];
        }
        out = apr_pstrcat(rd->c->pool, out, apr_pstrmemdup(rd->c->pool, from,
                                                           (size_t)(open - from)), value, NULL);
        from = close + 1;
        if (strlen(out) > WORD_MAX) {
            line_error(rd, line, word, "found a word of more than %d bytes once ${%s} is replaced",
                       WORD_MAX, name);
            return line->words[word];
        }
    }
    return apr_pstrcat(rd->c->pool, out, from, NULL);
}

static void
expand_line(struct reader *rd, struct conf_line *line)
{
    const apr_array_header_t *errors = rd->c->errors;
    int i, n_before = errors->nelts;

    for (i = 0; i < line->n_words; i++)
        if (strstr(line->words[i], "${") != NULL)
            line->words[i] = expand_word(rd, line, i);
    if (errors->nelts > n_before)
        APR_ARRAY_IDX(errors, errors->nelts - 1, struct config_error).is_last = 1;
}

static char *
file_text(apr_pool_t *pool, const char *path, size_t *n, const char **why)
{
    apr_file_t *file;
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_OS_DEFAULT, pool);
    apr_finfo_t info;
    apr_size_t size;
    char *text = NULL;

    *why = "it is no regular file";
    if (rv != APR_SUCCESS) {
        *why = apr_pstrdup(pool, strerror(APR_TO_OS_ERROR(rv)));
        return NULL;
    }
    if (apr_file_info_get(&info, APR_FINFO_SIZE | APR_FINFO_TYPE, file) == APR_SUCCESS &&
        info.filetype == APR_REG) {
        size = (apr_size_t)info.size;
        text = apr_palloc(pool, size + 1);
        if (size > 0 && apr_file_read_full(file, text, size, &size) != APR_SUCCESS)
            text = NULL;
        else
            text[size] = '\0';
        *n = size;
    }
    apr_file_close(file);
    return text;
}

/* NULL, or why it cannot be read. */
static const char *
read_file(struct reader *rd, const char *path)
{
    const char *why;
    size_t n = 0;
    char *text = file_text(rd->c->pool, path, &n, &why);

    if (text == NULL)
        return why;
    read_text(rd, path, text, n);
    return NULL;
}

/* Relative to the file that includes. */
static const char *
include_path(struct reader *rd, const char *name, const char *pattern)
{
    const char *slash = strrchr(name, '/');

    if (pattern[0] == '/' || slash == NULL)
        return pattern;
    return apr_pstrcat(rd->c->pool, apr_pstrmemdup(rd->c->pool, name, (size_t)(slash - name + 1)),
                       pattern, NULL);
}

static void
include_line(struct reader *rd, const char *name, const struct conf_line *line)
{
    const char *path, *why;
    glob_t found;
    size_t i;

    if (line->n_words != 2) {
        line_error(rd, line, 0, "expected one file or pattern");
        return;
    }
    if (rd->depth == INCLUDE_DEPTH) {
        line_error(rd, line, 1, "expected at most %d levels of Include", INCLUDE_DEPTH);
        return;
    }
    path = include_path(rd, name, line->words[1]);
    memset(&found, 0, sizeof found);
    if (glob(path, 0, NULL, &found) != 0 && strpbrk(path, "*?[") == NULL)
        line_error(rd, line, 1, "expected a file that can be read, found none at %s", path);
    rd->depth++;
    for (i = 0; i < found.gl_pathc; i++)
        if ((why = read_file(rd, apr_pstrdup(rd->c->pool, found.gl_pathv[i]))) != NULL)
            line_error(rd, line, 1, "expected a file that can be read, found %s: %s",
                       found.gl_pathv[i], why);
    rd->depth--;
    globfree(&found);
}

static void
define_line(struct reader *rd, const struct conf_line *line)
{
    if (line->n_words == 3)
        apr_table_set(rd->defined, line->words[1], line->words[2]);
    else
        line_error(rd, line, 0, "expected a name and a value");
}

static void
take_line(struct reader *rd, const char *name, struct conf_line *line)
{
    expand_line(rd, line);
    if (line->kind == LINE_DIRECTIVE && strcasecmp(line->words[0], "Include") == 0)
        include_line(rd, name, line);
    else if (line->kind == LINE_DIRECTIVE && strcasecmp(line->words[0], "Define") == 0)
        define_line(rd, line);
    else
        APR_ARRAY_PUSH(rd->lines, struct conf_line *) = line;
}

/* The habits of another language show in the line's name, too. */
static const char *
cure_of(apr_pool_t *pool, const char *err, const char *line)
{
    const char *cure = lex_cure(err), *here;

    line += strspn(line, " \t");
    here = foreign_name(apr_pstrmemdup(pool, line, strcspn(line, " \t;{")));
    return cure != NULL && here != NULL ? apr_pstrcat(pool, cure, "; here: ", here, NULL) : cure;
}

static void
read_text(struct reader *rd, const char *name, const char *text, size_t n)
{
    size_t pos = 0;
    unsigned number = 1, n_lines;

    while (pos < n) {
        const char *err;
        unsigned column;
        size_t begin = pos;
        const char *place = apr_psprintf(rd->c->pool, "%s:%u", name, number);
        struct conf_line *line = lex_line(rd->c->pool, text, n, &pos, &n_lines, &err, &column);

        number += n_lines;
        if (line != NULL) {
            line->place = place;
            take_line(rd, name, line);
        } else if (err != NULL) {
            const char *shown = apr_pstrmemdup(rd->c->pool, text + begin,
                                               strcspn(text + begin, "\r\n"));

            config_add_error(rd->c, place, err, shown, column, 1,
                             cure_of(rd->c->pool, err, shown));
        }
    }
}

apr_array_header_t *
source_lines(struct config *c, const struct config_source *source)
{
    struct reader rd = {c, apr_array_make(c->pool, 256, sizeof(struct conf_line *)),
                        apr_table_make(c->pool, 16), 0};
    const char *why;

    if (source->snapshot > 0) {
        rd.lines = snapshot_read(c->pool, source->snapshot);
        SL_ASSERT(rd.lines != NULL);
    } else if (source->text != NULL)
        read_text(&rd, source->name != NULL ? source->name : "-", source->text,
                  strlen(source->text));
    else if ((why = read_file(&rd, source->file)) != NULL)
        config_error(c, NULL, "name another file with -f FILE", "%s: cannot be read: %s",
                     source->file, why);
    return rd.lines;
}
