/* The access log.  A log hook writes one line for each AccessLog of the request's scope into
 * its thread's buffer; nothing is locked and nothing waits. */

/*man
NAME
    mod_log - writes a line for every request
DESCRIPTION
    Lines are buffered by each thread and written whole, when the buffer is full or after a
    second. AccessLog lines of enclosing scopes add up; a line "AccessLog off" (or -) forgets
    those of the scopes around it.

    Formats: common, combined and json are built in. A format of your own is text with the
    letters of httpd (%h %t %r %s %b %D %T %U %q %m %H %v and %{Name}i, %{Name}o) and with
    %{variables}, which sluice-core(8) lists; what clients sent is escaped, so that no line can be forged. Formats
    that begin with the word json write one object a line, always valid: numbers are
    numbers and what is absent is null. Their values have %{variables} and no letters:
    %{req:User-Agent} is what text formats write as %{User-Agent}i, %{resp:NAME} what they
    write as %{NAME}o. The members of the format json are time=%{time},
    request_id=%{request_id}, client=%{remote_addr}, method=%{method}, host=%{host},
    uri=%{uri}, protocol=%{protocol}, status=%{status}, bytes=%{bytes_sent},
    request_time=%{request_time}, upstream=%{upstream_addr}, upstream_time=%{upstream_time},
    cause=%{cause}, referer=%{req:Referer} and user_agent=%{req:User-Agent}.
DIRECTIVES
  LogFormat
    Names a format: LogFormat NAME "TEXT", or LogFormat NAME json MEMBER=VALUE ...
  AccessLog
    Where lines go (a file, stdout, stderr, syslog) and in which format: the name of one, or
    its text; combined when left out. buffer= is the size of a thread's buffer, 0 to write
    at once; flush= how long a line may wait in it. With if= a line is written only where the
    condition holds; it may ask for all that is known when the request is over. off: nowhere,
    from here inwards. Files are made by the user who starts the server, with the mode 0640.
EXAMPLE
    LoadModule route
    LoadModule log
    Listen 80
    LogFormat brief "%h %>s %{request_time} %U"
    AccessLog /var/log/sluice/access.log combined
    AccessLog /var/log/sluice/access.json json buffer=256k
    AccessLog /var/log/sluice/slow.log brief if="%{request_time} > 1s || %{status} >= 500"
    LogFormat short json at=%{time} who=%{remote_addr} agent=%{req:User-Agent}
    AccessLog /var/log/sluice/short.json short
    ProxyPass http://127.0.0.1:3000
*/

#include "format.h"
#include "sink.h"

#include <apr_strings.h>

#include <errno.h>

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
    struct sink *sink; /* NULL: "off" */
    struct format *format; /* NULL until check_config: LogFormat may stand below */
    const char *name, *place;
    struct sl_cond *condition; /* NULL: every request */
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

/* "; did you mean ...?", or nothing. */
static const char *
format_nearest(apr_pool_t *pool, const struct log_data *d, const char *name)
{
    static const char *const builtin[] = {"common", "combined", "json"};
    const char *nearest = NULL, *its;
    unsigned distance, least = 3;
    int i, n_builtin = (int)(sizeof builtin / sizeof builtin[0]);

    for (i = 0; i < n_builtin + d->formats->nelts; i++) {
        its = i < n_builtin ? builtin[i]
                            : APR_ARRAY_IDX(d->formats, i - n_builtin, struct named_format).name;
        if ((distance = sl_name_distance(name, its)) < least) {
            least = distance;
            nearest = its;
        }
    }
    return nearest != NULL ? apr_psprintf(pool, "\n    cure: did you mean \"%s\"?", nearest) : "";
}

static const char *
format_parse(struct sl_cmd *cmd, void **item)
{
    const char *name = sl_cmd_arg(cmd, 0), *text, *err = NULL;
    struct format *f;
    int n = sl_cmd_argc(cmd) - 2, bad = 0, i;

    if (n < 0)
        return "expected a name and a format";
    if (strpbrk(name, "%{ ") != NULL) {
        sl_cmd_cure(cmd, "write \"LogFormat %s ...\": the name stands first",
                    n == 0 && strpbrk(sl_cmd_arg(cmd, 1), "% ") == NULL ? sl_cmd_arg(cmd, 1)
                                                                       : "NAME");
        sl_cmd_arg(cmd, 0);
        return "expected a name of letters and digits";
    }
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
        if (n == 0)
            return "expected MEMBER=VALUE behind json, found nothing";
        f = format_json(sl_cmd_pool(cmd), pairs, n, &bad, &err);
        if (f == NULL)
            sl_cmd_arg(cmd, 2 + bad); /* the member at fault */
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
    s = sink_make(sl_cmd_pool(cmd), where, sl_cmd_place(cmd), buffer, flush_ms);
    APR_ARRAY_PUSH(d->sinks, struct sink *) = s;
    return s;
}

