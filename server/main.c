/* The program: its options, and which of its shapes they ask for. */
#include "master.h"
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
            MODE_SCOPES };

struct options {
    enum mode mode;
    struct config_source source;
    const char *listen[16];
    int n_listen;
    const char *proxy;
    int n_x;       /* how often -X was given */
    int worker_fd; /* the channel, for the process the master starts */
};

static void
print_help(FILE *to)
{
    fprintf(to,
            "usage: sluice [-f FILE] [-X | -XX | -t | -L | -M | -S]\n"
            "       sluice --listen [ADDR:]PORT --proxy TARGET\n\n"
            "  -f FILE            the configuration (%s/sluice/sluice.conf)\n"
            "  -X                 run in the foreground: a master and its worker\n"
            "  -XX                run as one process, for debuggers\n"
            "  -t                 test the configuration and leave\n"
            "  -L                 list every directive of the loaded modules\n"
            "  -M                 list the modules and the order of their hooks\n"
            "  -S                 list listeners, hosts and locations\n"
            "  -V, -v             versions and paths\n"
            "  --listen, --proxy  serve without a file: sluice --listen :8080 --proxy "
            "http://127.0.0.1:3000\n"
            "  --module-dir DIR   where modules are ($SLUICE_MODULES, %s)\n"
            "  -h, --help         this\n\n"
            "This version always runs in the foreground; without an option it does as with -X.\n",
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
    {"worker", required_argument, NULL, 'w'}, {"version", no_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
};

/* -1: go on; else the exit status. */
static int
parse_options(int argc, char **argv, struct options *o)
{
    int c;

    while ((c = getopt_long(argc, argv, "f:XtLMSVvhk:", long_options, NULL)) != -1)
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
        case 'V':
        case 'v':
            print_version(c == 'V');
            return 0;
        case 'h':
            print_help(stdout);
            return 0;
        case 'k':
            fprintf(stderr, "sluice: -k %s: this version has no control socket; stop it with "
                    "SIGTERM\n", optarg);
            return 2;
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
    int n_errors = w->config->errors->nelts;

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
    case MODE_TEST:
        if (n_errors == 0)
            printf("configuration OK\n");
        break;
    case MODE_MASTER:
    case MODE_SINGLE:
    case MODE_WORKER:
        break;
    }
    config_print_errors(w->config, stderr);
    return n_errors == 0 ? 0 : 1;
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
        rc = master_main(argv, argc);
        break;
    case MODE_SINGLE:
        rc = worker_main(&o.source, -1);
        break;
    case MODE_WORKER:
        rc = worker_main(&o.source, o.worker_fd);
        break;
    case MODE_TEST:
    case MODE_DIRECTIVES:
    case MODE_MODULES:
    case MODE_SCOPES:
        rc = look_at_config(&o, pool);
        break;
    }
    apr_pool_destroy(pool);
    apr_terminate();
    return rc;
}
