/* The program: its options, and which of its shapes they ask for. */
#include "config/lint.h"
#include "config/load.h"
#include "config/overrides.h"
#include "control_words.h"
#include "explain.h"
#include "master/control.h"
#include "master/master.h"
#include "worker.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_version.h>
#include <apu_version.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SL_SYSCONFDIR
#define SL_SYSCONFDIR "/usr/local/etc"
#endif
#ifndef SL_LIBDIR
#define SL_LIBDIR "/usr/local/lib/sluice"
#endif
#ifndef SL_VERSION
#define SL_VERSION "0.1.0"
#endif

enum mode { MODE_MASTER, MODE_SINGLE, MODE_WORKER, MODE_TEST, MODE_DIRECTIVES, MODE_MODULES,
            MODE_SCOPES, MODE_EFFECTIVE, MODE_LINT, MODE_EXPLAIN, MODE_COMMAND, MODE_RESTART, MODE_TAKE_OVER,
            MODE_TAKE_OVER_TEST };

struct options {
    enum mode mode;
    struct config_source source;
    const char *listen[16];
    int n_listen;
    const char *proxy;
    int n_x;       /* how often -X was given */
    const char *command; /* -k, or ctl: what the running server is told */
    const char *confirm, *timeout;
    struct explain_ask ask; /* -E */
    const char *fields[64]; /* -H */
    int is_json;
    int worker_fd; /* the channel, for the process the master starts */
    int state_fd;  /* the state, for the next master and its test */
};

#define USAGE                                                                                \
    "usage: sluice [-f FILE] [-k COMMAND | -X | -XX | -t | -L | -M | -S | -T]\n"             \
    "       sluice [-f FILE] --lint [--json]\n"                                               \
    "       sluice [-f FILE] ctl COMMAND [WORD]... [--json]     (ctl help lists them)\n"     \
    "       sluice [-f FILE] -E 'METHOD URL' [-H 'FIELD: VALUE']... [from=ADDR] [--json]\n"  \
    "       sluice --listen [ADDR:]PORT --proxy TARGET\n"

static void
print_help(void)
{
    printf(USAGE "\n"
           "  -f FILE            the configuration (%s/sluice/sluice.conf)\n"
           "  -k start           run as a daemon (also without any option); returns when clients\n"
           "                     are served\n"
           "  -k reload          take the configuration, the modules and the program as they are\n"
           "                     now, or change nothing and say why; --confirm TIME: go back unless\n"
           "                     -k confirm comes in time; --timeout TIME: to start (60s)\n"
           "  -k confirm         stay with what was reloaded\n"
           "  -k upgrade         replace the master, too, by the program as it is now, then reload;\n"
           "                     takes --confirm and --timeout\n"
           "  -k reopen          open log files again, after a rotation\n"
           "  -k stop            finish what is under way and end; returns when the server has\n"
           "                     stopped, or after --timeout TIME with status 1\n"
           "  -k restart         test the configuration, stop, start\n"
           "  ctl generations    list who serves and who drains; ctl close id=N ends one\n"
           "  ctl zones          list the memory that generations share\n"
           "  ctl counters       print what was counted, in all generations since the start\n"
           "  ctl help           list all commands, those of the loaded modules too\n"
           "  -X                 run in the foreground: a master and its worker\n"
           "  -XX                run as one process, for debuggers\n"
           "  -t                 test the configuration, <Test> blocks included, and leave\n"
           "  -L                 list every directive of the loaded modules, and the variables\n"
           "  -M                 list the modules and the order of their hooks\n"
           "  -S                 list listeners, hosts, locations, and pools with their servers\n"
           "  -T                 print every value that holds, and the line that says so\n"
           "  -E 'METHOD URL'    explain what would be done with this request, and why\n"
           "  --lint             say what is legal but likely not meant: where, why, the cure; status\n"
           "                     1 when there is such a thing, or an error\n"
           "  -V, -v             versions and paths\n"
           "  --listen, --proxy  serve without a file: sluice --listen :8080 --proxy "
           "http://127.0.0.1:3000\n"
           "  --module-dir DIR   where modules are ($SLUICE_MODULES, %s)\n"
           "  -h, --help         this\n",
           SL_SYSCONFDIR, SL_LIBDIR);
}

