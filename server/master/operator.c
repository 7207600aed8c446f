/* What the operator finds outside: the pid file, the control socket and the error log, where
 * the configuration of the generation that serves wants them, and the end of the command that
 * starts a daemon.  What is said over the control socket is read in master.c. */
#include "master/state.h"

#include "master/control.h"
#include "runtime/log.h"
#include "runtime/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- pid file, control socket, error log ---- */

static void
pid_file_place(struct master *ma, const char *path)
{
    FILE *f;

    if (strcmp(path, ma->pid_file) == 0)
        return;
    if (ma->pid_file[0] != '\0')
        unlink(ma->pid_file);
    snprintf(ma->pid_file, sizeof ma->pid_file, "%s", path);
    if (path[0] == '\0')
        return;
    f = fopen(path, "we");
    if (f == NULL) {
        sl_log(SL_ERROR, "SL0240", "PidFile %s: %s", path, strerror(errno));
        return;
    }
    fprintf(f, "%d\n", (int)getpid());
    fclose(f);
}

static void
control_close(struct master *ma)
{
    if (ma->control < 0)
        return;
    close(ma->control);
    unlink(ma->control_path);
    ma->control = -1;
    ma->control_path[0] = '\0';
}

static void
control_place(struct master *ma, const char *path)
{
    if (strcmp(path, ma->control_path) == 0)
        return;
    control_close(ma);
    if (path[0] == '\0')
        return;
    ma->control = control_listen(path);
    if (ma->control < 0) {
        sl_log(SL_ERROR, "SL0242", "ControlSocket %s: %s", path, strerror(errno));
        return;
    }
    snprintf(ma->control_path, sizeof ma->control_path, "%s", path);
}

void
operator_log_open(const struct generation *g)
{
    int error = log_open(g->error_log, (enum log_format)g->log_format, &log_levels_default);

    if (error != 0)
        sl_log(SL_ERROR, "SL0244", "ErrorLog %s: %s; messages go where they went", g->error_log,
               strerror(error));
}

void
operator_apply(struct master *ma, const struct generation *g)
{
    operator_log_open(g);
    pid_file_place(ma, g->pid_file);
    control_place(ma, g->control);
}

/* ---- the process that started a daemon waits for one byte ---- */

static void
starter_tell(struct master *ma, char status)
{
    if (ma->starter < 0)
        return;
    if (write(ma->starter, &status, 1) != 1)
        sl_log(SL_WARN, "SL0243", "who started this server did not wait for it");
    close(ma->starter);
    ma->starter = -1;
}

int
operator_split(struct master *ma)
{
    int pair[2];
    char status = 1;
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
        fprintf(stderr, "sluice: cannot start: %s\n", strerror(errno));
        return 1;
    }
    if (pid == 0) {
        close(pair[0]);
        ma->starter = pair[1];
        setsid();
        return -1;
    }
    close(pair[1]);
    if (read(pair[0], &status, 1) != 1)
        status = 1;
    close(pair[0]);
    return status;
}

void
operator_ready(struct master *ma)
{
    if (ma->starter >= 0)
        streams_close(STDIN_FILENO);
    starter_tell(ma, 0);
}

void
operator_end(struct master *ma)
{
    starter_tell(ma, 1);
    control_close(ma);
    pid_file_place(ma, "");
}
