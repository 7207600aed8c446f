/* What the operator says over the control socket.  A command of the table is done here; every
 * other one is a module's: the worker that serves gets the client, and the master has no more to
 * do with it. */
#include "master/state.h"

#include "control_words.h"
#include "master/clients.h"
#include "master/control.h"
#include "master/notify.h"
#include "runtime/clock.h"
#include "runtime/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STOP_NOW_MS 1000 /* for a worker told to stop at once */

/* ---- what also signals ask for ---- */

void
commands_stop(struct master *ma, int is_patient)
{
    struct generation *g, *next;

    if (!ma->is_stopping && ma->serving != NULL)
        sl_log(SL_NOTICE, "SL0203", "stopping");
    notify_systemd("STOPPING=1");
    reload_abandon(ma);
    for (g = ma->generations; g != NULL; g = next) {
        next = g->next;
        if (g->pid == 0)
            generations_remove(ma, g);
        else if (ma->is_stopping) {
            generation_say(g, MSG_STOP, 0, -1);
            g->kill_at = monotonic_ms() + STOP_NOW_MS;
        } else
            generation_drain(g, NULL, is_patient ? -1 : g->stop_ms, &ma->listeners);
    }
    ma->is_stopping = 1;
}

void
commands_reopen(struct master *ma, int client)
{
    struct generation *g;
    int n_failed = 0;

    watch_look_now(&ma->files);
    for (g = ma->generations; g != NULL; g = g->next)
        n_failed += generation_reopen(g);
    if (ma->serving != NULL)
        operator_log_open(ma->serving);
    if (n_failed == 0)
        sl_log(SL_NOTICE, "SL0215", "files were opened again");
    control_print(client, n_failed == 0 ? "files were opened again\n"
                  : n_failed == 1 ? "a file cannot be opened again: see the error log\n"
                                  : "%d files cannot be opened again: see the error log\n",
                  n_failed);
    control_exit(&client, n_failed == 0 ? 0 : 1);
}

/* ---- the commands: each takes client over and answers it, now or later ---- */

typedef void command_f(struct master *ma, int client, const char *line);

/* Answered when the server has stopped. */
static void
run_stop(struct master *ma, int client, const char *line)
{
    (void)line;
    control_print(client, "stopping\n");
    if (ma->n_stoppers < STOPPERS_MAX)
        ma->stoppers[ma->n_stoppers++] = client;
    else
        control_exit(&client, 1);
    commands_stop(ma, 0);
}

/* Who names another file than the server was started with learns that it is not read. */
static void
say_file(const struct master *ma, int client, const char *line)
{
    char own[CONTROL_TAKEN_MAX], *at = own, *word;
    struct stat a, b;

    snprintf(own, sizeof own, "%s", line);
    while ((word = control_word_next(&at)) != NULL && strncmp(word, "file=", 5) != 0)
        ;
    if (word == NULL || (ma->file != NULL && stat(ma->file, &a) == 0 && stat(word + 5, &b) == 0 &&
                         a.st_ino == b.st_ino && a.st_dev == b.st_dev))
        return;
    control_print(client, "warning: %s is not read: this server was started with %s, and reads that; "
                  "to take the other one: -k restart\n", word + 5,
                  ma->file != NULL ? ma->file : "--listen and --proxy");
}

static void
run_reload(struct master *ma, int client, const char *line)
{
    say_file(ma, client, line);
    reload_begin(ma, client, line);
}

static void
run_upgrade(struct master *ma, int client, const char *line)
{
    say_file(ma, client, line);
    upgrade_begin(ma, client, line);
}

static void
run_reopen(struct master *ma, int client, const char *line)
{
    (void)line;
    commands_reopen(ma, client);
}

static void
run_confirm(struct master *ma, int client, const char *line)
{
    (void)line;
    reload_confirm(ma, client);
}

static void
run_generations(struct master *ma, int client, const char *line)
{
    (void)line;
    generations_print(ma, client);
    control_exit(&client, 0);
}

static void
run_zones(struct master *ma, int client, const char *line)
{
    (void)line;
    zones_print(ma, client);
    control_exit(&client, 0);
}

static void
run_counters(struct master *ma, int client, const char *line)
{
    (void)line;
    counters_print(ma, client);
    control_exit(&client, 0);
}

