/* ErrorLog and LogLevel. */
#include "config/core_conf.h"

#include "config/load.h"
#include "runtime/log.h"

#include <apr_strings.h>

static const char *const format_words[] = {"text", "json", NULL};
static const struct sl_option error_log_options[] = {
    {"format", SL_SLOT_ENUM, offsetof(struct error_log_conf, format), NULL, format_words,
     "text, or json: an object a line"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

const char *
error_log_parse(struct sl_cmd *cmd, void **item)
{
    struct error_log_conf *log = apr_pcalloc(sl_cmd_pool(cmd), sizeof *log);

    if (sl_cmd_argc(cmd) == 0 || *sl_cmd_arg(cmd, 0) == '\0')
        return "expected a file, stderr or syslog";
    log->where = apr_pstrdup(sl_cmd_pool(cmd), sl_cmd_arg(cmd, 0));
    *item = log;
    return sl_cmd_options(cmd, 1, error_log_options, log);
}

static const char level_expected[] =
    "expected one of error, warn, notice, info, debug, trace";

static int
level_of(const char *word, enum sl_level *level)
{
    static const char *const words[] = {"error", "warn", "notice", "info", "debug", "trace"};
    unsigned i;

    for (i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(word, words[i]) == 0) {
            *level = (enum sl_level)i;
            return 1;
        }
    return 0;
}

/* The module as it is loaded, whatever way its name is written; NULL: there is none. */
static const char *
module_of(const struct sl_cmd *cmd, const char *word, size_t n)
{
    int i;

    if (n > 4 && strncasecmp(word, "mod_", 4) == 0)
        word += 4, n -= 4;
    for (i = 0; i < cmd->c->modules->nelts; i++) {
        const char *name = config_module(cmd->c, i)->name;

        if (strlen(name) == n && strncasecmp(name, word, n) == 0)
            return name;
    }
    return NULL;
}

static const char *
module_level_parse(struct sl_cmd *cmd, const char *word, struct log_level_of *of)
{
    const char *colon = strchr(word, ':');
    size_t n = colon != NULL ? (size_t)(colon - word) : 0;

    if (n == 0)
        return sl_cmd_error(cmd, "expected MODULE:LEVEL, found \"%s\"", word);
    if (!level_of(colon + 1, &of->level))
        return sl_cmd_error(cmd, "%s behind the colon, found \"%s\"", level_expected, colon + 1);
    of->module = module_of(cmd, word, n);
    if (of->module != NULL)
        return NULL;
    sl_cmd_cure(cmd, "-M lists the modules that are loaded; core is the server itself");
    return sl_cmd_error(cmd, "expected the name of a loaded module before the colon, found \"%.*s\"",
                        (int)n, word);
}

const char *
log_level_parse(struct sl_cmd *cmd, void **item)
{
    apr_pool_t *pool = sl_cmd_pool(cmd);
    struct log_levels *levels = apr_pcalloc(pool, sizeof *levels);
    struct log_level_of *of = apr_pcalloc(pool, (size_t)(sl_cmd_argc(cmd) + 1) * sizeof *of);
    const char *word = sl_cmd_arg(cmd, 0), *err;
    int i;

    *item = levels;
    levels->of = of;
    if (word == NULL || !level_of(word, &levels->level))
        return level_expected;
    levels->most = levels->level;
    for (i = 1; i < sl_cmd_argc(cmd); i++, levels->n++) {
        if ((err = module_level_parse(cmd, sl_cmd_arg(cmd, i), &of[levels->n])) != NULL)
            return err;
        if (of[levels->n].level > levels->most)
            levels->most = of[levels->n].level;
    }
    return NULL;
}

void
core_conf_init(struct core_conf *core)
{
    static struct error_log_conf to_stderr = {"stderr", LOG_AS_TEXT, NULL};

    core->error_log = &to_stderr;
    core->log_levels = &log_levels_default;
}