static void
print_version(int all)
{
    char pcre[64] = "";

    printf("sluice %s\n", SL_VERSION);
    if (!all)
        return;
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    printf("module ABI %d.%d\nAPR %s, APR-util %s, PCRE2 %s\n", SL_ABI_MAJOR, SL_ABI_MINOR,
           apr_version_string(), apu_version_string(), pcre);
    printf("configuration %s/sluice/sluice.conf\nmodules %s\n", SL_SYSCONFDIR, SL_LIBDIR);
}

/* --listen and --proxy are a configuration of three lines. */
static const char *
text_of_options(const struct options *o, apr_pool_t *pool)
{
    char *text = apr_pstrdup(pool, "LoadModule route\n");
    int i;

    for (i = 0; i < o->n_listen; i++)
        text = apr_pstrcat(pool, text, "Listen ", o->listen[i], "\n", NULL);
    return apr_pstrcat(pool, text, "ProxyPass ", o->proxy, "\n", NULL);
}

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},         {"listen", required_argument, NULL, 'l'},
    {"proxy", required_argument, NULL, 'p'},  {"module-dir", required_argument, NULL, 'm'},
    {"confirm", required_argument, NULL, 'c'}, {"timeout", required_argument, NULL, 'i'},
    {"json", no_argument, NULL, 'j'},         {"lint", no_argument, NULL, 'n'},
    {"worker", required_argument, NULL, 'w'}, {"version", no_argument, NULL, 'v'},
    {"take-over", required_argument, NULL, 'O'}, {"take-over-test", required_argument, NULL, 'Q'},
    {NULL, 0, NULL, 0},
};

static const char *const commands[] = {"start",  "reload", "confirm", "upgrade",
                                       "reopen", "stop",   "restart", NULL};

static int
is_one_of(const char *word, const char *const *words)
{
    while (*words != NULL && strcmp(*words, word) != 0)
        words++;
    return *words != NULL;
}

static void
expected_commands(const char *word)
{
    int i;

    fprintf(stderr, "sluice: -k %s: expected ", word);
    for (i = 0; commands[i] != NULL; i++)
        fprintf(stderr, "%s%s", i == 0 ? "" : commands[i + 1] == NULL ? " or " : ", ", commands[i]);
    fprintf(stderr, "\n");
}