static void
run_close(struct master *ma, int client, const char *line)
{
    unsigned id = (unsigned)control_number(line, "id", 0);
    struct generation *g;

    if (id == 0) {
        control_print(client, "expected id=N, a generation that drains: ctl generations lists them\n");
        control_exit(&client, 2);
        return;
    }
    for (g = ma->generations; g != NULL; g = g->next)
        if (g->id == id && g->state == GENERATION_DRAINING) {
            generation_drain(g, NULL, g->stop_ms, &ma->listeners);
            control_print(client, "generation %u ends within %lld ms\n", id,
                          (long long)g->stop_ms);
            control_exit(&client, 0);
            return;
        }
    control_print(client, "there is no generation %u that drains\n", id);
    control_exit(&client, 1);
}

static command_f run_help;

static const struct command {
    const char *name;
    command_f *run;
    const char *usage, *help; /* NULL: it is one of -k, not of ctl */
} commands[] = {
    {"reload", run_reload, NULL, NULL},
    {"upgrade", run_upgrade, NULL, NULL},
    {"confirm", run_confirm, NULL, NULL},
    {"reopen", run_reopen, NULL, NULL},
    {"stop", run_stop, NULL, NULL},
    {"generations", run_generations, "", "lists who serves and who drains"},
    {"close", run_close, " id=N", "ends a generation that drains"},
    {"zones", run_zones, "", "lists the memory that generations share"},
    {"counters", run_counters, "", "prints what was counted since the start, by all generations"},
    {"help", run_help, "", "lists the commands, those of the loaded modules too"},
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

const char *
commands_name(unsigned i)
{
    const struct command *c;

    for (c = commands; c < commands + N_COMMANDS; c++)
        if (c->usage != NULL && i-- == 0)
            return c->name;
    return NULL;
}

/* ---- those of modules ---- */

/* Takes client over: the worker answers it, or nobody can. */
static void
pass_on(const struct master *ma, int client, const char *line)
{
    const struct generation *g = ma->serving;
    struct message m;

    message_make(&m, MSG_COMMAND, line);
    if (g == NULL || !g->is_ready || g->channel < 0)
        control_print(client, "no worker serves now that knows commands of modules\n");
    else if (g->version < CHANNEL_COMMANDS)
        control_print(client, "the worker is an older program, which knows no commands of "
                      "modules: -k reload\n");
    else if (generation_try(g, &m, client) != 0)
        control_print(client, "the worker does not listen: %s\n", strerror(errno));
    else {
        client_pass(&client);
        return;
    }
    control_exit(&client, 1);
}

static void
run_help(struct master *ma, int client, const char *line)
{
    const struct command *c;

    for (c = commands; c < commands + N_COMMANDS; c++)
        if (c->usage != NULL)
            control_print(client, "%s%s\n    %s\n", c->name, c->usage, c->help);
    (void)line;
    pass_on(ma, client, "help\n");
}

/* ---- one client ---- */

static const struct command *
command_find(const char *line)
{
    size_t n = strcspn(line, " \n");
    const struct command *c;

    for (c = commands; c < commands + N_COMMANDS; c++)
        if (strlen(c->name) == n && memcmp(c->name, line, n) == 0)
            return c;
    return NULL;
}

static void
command_run(struct master *ma, int client, const char *line)
{
    const struct command *c = command_find(line);
    char own[CONTROL_TAKEN_MAX];

    if (c == NULL) {
        pass_on(ma, client, line);
        return;
    }
    snprintf(own, sizeof own, "%.*s", (int)strcspn(line, "\n"), line);
    if (strchr(line, '\n') != NULL && strstr(own, " --json") == NULL) {
        c->run(ma, client, own);
        return;
    }
    control_print(client, "%s: %s\n", c->name,
                  strchr(line, '\n') == NULL ? "too many words" : "it has no --json");
    control_exit(&client, 2);
}

void
commands_run(struct master *ma)
{
    char line[CONTROL_TAKEN_MAX];
    int client;

    while ((client = clients_take(line)) >= 0) {
        const char *command = control_line_command(line);

        if (command != NULL) {
            command_run(ma, client, command);
            continue;
        }
        control_print(client, "this server speaks sluice-control %d\n", CONTROL_VERSION);
        control_exit(&client, 2);
    }
}
