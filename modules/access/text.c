/* The text of a file of networks: see access.h. */
#include "access.h"

#include <apr_lib.h>

#include <stdlib.h>

/* Networks as they are read, in memory that grows. */
struct growing {
    struct access_network *at;
    size_t n, room;
};

static int
growing_push(struct growing *g, const struct access_network *net)
{
    if (g->n == g->room) {
        size_t room = g->room > 0 ? 2 * g->room : 64;
        struct access_network *more = realloc(g->at, room * sizeof *more);

        if (more == NULL)
            return -1;
        g->at = more;
        g->room = room;
    }
    g->at[g->n++] = *net;
    return 0;
}

/* A line without its comment and the blanks around. */
static struct sl_span
line_strip(struct sl_span line)
{
    size_t n = 0;

    while (n < line.n && line.at[n] != '#' && line.at[n] != ';')
        n++;
    while (n > 0 && apr_isspace(line.at[n - 1]))
        n--;
    while (n > 0 && apr_isspace(*line.at)) {
        line.at++;
        n--;
    }
    return (struct sl_span){line.at, n};
}

/* Takes the first line off. */
static struct sl_span
line_next(struct sl_span *text)
{
    const char *end = memchr(text->at, '\n', text->n);
    size_t n = end != NULL ? (size_t)(end - text->at) : text->n;
    struct sl_span line = {text->at, n};

    n += end != NULL;
    text->at += n;
    text->n -= n;
    return line;
}

static int
lines_read(struct sl_span text, struct growing *nets, unsigned *line, struct sl_span *word)
{
    struct access_network net;

    for (*line = 1; text.n > 0; ++*line) {
        *word = line_strip(line_next(&text));
        if (word->n == 0)
            continue;
        if (!access_network_parse(*word, &net))
            return -1;
        if (growing_push(nets, &net) != 0) {
            *line = 0;
            return -1;
        }
    }
    return 0;
}

struct access_tree *
access_text_parse(struct sl_span text, size_t *n, unsigned *line, struct sl_span *word)
{
    struct growing nets = {NULL, 0, 0};
    struct access_tree *tree = NULL;

    if (lines_read(text, &nets, line, word) == 0) {
        *n = nets.n;
        *line = 0; /* what may be missing now is memory */
        tree = access_tree_make(nets.at, nets.n);
    }
    free(nets.at);
    return tree;
}
