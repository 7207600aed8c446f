/* One generation after the other: begin, accept or refuse, end; and, where it was asked for,
 * confirm or return.  At most one reload is under way, ma->reload, from the command until the
 * generation before accepts no more; while that one stands by, ma->standby, no other begins. */
#include "master/state.h"

#include "config/snapshot.h"
#include "master/control.h"
#include "master/notify.h"
#include "runtime/clock.h"
#include "runtime/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define RELOAD_MS 60000

/* ---- begin, and perhaps refuse ---- */

static unsigned
generations_alive(const struct master *ma)
{
    const struct generation *g;
    unsigned n = 0;

    for (g = ma->generations; g != NULL; g = g->next)
        n++;
    return n;
}

void
reload_refuse(struct master *ma, const char *why)
{
    const char *left = ma->reload.is_upgrade ? "the master is the new program, the workers are not"
                                             : "nothing was changed";

    sl_log(SL_ERROR, "SL0208", "reload refused, %s: %.*s", left, (int)strcspn(why, "\n"), why);
    control_print(ma->reload.client, "%s%s%s\n", why,
                  why[0] != '\0' && why[strlen(why) - 1] != '\n' ? "\n" : "", left);
    control_exit(&ma->reload.client, 1);
    if (ma->reload.g != NULL) {
        ma->reload.g->state = GENERATION_DRAINING;
        ma->reload.g->kill_at = monotonic_ms() + 2000;
        listeners_release(&ma->listeners, ma->reload.g);
        operator_forget(ma);
    }
    ma->reload.g = NULL;
    ma->reload.is_upgrade = 0;
    notify_systemd("READY=1");
}

const char *
reload_obstacle(const struct master *ma)
{
    if (ma->is_stopping)
        return "the server is stopping";
    if (ma->standby != NULL)
        return "the last reload waits for -k confirm";
    if (ma->reload.g != NULL || ma->reload.before != NULL || ma->serving == NULL)
        return "another start or reload is under way";
    return NULL;
}

void
reload_begin(struct master *ma, int client, const char *command)
{
    int max = ma->serving != NULL ? ma->serving->generations_max : 16;
    const char *obstacle = reload_obstacle(ma);

    if (obstacle != NULL) {
        control_print(client, "%s\n", obstacle);
        sl_log(SL_WARN, "SL0204", "a reload was refused: another one is under way");
        control_exit(&client, 1);
        return;
    }
    ma->reload.client = client;
    if (generations_alive(ma) >= (unsigned)max) {
        generations_print(ma, client);
        reload_refuse(ma, "GenerationsMax: too many generations are still in use");
        return;
    }
    ma->reload.confirm_ms = control_number(command, "confirm", 0);
    ma->reload.deadline = monotonic_ms() + control_number(command, "timeout", RELOAD_MS);
    notify_systemd("RELOADING=1");
    ma->reload.g = generations_add(ma);
    if (ma->reload.g == NULL || generation_start(ma->reload.g, ma->argv, ma->n_argv) != 0)
        reload_refuse(ma, strerror(errno));
}

/* ---- accept, and end when the one before accepts no more ---- */

static void
changes_print(int client, const struct generation *before, const struct generation *after)
{
    apr_pool_t *pool;
    struct stat a, b;
    const char *text;

    if (client < 0)
        return;
    apr_pool_create(&pool, NULL);
    text = snapshot_difference(pool, before->snapshot, after->snapshot);
    control_print(client, "%s", text);
    if (fstat(before->program, &a) == 0 && fstat(after->program, &b) == 0 &&
        (a.st_ino != b.st_ino || a.st_dev != b.st_dev))
        control_print(client, "the program is another one than before\n");
    else if (text[0] == '\0')
        control_print(client, "the configuration is the same\n");
    control_print(client, "generation %u serves, process %d\n", after->id, (int)after->pid);
    apr_pool_destroy(pool);
}

void
reload_redirect(struct master *ma)
{
    struct generation *g, *next;

    for (g = ma->generations; g != NULL; g = next) {
        next = g->next;
        if (g->state != GENERATION_DRAINING || g->kill_at != 0)
            continue;
        if (g->pid > 0 && g->is_ready)
            generation_drain(g, ma->serving, -1, &ma->listeners);
        else if (g->pid == 0)
            generations_remove(ma, g);
    }
}

void
reload_end(struct master *ma)
{
    sl_log(SL_NOTICE, "SL0209", "generation %u serves, worker %d", ma->serving->id,
           (int)ma->serving->pid);
    ma->reload.before = NULL;
    ma->reload.is_upgrade = 0;
    control_exit(&ma->reload.client, 0);
    notify_systemd("READY=1");
}

void
reload_accept(struct master *ma, struct generation *g)
{
    struct generation *before = ma->serving;
    int has_process = before->pid > 0; /* else it crashed, and accepts nothing */

    changes_print(ma->reload.client, before, g);
    ma->serving = g;
    g->state = GENERATION_SERVING;
    operator_apply(ma, g);
    if (ma->reload.confirm_ms > 0) {
        before->state = GENERATION_STANDBY;
        generation_say(before, MSG_STANDBY, 0, -1);
        ma->standby = before;
        ma->confirm_at = monotonic_ms() + ma->reload.confirm_ms;
        control_print(ma->reload.client, "generation %u returns in %lld s unless -k confirm "
                      "comes\n", before->id, (long long)ma->reload.confirm_ms / 1000);
    } else
        before->state = GENERATION_DRAINING;
    ma->reload.g = NULL;
    ma->reload.before = has_process ? before : NULL;
    reload_redirect(ma);
    if (!has_process)
        reload_end(ma);
}

/* ---- confirm, or return ---- */

void
reload_confirm(struct master *ma, int client)
{
    if (ma->standby == NULL) {
        control_print(client, "no reload waits for this\n");
        control_exit(&client, 1);
        return;
    }
    ma->standby->state = GENERATION_DRAINING;
    reload_redirect(ma);
    ma->standby = NULL;
    ma->confirm_at = 0;
    sl_log(SL_NOTICE, "SL0211", "generation %u is confirmed", ma->serving->id);
    control_print(client, "generation %u is confirmed\n", ma->serving->id);
    control_exit(&client, 0);
}

/* Nobody confirmed: the generation before takes over again. */
static void
reload_return(struct master *ma)
{
    struct generation *bad = ma->serving;

    ma->serving = ma->standby;
    ma->standby = NULL;
    ma->confirm_at = 0;
    ma->serving->state = GENERATION_SERVING;
    generation_say(ma->serving, MSG_RESUME, 0, -1);
    bad->state = GENERATION_DRAINING;
    reload_redirect(ma);
    operator_apply(ma, ma->serving);
    sl_log(SL_WARN, "SL0212", "generation %u was not confirmed: generation %u serves again",
           bad->id, ma->serving->id);
}

/* ---- when patience ends ---- */

void
reload_times(struct master *ma, int64_t now)
{
    if (ma->reload.g != NULL && now >= ma->reload.deadline) {
        kill(ma->reload.g->pid, SIGKILL);
        reload_refuse(ma, "the new worker was not ready in time");
    }
    if (ma->reload.before != NULL && now >= ma->reload.deadline)
        reload_end(ma);
    if (ma->confirm_at > 0 && now >= ma->confirm_at)
        reload_return(ma);
}
