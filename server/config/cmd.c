/* What a parse function may ask of its line, and k=v options. */
#include "config/cond.h"
#include "config/lint.h"
#include "config/load.h"

#include <apr_strings.h>

#include <stdarg.h>

int
sl_cmd_argc(const struct sl_cmd *cmd)
{
    return cmd->line->n_words - cmd->first;
}

/* The word asked for last is the one an error points at. */
const char *
sl_cmd_arg(const struct sl_cmd *cmd, int i)
{
    if (i < 0 || i >= sl_cmd_argc(cmd))
        return NULL;
    ((struct sl_cmd *)(uintptr_t)cmd)->blame = cmd->first + i;
    return cmd->line->words[cmd->first + i];
}

apr_pool_t *
sl_cmd_pool(const struct sl_cmd *cmd)
{
    return cmd->c->pool;
}

const char *
sl_cmd_place(const struct sl_cmd *cmd)
{
    return cmd->line->place;
}

void *
sl_cmd_module_data(const struct sl_cmd *cmd)
{
    return cmd->c->module_data[cmd->module->index];
}

struct sl_scope *
sl_cmd_scope(const struct sl_cmd *cmd)
{
    return cmd->scope;
}

const char *
sl_cmd_error(struct sl_cmd *cmd, const char *fmt, ...)
{
    va_list args;
    const char *text;

    va_start(args, fmt);
    text = apr_pvsprintf(cmd->c->pool, fmt, args);
    va_end(args);
    return text;
}

void
sl_cmd_cure(struct sl_cmd *cmd, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    cmd->cure = apr_pvsprintf(cmd->c->pool, fmt, args);
    va_end(args);
}

/* ---- values and conditions ---- */

const char *
sl_cmd_cond(struct sl_cmd *cmd, const char *text, enum sl_phase phase, struct sl_cond **cond)
{
    struct cond_error e = {NULL, NULL};

    *cond = cond_compile(cmd->c->pool, text, phase, &e);
    if (e.cure != NULL)
        sl_cmd_cure(cmd, "%s", e.cure);
    if (*cond != NULL)
        lint_saw_cond(cmd, *cond);
    return e.text;
}

const char *
cmd_slot(struct sl_cmd *cmd, enum sl_slot type, const char *const *words, const char *text,
         void *slot)
{
    enum sl_phase phase;

    return slot_is_cond(type, &phase) ? sl_cmd_cond(cmd, text, phase, slot)
                                      : slot_parse(cmd->c->pool, type, words, text, slot);
}

/* Whose groups a value of this line may use: the nearest that has any.  0: none has. */
static int
capturer_find(const struct sl_cmd *cmd, struct sl_cond *own, struct capturer *c)
{
    const struct sl_scope *s;

    *c = (struct capturer){.n_groups = 0};
    if (own != NULL)
        *c = cond_capturer(own);
    for (s = cmd->scope; s != NULL && c->n_groups == 0; s = s->parent)
        if (s->condition != NULL)
            *c = cond_capturer(s->condition);
        else if (s->pattern != NULL)
            *c = capturer_of_pattern(s->pattern);
    return c->n_groups > 0;
}

struct sl_expr *
sl_cmd_expr(struct sl_cmd *cmd, const char *text, enum sl_phase phase, struct sl_cond *cond,
            const char **err)
{
    struct capturer c;

    return expr_compile(cmd->c->pool, text, phase, capturer_find(cmd, cond, &c) ? &c : NULL, err);
}

/* ---- options ---- */

static const struct sl_option *
option_find(const struct sl_option *o, const char *word, size_t n)
{
    for (; o->key != NULL; o++)
        if (strlen(o->key) == n && strncasecmp(o->key, word, n) == 0)
            return o;
    return NULL;
}

static const char *
option_unknown(struct sl_cmd *cmd, const struct sl_option *options, const char *word, size_t n)
{
    const char *name = apr_pstrmemdup(cmd->c->pool, word, n), *all = "";
    const struct sl_option *o, *near = NULL;

    for (o = options; o->key != NULL; o++) {
        all = apr_pstrcat(cmd->c->pool, all, o == options ? "" : ", ", o->key, NULL);
        if (sl_name_distance(o->key, name) <= 2)
            near = o;
    }
    if (near != NULL)
        sl_cmd_cure(cmd, "did you mean \"%s\"?", near->key);
    else if (word[n] == '\0' && cmd->cure == NULL) /* a value alone: "Timeout 30" */
        sl_cmd_cure(cmd, "write NAME=VALUE, for example %s %s=%s", cmd->line->words[0],
                    options->key, options->init != NULL ? options->init : "VALUE");
    return sl_cmd_error(cmd, "expected one of the options %s, found \"%s\"", all, name);
}

static const char *
option_set(struct sl_cmd *cmd, const struct sl_option *o, const char *value, void *conf)
{
    void *slot = (char *)conf + o->offset;
    const char *err;

    if (value == NULL && o->type == SL_SLOT_FLAG) {
        *(int *)slot = 1;
        return NULL;
    }
    if (value == NULL && (o->type == SL_SLOT_ENUM || o->words == NULL))
        return sl_cmd_error(cmd, "expected %s=VALUE", o->key);
    if (value == NULL)
        value = o->words[0];
    err = cmd_slot(cmd, o->type, o->words, value, slot);
    if (err == NULL)
        return NULL;
    return strstr(err, "found") != NULL
               ? sl_cmd_error(cmd, "%s: %s", o->key, err)
               : sl_cmd_error(cmd, "%s: %s, found \"%s\"", o->key, err, value);
}

const char *
cmd_options(struct sl_cmd *cmd, int from, const struct option_sink *sink)
{
    int i;

    for (i = from; i < sl_cmd_argc(cmd); i++) {
        const char *word = sl_cmd_arg(cmd, i), *eq = strchr(word, '='), *err;
        size_t n = eq != NULL ? (size_t)(eq - word) : strlen(word);
        const struct sl_option *o = option_find(sink->options, word, n);
        struct mark *mark;

        if (o == NULL)
            return option_unknown(cmd, sink->options, word, n);
        mark = sink->marks != NULL ? &sink->marks[o - sink->options] : NULL;
        if (mark != NULL && mark->place != NULL)
            return sl_cmd_error(cmd, "%s is set twice in this scope: first at %s", o->key,
                                mark->place);
        if ((err = option_set(cmd, o, eq != NULL ? eq + 1 : NULL, sink->conf)) != NULL)
            return err;
        if (mark != NULL) {
            mark->place = cmd->line->place;
            mark_say_option(cmd, mark, eq != NULL ? eq + 1 : "on");
        }
    }
    return NULL;
}

const char *
sl_cmd_options(struct sl_cmd *cmd, int from, const struct sl_option *options, void *conf)
{
    struct option_sink sink = {options, conf, NULL};

    return cmd_options(cmd, from, &sink);
}
