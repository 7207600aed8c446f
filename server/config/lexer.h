/* Text to lines of words. */
#ifndef CONFIG_LEXER_H
#define CONFIG_LEXER_H

#include "config/config.h"

enum line_kind { LINE_DIRECTIVE, LINE_OPEN, LINE_CLOSE };

/* One directive, or one opening or closing of a section.  words[0] is its name. */
struct conf_line {
    const char *place; /* file:line */
    const char *text;  /* as it stands in the file, for the excerpt */
    enum line_kind kind;
    int n_words;
    const char **words;
    unsigned *columns; /* of each word in text */
};

/* Takes one logical line (continuations joined) from text[*pos]; *n_lines is how many lines
 * of the file it took.  Returns NULL when nothing stands on it, with *err NULL; or *err
 * with *err_column.  Pure: allocates from the pool, reads nothing else. */
struct conf_line *lex_line(apr_pool_t *pool, const char *text, size_t n, size_t *pos,
                           unsigned *n_lines, const char **err, unsigned *err_column);

/* How to mend an error of lex_line(); NULL: nothing is known. */
const char *lex_cure(const char *err);

/* All lines of a source, Include and Define and ${NAME} carried out.  Errors go to the
 * config. */
apr_array_header_t *source_lines(struct config *c, const struct config_source *source);

#endif
