/* The access log.  A log hook writes one line for each AccessLog of the request's scope into
 * its thread's buffer; nothing is locked and nothing waits. */

/*man
NAME
    mod_log - writes a line for every request
DESCRIPTION
    Lines are buffered by each thread and written whole, when the buffer is full or after a
    second. AccessLog lines of enclosing scopes add up; a line "AccessLog -" forgets those
    of the scopes around it.

    Formats: common, combined and json are built in. A format of your own is text with the
    letters of httpd (%h %t %r %s %b %D %T %U %q %m %H %v and %{Name}i, %{Name}o) and with
    %{variables}; what clients sent is escaped, so that no line can be forged. Formats
    that begin with the word json write one object a line, always valid: numbers are
    numbers and what is absent is null.
DIRECTIVES
  LogFormat
    Names a format: LogFormat NAME "TEXT", or LogFormat NAME json MEMBER=VALUE ...
  AccessLog
    Where lines go (a file, stdout, stderr, syslog) and in which format: the name of one, or
    its text; combined when left out. buffer= is the size of a thread's buffer, 0 to write
    at once; flush= how long a line may wait in it.
EXAMPLE
    LogFormat brief "%h %>s %{request_time} %U"
    AccessLog /var/log/sluice/access.log combined
    AccessLog /var/log/sluice/access.json json buffer=256k
*/

#include "format.h"
#include "sink.h"

#include <apr_strings.h>

struct log_data {
    apr_array_header_t *sinks;   /* of struct sink * */
    apr_array_header_t *formats; /* of struct named_format */
    apr_array_header_t *pending; /* of struct access_log *: formats to be found by name */
};

struct named_format {
    const char *name;
    struct format *format;
};

struct access_log {
    struct sink *sink;
    struct format *format; /* NULL until check_config: LogFormat may stand below */
    const char *name, *place;
};

struct log_conf {
    apr_array_header_t *formats; /* of struct format *: unused once named */
    apr_array_header_t *logs;    /* of struct access_log * */
};

static struct log_data *
data_of(struct sl_cmd *cmd)
{
    struct log_data *d = sl_cmd_module_data(cmd);

    if (d->sinks == NULL) {
        d->sinks = apr_array_make(sl_cmd_pool(cmd), 4, sizeof(struct sink *));
        d->formats = apr_array_make(sl_cmd_pool(cmd), 4, sizeof(struct named_format));
        d->pending = apr_array_make(sl_cmd_pool(cmd), 4, sizeof(struct access_log *));
    }
    return d;
}

static struct format *
format_named(apr_pool_t *pool, const struct log_data *d, const char *name)
{
    int i;

    for (i = 0; i < d->formats->nelts; i++)
        if (strcmp(APR_ARRAY_IDX(d->formats, i, struct named_format).name, name) == 0)
            return APR_ARRAY_IDX(d->formats, i, struct named_format).format;
    return format_builtin(pool, name);
}

static const char *
format_parse(struct sl_cmd *cmd, void **item)
{
    const char *name = sl_cmd_arg(cmd, 0), *text, *err = NULL;
    struct format *f;
    int n = sl_cmd_argc(cmd) - 2, i;

    if (n < 0)
        return "expected NAME and a format";
    if (format_named(sl_cmd_pool(cmd), data_of(cmd), name) != NULL) {
        sl_cmd_arg(cmd, 0);
        return sl_cmd_error(cmd, "expected a new name, found \"%s\", which is a format already",
                            name);
    }
    text = sl_cmd_arg(cmd, 1);
    if (strcmp(text, "json") == 0) {
        char **pairs = apr_palloc(sl_cmd_pool(cmd), (size_t)(n + 1) * sizeof *pairs);

        for (i = 0; i < n; i++)
            pairs[i] = apr_pstrdup(sl_cmd_pool(cmd), sl_cmd_arg(cmd, 2 + i));
        f = format_json(sl_cmd_pool(cmd), pairs, n, &err);
    } else if (n > 0)
        return "expected one format; write it in quotes";
    else
        f = format_text(sl_cmd_pool(cmd), text, &err);
    if (f == NULL)
        return err;
    APR_ARRAY_PUSH(data_of(cmd)->formats, struct named_format) = (struct named_format){name, f};
    *item = f;
    return NULL;
}

static struct sink *
sink_of(struct sl_cmd *cmd, const char *where, int64_t buffer, int64_t flush_ms)
{
    struct log_data *d = data_of(cmd);
    struct sink *s;
    int i;

    for (i = 0; i < d->sinks->nelts; i++)
        if (strcmp(sink_where(APR_ARRAY_IDX(d->sinks, i, struct sink *)), where) == 0)
            return APR_ARRAY_IDX(d->sinks, i, struct sink *);
    s = sink_make(sl_cmd_pool(cmd), where, buffer, flush_ms);
    APR_ARRAY_PUSH(d->sinks, struct sink *) = s;
    return s;
}