/* What other servers' users type: the option getopt has just refused. */
static void
option_hint(int letter)
{
    static const struct {
        char letter;
        const char *here;
    } hints[] = {{'s', "-k reload, -k reopen or -k stop"}, {'c', "-f FILE for a file, "
                 "-t for a test"}, {'q', "-t"}, {'D', "-k start"}, {'g', "Define in the file"},
                 {'e', "ErrorLog in the file"}, {'l', "-M"}, {'d', "-k start"}};
    size_t i;

    for (i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (hints[i].letter == letter)
            fprintf(stderr, "here: %s\n", hints[i].here);
    fprintf(stderr, USAGE "\"sluice --help\" says what they do\n");
}

/* The words from `at` on are the command.  0, or the exit status. */
static int
take_ctl(int argc, char **argv, int at, struct options *o)
{
    static char line[CONTROL_LINE_MAX];
    size_t n = 0;
    unsigned f;
    int i, rc = 0;

    if (at >= argc || is_one_of(argv[at], commands)) {
        fprintf(stderr, "sluice: ctl%s%s: expected %s%s\n", at < argc ? " " : "",
                at < argc ? argv[at] : "",
                at < argc ? "-k " : "a command; \"sluice ctl help\" lists them",
                at < argc ? argv[at] : "");
        return 2;
    }
    for (i = at; i < argc && rc == 0; i++)
        rc = control_word_add(line, sizeof line, &n, argv[i]);
    for (f = 0; f < o->ask.n_fields && rc == 0; f++) {
        rc = control_word_add(line, sizeof line, &n, "-H");
        if (rc == 0)
            rc = control_word_add(line, sizeof line, &n, o->fields[f]);
    }
    if (o->is_json && rc == 0)
        rc = control_word_add(line, sizeof line, &n, "--json");
    if (rc != 0)
        fprintf(stderr, "sluice: ctl %s: expected less than %d KiB\n", argv[at],
                CONTROL_LINE_MAX / 1024);
    o->command = line;
    o->mode = MODE_COMMAND;
    return rc != 0 ? 2 : 0;
}

/* -1: they fit together; else the exit status. */
static int
options_check(int argc, char **argv, struct options *o)
{
    if (o->command != NULL && !is_one_of(o->command, commands)) {
        expected_commands(o->command);
        return 2;
    }
    if (o->mode == MODE_EXPLAIN && optind < argc && strncmp(argv[optind], "from=", 5) == 0)
        o->ask.from = argv[optind++] + 5;
    if (optind < argc && strcmp(argv[optind], "ctl") == 0) {
        if (take_ctl(argc, argv, optind + 1, o) != 0)
            return 2;
        optind = argc;
    } else if (o->command != NULL && o->mode == MODE_MASTER && strcmp(o->command, "start") != 0)
        o->mode = strcmp(o->command, "restart") == 0 ? MODE_RESTART : MODE_COMMAND;
    if (optind < argc) {
        fprintf(stderr, "sluice: expected an option, found \"%s\"\n", argv[optind]);
        option_hint(0);
        return 2;
    }
    if ((o->n_listen > 0) == (o->proxy != NULL))
        return -1;
    fprintf(stderr, "sluice: --listen and --proxy go together\n");
    return 2;
}

/* -1: go on; else the exit status. */
static int
parse_options(int argc, char **argv, struct options *o)
{
    int c;

    while ((c = getopt_long(argc, argv, "f:XtLMSTE:H:Vvhk:", long_options, NULL)) != -1)
        switch (c) {
        case 'f':
            o->source.file = optarg;
            break;
        case 'X':
            if (++o->n_x == 2 && o->mode == MODE_MASTER)
                o->mode = MODE_SINGLE;
            break;
        case 't':
            o->mode = MODE_TEST;
            break;
        case 'L':
            o->mode = MODE_DIRECTIVES;
            break;
        case 'M':
            o->mode = MODE_MODULES;
            break;
        case 'S':
            o->mode = MODE_SCOPES;
            break;
        case 'T':
            o->mode = MODE_EFFECTIVE;
            break;
        case 'E':
            o->mode = MODE_EXPLAIN;
            o->ask.what = optarg;
            break;
        case 'n':
            o->mode = MODE_LINT;
            o->source.is_linting = 1;
            break;
        case 'H':
            if (o->ask.n_fields < sizeof o->fields / sizeof o->fields[0])
                o->fields[o->ask.n_fields++] = optarg;
            break;
        case 'j':
            o->is_json = 1;
            break;
        case 'V':
        case 'v':
            print_version(c == 'V');
            return 0;
        case 'h':
            print_help();
            return 0;
        case 'k':
            o->command = optarg;
            break;
        case 'c':
            o->confirm = optarg;
            break;
        case 'i':
            o->timeout = optarg;
            break;
        case 'l':
            if (o->n_listen < 16)
                o->listen[o->n_listen++] = optarg;
            break;
        case 'p':
            o->proxy = optarg;
            break;
        case 'm':
            o->source.module_dir = optarg;
            break;
        case 'w':
            o->mode = MODE_WORKER;
            o->worker_fd = atoi(optarg);
            break;
        case 'O':
        case 'Q':
            o->mode = c == 'O' ? MODE_TAKE_OVER : MODE_TAKE_OVER_TEST;
            o->state_fd = atoi(optarg);
            break;
        default: /* getopt has said what is wrong */
            option_hint(optopt);
            return 2;
        }
    return options_check(argc, argv, o);
}

static int
look_at_config(const struct options *o, apr_pool_t *pool)
{
    struct sl_worker *w = worker_for_test(pool, &o->source);
    int n_errors, n_tests = 0;

    if (o->mode == MODE_TEST)
        worker_check(w);
    else
        config_run_worker_hooks(w->config, SL_HOOK_CHECK_CONFIG, w);
    n_errors = w->config->errors->nelts;
    switch (o->mode) {
    case MODE_DIRECTIVES:
        config_print_directives(w->config, stdout);
        break;
    case MODE_MODULES:
        config_print_modules(w->config, stdout);
        break;
    case MODE_SCOPES:
        config_print_scopes(w->config, stdout);
        break;
    case MODE_EFFECTIVE:
        config_print_effective(w->config, stdout);
        break;
    case MODE_TEST:
        if (n_errors == 0)
            n_tests = tests_run(w);
        n_errors = w->config->errors->nelts;
        if (n_errors == 0)
            printf("configuration OK\n");
        if (n_errors == 0 && n_tests > 0)
            printf("%d test%s as expected\n", n_tests, n_tests == 1 ? "" : "s");
        break;
    case MODE_MASTER:
    case MODE_SINGLE:
    case MODE_WORKER:
    case MODE_LINT:
    case MODE_EXPLAIN:
    case MODE_COMMAND:
    case MODE_RESTART:
    case MODE_TAKE_OVER:
    case MODE_TAKE_OVER_TEST:
        break;
    }
    if (o->mode == MODE_TEST || o->mode == MODE_EFFECTIVE)
        config_print_trouble(w->config, stderr);
    config_print_errors(w->config, stderr);
    return n_errors == 0 ? 0 : 1;
}

/* Errors and findings; 0: there are none. */
static int
lint_config(const struct options *o, apr_pool_t *pool)
{
    struct sl_worker *w = worker_for_test(pool, &o->source);
    int n;

    worker_check(w);
    if (w->config->errors->nelts == 0)
        lint_core(w->config);
    if (o->is_json)
        n = lint_print_json(w->config, stdout);
    else
        n = config_print_errors(w->config, stderr) + lint_print_text(w->config, stdout);
    return n == 0 && w->config->errors->nelts == 0 ? 0 : 1;
}

static int
explain_request(struct options *o, apr_pool_t *pool)
{
    struct sl_worker *w = worker_for_test(pool, &o->source);
    struct explained *x;
    const char *err;

    config_run_worker_hooks(w->config, SL_HOOK_CHECK_CONFIG, w);
    if (config_print_errors(w->config, stderr) > 0)
        return 1;
    o->ask.fields = o->fields;
    if ((x = explain(w, pool, &o->ask, &err)) == NULL) {
        fprintf(stderr, "sluice: -E: %s\n", err);
        return 2;
    }
    if (o->is_json)
        explain_print_json(x, stdout);
    else
        explain_print_text(x, stdout);
    explain_end(&x);
    return 0;
}

static int
is_daemon(const struct options *o)
{
    return o->n_x == 0 && o->proxy == NULL;
}

/* "90s" in milliseconds; 0: no time was given; -1: it is none. */
static int64_t
time_option(apr_pool_t *pool, const char *name, const char *text)
{
    int64_t ms = 0;
    const char *err;

    if (text == NULL)
        return 0;
    err = slot_parse(pool, SL_SLOT_DURATION, NULL, text, &ms);
    if (err == NULL && ms > 0)
        return ms;
    fprintf(stderr, "sluice: --%s %s: %s\n", name, text,
            err != NULL ? err : "expected more than 0");
    return -1;
}

/* The server reads the file it was started with, and says so when another one was meant.  A path
 * that is too long for the line is left out. */
static const char *
text_with_file(apr_pool_t *pool, const char *text, const char *file)
{
    char *path = file != NULL ? realpath(file, NULL) : NULL, line[CONTROL_TAKEN_MAX / 2];
    size_t n = 0;
    int rc = path != NULL ? control_word_add(line, sizeof line, &n, path) : -1;

    free(path);
    return rc == 0 ? apr_psprintf(pool, "%s file=%s", text, line) : text;
}

/* Where the server listens stands in the configuration, even in one with errors, and with modules
 * that are half installed. */
static int
command_send(const struct options *o, const char *command, apr_pool_t *pool)
{
    struct config_source source = o->source;
    const struct core_conf *core;
    int64_t confirm = time_option(pool, "confirm", o->confirm);
    int64_t timeout = time_option(pool, "timeout", o->timeout);
    int is_reload = strcmp(command, "reload") == 0 || strcmp(command, "upgrade") == 0, rc;
    const char *text = command;

    source.core_only = 1;
    core = config_global(config_load(pool, &source))->core;
    if (confirm < 0 || timeout < 0)
        return 2;
    if (confirm > 0)
        text = apr_psprintf(pool, "%s confirm=%" APR_INT64_T_FMT, text, confirm);
    if (timeout > 0 && is_reload) /* the server's own patience: it refuses, and says so */
        text = apr_psprintf(pool, "%s timeout=%" APR_INT64_T_FMT, text, timeout);
    if (is_reload)
        text = text_with_file(pool, text, source.file);
    rc = control_command(core->control_socket != NULL ? core->control_socket : CONTROL_DEFAULT,
                         text, is_reload ? 0 : timeout);
    if (rc == CONTROL_NOBODY && core->control_socket == NULL && o->source.file != NULL)
        fprintf(stderr, "cure: write \"ControlSocket FILE\" in %s; without it only a daemon "
                "started by root has one\n", o->source.file);
    return rc;
}

/* In a process of its own, for a master loads no module: the configuration is good, and the server
 * has stopped or there was none.  0 or the exit status. */
static int
restart_prepare(struct options *o, apr_pool_t *pool)
{
    int status = 1;
    pid_t pid = fork();

    if (pid == 0) {
        o->mode = MODE_TEST;
        status = look_at_config(o, pool);
        if (status == 0 && (status = command_send(o, "stop", pool)) == CONTROL_NOBODY)
            status = 0;
        fflush(stdout);
        _exit(status);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return 1;
    return WEXITSTATUS(status);
}

int
main(int argc, char **argv)
{
    struct options o = {.mode = MODE_MASTER};
    apr_pool_t *pool;
    int rc = parse_options(argc, argv, &o);

    if (rc >= 0)
        return rc;
    apr_initialize();
    apr_pool_create(&pool, NULL);
    if (o.proxy != NULL) {
        o.source.text = text_of_options(&o, pool);
        o.source.name = "(options)";
    } else if (o.source.file == NULL)
        o.source.file = SL_SYSCONFDIR "/sluice/sluice.conf";
    switch (o.mode) {
    case MODE_MASTER:
        rc = master_main(argv, argc, o.source.file, is_daemon(&o));
        break;
    case MODE_SINGLE:
        rc = worker_main(&o.source, -1, 0);
        break;
    case MODE_WORKER:
        rc = worker_main(&o.source, o.worker_fd, is_daemon(&o));
        break;
    case MODE_TAKE_OVER: /* the option and its number are the last words */
        rc = master_take_over(argv, argc - 2, o.source.file, o.state_fd);
        break;
    case MODE_TAKE_OVER_TEST:
        rc = upgrade_test(o.state_fd);
        break;
    case MODE_COMMAND:
        rc = command_send(&o, o.command, pool);
        break;
    case MODE_RESTART:
        rc = restart_prepare(&o, pool);
        if (rc == 0)
            rc = master_main(argv, argc, o.source.file, is_daemon(&o));
        break;
    case MODE_LINT:
        rc = lint_config(&o, pool);
        break;
    case MODE_EXPLAIN:
        rc = explain_request(&o, pool);
        break;
    case MODE_TEST:
    case MODE_DIRECTIVES:
    case MODE_MODULES:
    case MODE_SCOPES:
    case MODE_EFFECTIVE:
        rc = look_at_config(&o, pool);
        break;
    }
    apr_pool_destroy(pool);
    apr_terminate();
    return rc;
}
