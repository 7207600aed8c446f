/* Words of a line: white space parts them, double quotes keep it, \" is a quote inside
 * them, a backslash at the end joins the next line.  A section's opening or closing is a
 * line in angle brackets. */
#include "config/lexer.h"

#include <apr_strings.h>

#include <ctype.h>

#define WORDS_MAX 1024

static const char semicolon[] = "found \";\" at the end of a line";
static const char brace[] = "found a brace";
static const char *const cures[][2] = {
    {semicolon, "lines end without \";\"; where one belongs to a value, put it in double quotes"},
    {brace, "sections are <NAME ...> and </NAME>, each on a line of its own"},
};

const char *
lex_cure(const char *err)
{
    size_t i;

    for (i = 0; i < sizeof cures / sizeof cures[0]; i++)
        if (err == cures[i][0])
            return cures[i][1];
    return NULL;
}

/* What ends or opens lines elsewhere: an error with its column, or NULL.  Inside quotes, and in
 * %{name} and regular expressions, these letters are what they are. */
static const char *
lex_foreign(const char *text, unsigned *err_column)
{
    size_t lead = strspn(text, " \t"), n = strlen(text);
    int is_lone = strpbrk(text + lead, " \t") == NULL;

    if (n > 0)
        *err_column = (unsigned)(n - 1);
    if (text[n - 1] == ';')
        return semicolon;
    if (text[n - 1] == '{' && (is_lone || text[n - 2] == ' ' || text[n - 2] == '\t'))
        return brace;
    *err_column = (unsigned)lead;
    return text[lead] == '}' ? brace : NULL;
}

/* The end of the logical line that begins at pos: continuation lines belong to it. */
static size_t
line_end(const char *text, size_t n, size_t pos, unsigned *n_lines)
{
    size_t i;

    *n_lines = 1;
    for (i = pos; i < n; i++) {
        if (text[i] != '\n')
            continue;
        if (i > pos && text[i - 1] == '\\')
            ++*n_lines;
        else if (i > pos + 1 && text[i - 1] == '\r' && text[i - 2] == '\\')
            ++*n_lines;
        else
            return i;
    }
    return n;
}

/* The line as one string: continuations become a space, a trailing CR goes. */
static char *
line_text(apr_pool_t *pool, const char *at, size_t n)
{
    char *to = apr_palloc(pool, n + 1), *p = to;
    size_t i;

    for (i = 0; i < n; i++) {
        if (at[i] == '\\' && i + 1 < n && at[i + 1] == '\n') {
            *p++ = ' ';
            i++;
        } else if (at[i] == '\\' && i + 2 < n && at[i + 1] == '\r' && at[i + 2] == '\n') {
            *p++ = ' ';
            i += 2;
        } else
            *p++ = at[i];
    }
    while (p > to && isspace((unsigned char)p[-1]))
        p--;
    *p = '\0';
    return to;
}

/* One word from *p on; NULL with *err when a quote is left open. */
static const char *
lex_word(apr_pool_t *pool, const char **p, const char **err)
{
    char *word = apr_palloc(pool, strlen(*p) + 1), *to = word;
    const char *at = *p;

    if (*at != '"') {
        while (*at != '\0' && !isspace((unsigned char)*at)) {
            if (*at == '"') { /* key="a value" */
                for (at++; *at != '\0' && *at != '"'; at++) {
                    if (at[0] == '\\' && at[1] == '"')
                        at++;
                    *to++ = *at;
                }
                if (*at == '\0') {
                    *err = "expected a closing quote";
                    return NULL;
                }
                at++;
                continue;
            }
            *to++ = *at++;
        }
    } else {
        for (at++; *at != '\0' && *at != '"'; at++) {
            if (at[0] == '\\' && at[1] == '"')
                at++;
            *to++ = *at;
        }
        if (*at != '"') {
            *err = "expected a closing quote";
            return NULL;
        }
        at++;
        if (*at != '\0' && !isspace((unsigned char)*at)) {
            *err = "expected white space behind a closing quote";
            return NULL;
        }
    }
    *to = '\0';
    *p = at;
    return word;
}

/* Takes the brackets off a section line: 0 when the closing one is missing. */
static int
lex_section(struct conf_line *line, char *body, size_t *skip)
{
    size_t n = strlen(body);

    if (body[0] != '<')
        return 1;
    if (n < 3 || body[n - 1] != '>')
        return 0;
    body[n - 1] = '\0';
    line->kind = body[1] == '/' ? LINE_CLOSE : LINE_OPEN;
    *skip = body[1] == '/' ? 2 : 1;
    return 1;
}

static struct conf_line *
lex_words(apr_pool_t *pool, struct conf_line *line, const char **err, unsigned *err_column)
{
    size_t lead = strspn(line->text, " \t"), skip = 0;
    char *body = apr_pstrdup(pool, line->text + lead);
    const char *words[WORDS_MAX], *p;
    unsigned columns[WORDS_MAX];

    if ((*err = lex_foreign(line->text, err_column)) != NULL)
        return NULL;
    *err_column = 0;
    if (!lex_section(line, body, &skip)) {
        *err = "expected \">\" at the end of a section's line";
        *err_column = (unsigned)lead;
        return NULL;
    }
    for (p = body + skip; *(p += strspn(p, " \t")) != '\0';) {
        if (line->n_words == WORDS_MAX) {
            *err = "expected fewer words on one line";
            return NULL;
        }
        columns[line->n_words] = *err_column = (unsigned)(lead + (size_t)(p - body));
        words[line->n_words] = lex_word(pool, &p, err);
        if (words[line->n_words++] == NULL)
            return NULL;
    }
    if (line->n_words == 0) {
        *err = "expected the name of a section";
        return NULL;
    }
    line->words = apr_pmemdup(pool, words, (size_t)line->n_words * sizeof *words);
    line->columns = apr_pmemdup(pool, columns, (size_t)line->n_words * sizeof *columns);
    return line;
}

struct conf_line *
lex_line(apr_pool_t *pool, const char *text, size_t n, size_t *pos, unsigned *n_lines,
         const char **err, unsigned *err_column)
{
    size_t end = line_end(text, n, *pos, n_lines), begin = *pos;
    struct conf_line *line;
    const char *body;

    *pos = end < n ? end + 1 : n;
    *err = NULL;
    *err_column = 0;
    if (memchr(text + begin, '\0', end - begin) != NULL) {
        *err = "found a NUL byte: this is no text file";
        return NULL;
    }
    line = apr_pcalloc(pool, sizeof *line);
    line->text = line_text(pool, text + begin, end - begin);
    body = line->text + strspn(line->text, " \t");
    if (*body == '\0' || *body == '#')
        return NULL;
    return lex_words(pool, line, err, err_column);
}