struct log_options {
    int64_t buffer, flush;
    struct sl_cond *condition;
};
static const struct sl_option log_options[] = {
    {"buffer", SL_SLOT_SIZE, offsetof(struct log_options, buffer), "64k", NULL,
     "the size of a thread's buffer"},
    {"flush", SL_SLOT_DURATION, offsetof(struct log_options, flush), "1s", NULL,
     "how long a line may wait"},
    {"if", SL_SLOT_COND_LOG, offsetof(struct log_options, condition), NULL, NULL,
     "the condition under which a line is written"},
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
    struct log_options o = {65536, 1000, NULL};
    const char *where = sl_cmd_arg(cmd, 0), *word, *err = NULL;
    int next = 1;

    if (where == NULL)
        return "expected a file, stdout, stderr, syslog or off";
    if (strcasecmp(where, "off") == 0) {
        *item = l; /* without a sink */
        return sl_cmd_argc(cmd) == 1 ? NULL : "expected nothing behind off";
    }
    if (strcasecmp(where, "none") == 0) {
        sl_cmd_cure(cmd, "write \"AccessLog off\", or ./none for a file of that name");
        return "expected a file, stdout, stderr, syslog or off";
    }
    if (*where == '|')
        return "expected a file, stdout, stderr, syslog or off; pipes are not in this version";
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
    l->condition = o.condition;
    l->sink = sink_of(cmd, where, o.buffer > 0 ? o.buffer : 0, o.flush >= 0 ? o.flush : 1000);
    *item = l;
    return NULL;
}

static enum sl_verdict
log_request(struct sl_req *r, const void *confp)
{
    const struct log_conf *conf = confp;
    int i, n = conf->logs != NULL ? conf->logs->nelts : 0;

    for (i = n; i > 0 && APR_ARRAY_IDX(conf->logs, i - 1, struct access_log *)->sink != NULL; i--)
        ; /* what stands before an "off" is none of this scope's */
    for (; i < n; i++) {
        const struct access_log *l = APR_ARRAY_IDX(conf->logs, i, struct access_log *);
        char *to;

        if (l->condition != NULL && sl_cond_holds(l->condition, r) == 0)
            continue; /* a pattern that gave up costs no line */
        to = sink_room(l->sink, sl_req_loop(r), LINE_MAX_BYTES);
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
                                   "\"%s\"%s", l->name, format_nearest(sl_worker_pool(w), d, l->name));
    }
    for (i = 0; d->sinks != NULL && i < d->sinks->nelts; i++) {
        const struct sink *s = APR_ARRAY_IDX(d->sinks, i, struct sink *);

        if (sink_check(s) != 0)
            sl_worker_config_error(w, sink_place(s), "AccessLog %s: %s%s", sink_where(s),
                                   strerror(errno),
                                   errno == ENOENT ? "\n    cure: make the folder it lies in" : "");
    }
    return 0;
}

static int
log_open_all(struct sl_worker *w)
{
    const struct log_data *d = sl_worker_module_data(w, &sl_module_record);
    int i;

    for (i = 0; d->sinks != NULL && i < d->sinks->nelts; i++) {
        struct sink *s = APR_ARRAY_IDX(d->sinks, i, struct sink *);

        if (sink_open(s, sl_worker_threads(w)) != 0)
            sl_worker_config_error(w, sink_place(s), "AccessLog %s: %s", sink_where(s),
                                   strerror(errno));
    }
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
    {"AccessLog", SL_SLOT_LINES, SL_IN_ANY, offsetof(struct log_conf, logs), "off",
     "Where a line for every request goes",
     "FILE|stdout|stderr|syslog|off [FORMAT] [buffer=64k] [flush=1s] [if=CONDITION]",
     access_log_parse, NULL, NULL},
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
