/* What was written, remembered beside what it became: so that a value can be shown in the
 * words of the configuration, with its place. */
#include "config/load.h"
#include "runtime/loader.h"

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

/* ---- where it was written ---- */

static const char *
said_place(const struct sl_scope *scope, const struct loaded_module *m, const char *name)
{
    const struct mark *marks = scope_raw(scope, m)->marks;
    const struct sl_directive *row;
    unsigned i;

    for (i = 0; marks != NULL && (row = directive_row(m, m->module->directives, i)) != NULL; i++)
        if (strcmp(row->name, name) == 0)
            return marks[slots_first(m, m->module->directives, row)].place;
    return NULL;
}

const char *
core_place(const struct config *c, const struct sl_scope *scope, const char *name)
{
    return said_place(scope, config_module(c, 0), name);
}

const char *
sl_scope_said(const struct sl_scope *scope, const struct sl_module *module, const char *directive)
{
    return said_place(scope, loader_find(module), directive);
}