struct log_options {
    int64_t buffer, flush;
};
static const struct sl_option log_options[] = {
    {"buffer", SL_SLOT_SIZE, offsetof(struct log_options, buffer), "64k", NULL,
     "the size of a thread's buffer"},
    {"flush", SL_SLOT_DURATION, offsetof(struct log_options, flush), "1s", NULL,
     "how long a line may wait"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static int
is_option(const char *word)
{
    return strncmp(word, "buffer=", 7) == 0 || strncmp(word, "flush=", 6) == 0 ||
           strncmp(word, "if=", 3) == 0 || strncmp(word, "sample=", 7) == 0;
}

static const char *
access_log_parse(struct sl_cmd *cmd, void **item)
{
    struct access_log *l = apr_pcalloc(sl_cmd_pool(cmd), sizeof *l);
    struct log_options o = {65536, 1000};
    const char *where = sl_cmd_arg(cmd, 0), *word, *err = NULL;
    int next = 1;

    if (where == NULL)
        return "expected a file, stdout, stderr or syslog";
    if (*where == '|')
        return "expected a file, stdout, stderr or syslog; pipes are not in this version";
    word = sl_cmd_arg(cmd, 1);
    if (word != NULL && !is_option(word)) {
        next = 2;
        l->name = word;
        if (strchr(word, '%') != NULL &&
            (l->format = format_text(sl_cmd_pool(cmd), word, &err)) == NULL)
            return err;
    } else
        l->name = "combined";
    l->place = sl_cmd_place(cmd);
    APR_ARRAY_PUSH(data_of(cmd)->pending, struct access_log *) = l;
    if ((err = sl_cmd_options(cmd, next, log_options, &o)) != NULL)
        return err;
    l->sink = sink_of(cmd, where, o.buffer > 0 ? o.buffer : 0, o.flush >= 0 ? o.flush : 1000);
    *item = l;
    return NULL;
}

static enum sl_verdict
log_request(struct sl_req *r, const void *confp)
{
    const struct log_conf *conf = confp;
    int i;

    for (i = 0; conf->logs != NULL && i < conf->logs->nelts; i++) {
        const struct access_log *l = APR_ARRAY_IDX(conf->logs, i, struct access_log *);
        char *to = sink_room(l->sink, sl_req_loop(r), LINE_MAX_BYTES);

        sink_wrote(l->sink, sl_req_loop(r), format_line(l->format, r, to));
    }
    return SL_NEXT;
}

static int
log_check(struct sl_worker *w)
{
    const struct log_data *d = sl_worker_module_data(w, &sl_module_record);
    int i;

    for (i = 0; d->pending != NULL && i < d->pending->nelts; i++) {
        struct access_log *l = APR_ARRAY_IDX(d->pending, i, struct access_log *);

        if (l->format == NULL)
            l->format = format_named(sl_worker_pool(w), d, l->name);
        if (l->format == NULL)
            sl_worker_config_error(w, l->place, "AccessLog: expected the name of a format (common, "
                                   "combined, json or one of LogFormat) or a text with %%, found "
                                   "\"%s\"", l->name);
    }
    return 0;
}

static int
log_open_all(struct sl_worker *w)
{
    const struct log_data *d = sl_worker_module_data(w, &sl_module_record);
    int i;

    for (i = 0; d->sinks != NULL && i < d->sinks->nelts; i++)
        if (sink_open(APR_ARRAY_IDX(d->sinks, i, struct sink *), sl_worker_threads(w)) != 0)
            return -1;
    return 0;
}

static int
log_close_all(struct sl_worker *w)
{
    const struct log_data *d = sl_worker_module_data(w, &sl_module_record);
    int i;

    for (i = 0; d->sinks != NULL && i < d->sinks->nelts; i++)
        sink_close(APR_ARRAY_IDX(d->sinks, i, struct sink *), w);
    return 0;
}

static int
log_init(const struct sl_module *self)
{
    (void)self;
    return sinks_init();
}

static const struct sl_directive directives[] = {
    SL_LINES("LogFormat", struct log_conf, formats, format_parse, SL_IN_GLOBAL,
             "NAME FORMAT|json MEMBER=VALUE ...", "Names a format of log lines"),
    SL_LINES("AccessLog", struct log_conf, logs, access_log_parse, SL_IN_ANY,
             "FILE|stdout|stderr|syslog [FORMAT] [buffer=] [flush=]",
             "Where a line for every request goes"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(log_check),
    SL_ON_OPEN_LOGS(log_open_all),
    SL_ON_WORKER_EXIT(log_close_all),
    SL_ON_LOG(log_request, SL_MIDDLE, 0),
    SL_HOOKS_END,
};
SL_MODULE(log) = {
    .name = "log",
    .conf_size = sizeof(struct log_conf),
    .data_size = sizeof(struct log_data),
    .directives = directives,
    .hooks = hooks,
    .init = log_init,
};
