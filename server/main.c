/* The program: its options, and which of its shapes they ask for. */
#include "config/load.h"
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
            MODE_SCOPES, MODE_EFFECTIVE, MODE_EXPLAIN, MODE_COMMAND };

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
};

static void
print_help(FILE *to)
{
    fprintf(to,
            "usage: sluice [-f FILE] [-k COMMAND | -X | -XX | -t | -L | -M | -S | -T]\n"
            "       sluice [-f FILE] ctl generations | close id=N\n"
            "       sluice [-f FILE] -E 'METHOD URL' [-H 'FIELD: VALUE']... [from=ADDR] [--json]\n"
            "       sluice --listen [ADDR:]PORT --proxy TARGET\n\n"
            "  -f FILE            the configuration (%s/sluice/sluice.conf)\n"
            "  -k start           run as a daemon (also without any option); returns when clients\n"
            "                     are served\n"
            "  -k reload          take the configuration, the modules and the program as they are\n"
            "                     now, or change nothing and say why; --confirm TIME: go back unless\n"
            "                     -k confirm comes in time; --timeout TIME: to start (60s)\n"
            "  -k reopen          open log files again, after a rotation\n"
            "  -k stop            finish what is under way and end\n"
            "  ctl generations    list who serves and who drains; ctl close id=N ends one\n"
            "  -X                 run in the foreground: a master and its worker\n"
            "  -XX                run as one process, for debuggers\n"
            "  -t                 test the configuration and leave\n"
            "  -L                 list every directive of the loaded modules\n"
            "  -M                 list the modules and the order of their hooks\n"
            "  -S                 list listeners, hosts and locations\n"
            "  -T                 print every value that holds, and the line that says so\n"
            "  -E 'METHOD URL'    explain what would be done with this request, and why\n"
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
    {"json", no_argument, NULL, 'j'},
    {"worker", required_argument, NULL, 'w'}, {"version", no_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
};

/* The words behind "ctl" are the command; returns argc. */
static int
take_ctl(int argc, char **argv, struct options *o)
{
    static char command[256];
    size_t n = 0;
    int i;

    for (i = optind + 1; i < argc && n < sizeof command; i++)
        n += (size_t)snprintf(command + n, sizeof command - n, "%s%s", n > 0 ? " " : "", argv[i]);
    o->command = n > 0 ? command : "generations";
    o->mode = MODE_COMMAND;
    return argc;
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
            print_help(stdout);
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
        default: /* getopt has said what is wrong */
            print_help(stderr);
            return 2;
        }
    if (o->mode == MODE_EXPLAIN && optind < argc && strncmp(argv[optind], "from=", 5) == 0)
        o->ask.from = argv[optind++] + 5;
    if (optind < argc && strcmp(argv[optind], "ctl") == 0)
        optind = take_ctl(argc, argv, o);
    else if (o->command != NULL && o->mode == MODE_MASTER && strcmp(o->command, "start") != 0)
        o->mode = MODE_COMMAND;
    if (optind < argc || (o->n_listen > 0) != (o->proxy != NULL)) {
        fprintf(stderr, "sluice: %s\n", optind < argc ? "found an argument that is no option"
                                                      : "--listen and --proxy go together");
        return 2;
    }
    return -1;
}

static int
look_at_config(const struct options *o, apr_pool_t *pool)
{
    struct sl_worker *w = worker_for_test(pool, &o->source);
    int n_errors = w->config->errors->nelts, n_tests = 0;

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
    case MODE_EXPLAIN:
    case MODE_COMMAND:
        break;
    }
    config_print_errors(w->config, stderr);
    return n_errors == 0 ? 0 : 1;
}

static int
explain_request(struct options *o, apr_pool_t *pool)
{
    struct sl_worker *w = worker_for_test(pool, &o->source);
    struct explained *x;
    const char *err;

    if (config_print_errors(w->config, stderr) > 0)
        return 1;
    o->ask.fields = o->fields;
    if ((x = explain(w, &o->ask, &err)) == NULL) {
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

/* "90s" as the control socket wants it, behind NAME=; -1: no time. */
static int
add_time(apr_pool_t *pool, char *to, size_t n, const char *name, const char *text)
{
    int64_t ms;
    const char *err;

    if (text == NULL)
        return 0;
    err = slot_parse(pool, SL_SLOT_DURATION, NULL, text, &ms);
    if (err != NULL || ms <= 0) {
        fprintf(stderr, "sluice: --%s %s: %s\n", name, text, err != NULL ? err : "expected more than 0");
        return -1;
    }
    snprintf(to + strlen(to), n - strlen(to), " %s=%lld", name, (long long)ms);
    return 0;
}

/* Where the server listens stands in the configuration, even in one with errors. */
static int
command_send(const struct options *o, apr_pool_t *pool)
{
    const struct core_conf *core = config_global(config_load(pool, &o->source))->core;
    char text[512];

    snprintf(text, sizeof text, "%s", o->command);
    if (add_time(pool, text, sizeof text, "confirm", o->confirm) != 0 ||
        add_time(pool, text, sizeof text, "timeout", o->timeout) != 0)
        return 2;
    return control_command(core->control_socket != NULL ? core->control_socket : CONTROL_DEFAULT,
                           text);
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
        rc = master_main(argv, argc, is_daemon(&o));
        break;
    case MODE_SINGLE:
        rc = worker_main(&o.source, -1, 0);
        break;
    case MODE_WORKER:
        rc = worker_main(&o.source, o.worker_fd, is_daemon(&o));
        break;
    case MODE_COMMAND:
        rc = command_send(&o, pool);
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
