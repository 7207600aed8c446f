/* What was written, remembered beside what it became: so that a value can be shown in the
 * words of the configuration, with its place. */
#include "config/load.h"

#include <apr_strings.h>

/* As it would have to be written: quotes where a word has none of its own to be without. */
static const char *
word_text(apr_pool_t *pool, const char *word)
{
    char *to, *text;

    if (*word != '\0' && strpbrk(word, " \t\"#") == NULL)
        return word;
    to = text = apr_palloc(pool, 2 * strlen(word) + 3);
    *to++ = '"';
    for (; *word != '\0'; word++) {
        if (*word == '"')
            *to++ = '\\';
        *to++ = *word;
    }
    *to++ = '"';
    *to = '\0';
    return text;
}

static void
mark_add(struct sl_cmd *cmd, struct mark *mark, const char *text)
{
    struct said *said = apr_palloc(cmd->c->pool, sizeof *said), **end = &mark->said;

    *said = (struct said){NULL, cmd->line->place, text};
    while (*end != NULL)
        end = &(*end)->next;
    *end = said;
}

void
mark_say(struct sl_cmd *cmd, struct mark *mark, int first)
{
    const struct conf_line *line = cmd->line;
    const char *text = "";
    int i;

    if (mark->restarts && first < line->n_words && strcmp(line->words[first], "-") == 0) {
        mark->said = NULL;
        if (++first == line->n_words)
            return;
    }
    for (i = first; i < line->n_words; i++)
        text = apr_pstrcat(cmd->c->pool, text, i > first ? " " : "",
                           word_text(cmd->c->pool, line->words[i]), NULL);
    mark_add(cmd, mark, text);
}

void
mark_say_option(struct sl_cmd *cmd, struct mark *mark, const char *value)
{
    mark_add(cmd, mark, word_text(cmd->c->pool, value));
}
