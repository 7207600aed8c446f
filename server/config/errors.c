/* Errors of a run: collected, then shown together as place, finding, line and cure. */
#include "config/load.h"

#include <apr_strings.h>

#include <stdarg.h>
#include <stdlib.h>

/* Whether what there is to say about the line has been said. */
static int
error_follows(const struct config *c, const char *place)
{
    int i;

    for (i = 0; place != NULL && i < c->errors->nelts; i++) {
        const struct config_error *e = &APR_ARRAY_IDX(c->errors, i, struct config_error);

        if (e->is_last && strcmp(e->place, place) == 0)
            return 1;
    }
    return 0;
}

static void
error_push(struct config *c, struct config_error e)
{
    if (!error_follows(c, e.place))
        APR_ARRAY_PUSH(c->errors, struct config_error) = e;
}

/* The line, and below it the word underlined. */
static const char *
excerpt(apr_pool_t *pool, const char *place, const char *line, unsigned column, size_t width)
{
    const char *colon = place != NULL ? strrchr(place, ':') : NULL;
    char *under = apr_palloc(pool, column + width + 2);

    memset(under, ' ', column);
    under[column] = '^';
    memset(under + column + 1, '~', width > 0 ? width - 1 : 0);
    under[column + (width > 0 ? width : 1)] = '\0';
    return apr_psprintf(pool, "%6s | %s\n       | %s", colon != NULL ? colon + 1 : "", line, under);
}

void
config_add_error(struct config *c, const char *place, const char *text, const char *line,
                 unsigned column, size_t width, const char *cure)
{
    error_push(c, (struct config_error){
                      place, text,
                      line != NULL ? excerpt(c->pool, place, line, column, width) : NULL, cure, 0});
}

/* How much of a word's being in the text shows that it is the one: as what was found, in quotes,
 * more than anywhere, and a long one more than a short one.  0: it is not there. */
static size_t
word_weight(apr_pool_t *pool, const char *text, const char *word)
{
    if (strstr(text, apr_pstrcat(pool, "\"", word, "\"", NULL)) != NULL)
        return strlen(text) + strlen(word);
    return strstr(text, word) != NULL ? strlen(word) : 0;
}

/* The word of the line an error speaks of. */
static int
word_meant(apr_pool_t *pool, const struct conf_line *line, const char *text)
{
    size_t most = 0, its;
    int i, best = 0;

    for (i = 1; i < line->n_words; i++)
        if ((its = word_weight(pool, text, line->words[i])) > most) {
            most = its;
            best = i;
        }
    return best;
}

static const struct conf_line *
line_at(const struct config *c, const char *place)
{
    int i;

    for (i = 0; place != NULL && c->lines != NULL && i < c->lines->nelts; i++) {
        const struct conf_line *line = APR_ARRAY_IDX(c->lines, i, struct conf_line *);

        if (strcmp(line->place, place) == 0 && line->text != NULL)
            return line;
    }
    return NULL;
}

void
config_error(struct config *c, const char *place, const char *cure, const char *fmt, ...)
{
    const struct conf_line *line;
    va_list args;
    const char *text;
    int word;

    va_start(args, fmt);
    text = apr_pvsprintf(c->pool, fmt, args);
    va_end(args);
    if ((line = line_at(c, place)) != NULL) {
        word = word_meant(c->pool, line, text);
        config_add_error(c, place, text, line->text, line->columns[word],
                         strlen(line->words[word]), cure);
    } else
        error_push(c, (struct config_error){place, text, NULL, cure, 0});
}

int
config_print_errors(const struct config *c, FILE *to)
{
    int i;

    for (i = 0; i < c->errors->nelts; i++) {
        const struct config_error *e = &APR_ARRAY_IDX(c->errors, i, struct config_error);

        fprintf(to, "%s%s%s\n", e->place != NULL ? e->place : "", e->place != NULL ? ": " : "",
                e->text);
        if (e->excerpt != NULL)
            fprintf(to, "%s\n", e->excerpt);
        if (e->cure != NULL)
            fprintf(to, "    cure: %s\n", e->cure);
    }
    if (c->errors->nelts > 0)
        fprintf(to, "%d error%s\n", c->errors->nelts, c->errors->nelts == 1 ? "" : "s");
    return c->errors->nelts;
}
