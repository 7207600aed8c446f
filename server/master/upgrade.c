/* The master's own replacement: it becomes the program that is installed now, in the same process,
 * with its descriptors and a memfd that says what they are.
 *
 *   asked -> a child of the new program reads the state, as a test -> exec -> reload
 *         \-> refused: nothing has changed
 *
 * After the exec there is no way back, so whatever can fail is tried by the child before; it is
 * the same open file that is executed then.  Workers go on serving, and notice nothing: their end
 * of the channel stays as it is. */
#include "master/master.h"

#include "master/control.h"
#include "master/record.h"
#include "master/state.h"
#include "runtime/clock.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_MS 10000
#define ANSWER_MAX 4096
#define ANSWER_YES "takes over"

static void
upgrade_end(struct master *ma)
{
    struct upgrade *u = &ma->upgrade;

    if (u->program >= 0)
        close(u->program);
    if (u->answer >= 0)
        close(u->answer);
    u->program = u->answer = -1;
    u->pid = 0;
    u->deadline = 0;
}

static void
upgrade_refuse(struct master *ma, const char *why)
{
    sl_log(SL_ERROR, "SL0261", "upgrade refused, nothing was changed: %s: %.*s", ma->program,
           (int)strcspn(why, "\n"), why);
    control_print(ma->upgrade.client, "%s: %s\nnothing was changed\n", ma->program, why);
    control_exit(&ma->upgrade.client, 1);
    upgrade_end(ma);
}

/* The words of main(), with two more. */
static char **
words_with(const struct master *ma, const char *option, int fd, char number[16])
{
    char **argv = calloc((size_t)ma->n_argv + 3, sizeof *argv);

    if (argv == NULL)
        return NULL;
    memcpy(argv, ma->argv, (size_t)ma->n_argv * sizeof *argv);
    snprintf(number, 16, "%d", fd);
    argv[ma->n_argv] = (char *)(uintptr_t)option;
    argv[ma->n_argv + 1] = number;
    return argv;
}

/* ---- the test ---- */

/* It cannot fill the memory by what it says. */
static int
answer_open(void)
{
    int fd = memfd_create("sluice-answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd >= 0 && ftruncate(fd, ANSWER_MAX) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

_Noreturn static void
test_exec(const struct master *ma, int state)
{
    extern char **environ;
    char number[16], **argv = words_with(ma, "--take-over-test", state, number);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (argv != NULL && fcntl(state, F_SETFD, 0) == 0 &&
        dup2(ma->upgrade.answer, STDOUT_FILENO) >= 0 && dup2(ma->upgrade.answer, STDERR_FILENO) >= 0)
        fexecve(ma->upgrade.program, argv, environ);
    /* The kernel looks for the interpreter of an open file that is about to be closed. */
    dprintf(ma->upgrade.answer, "it cannot be executed: %s",
            errno == ENOENT ? "it is a script, or its interpreter is missing" : strerror(errno));
    _exit(127);
}

static int
test_start(struct master *ma)
{
    struct upgrade *u = &ma->upgrade;
    struct records_out state;

    u->program = open(ma->program, O_RDONLY | O_CLOEXEC);
    u->answer = u->program < 0 ? -1 : answer_open();
    if (u->answer < 0 || state_write(ma, &state) != 0)
        return -1;
    u->pid = fork();
    if (u->pid == 0)
        test_exec(ma, state.fd);
    records_free(&state);
    return u->pid > 0 ? 0 : -1;
}

void
upgrade_begin(struct master *ma, int client, const char *command)
{
    const char *obstacle = ma->upgrade.pid > 0 ? "another upgrade is under way" : reload_obstacle(ma);

    if (obstacle != NULL) {
        sl_log(SL_WARN, "SL0262", "an upgrade was refused: %s", obstacle);
        control_print(client, "%s\n", obstacle);
        control_exit(&client, 1);
        return;
    }
    ma->upgrade.client = client;
    snprintf(ma->upgrade.command, sizeof ma->upgrade.command, "%s", command);
    ma->upgrade.deadline = monotonic_ms() + control_number(command, "timeout", TEST_MS);
    if (test_start(ma) != 0)
        upgrade_refuse(ma, strerror(errno));
}

int
upgrade_test(int fd)
{
    static struct master ma = {.files.fd = -1}; /* static: what is read is never freed */
    const char *err = state_read(&ma, fd, 1);

    puts(err == NULL ? ANSWER_YES : err);
    return err == NULL ? 0 : 1;
}

/* ---- the replacement ---- */

static void
upgrade_exec(struct master *ma)
{
    extern char **environ;
    const char *obstacle = reload_obstacle(ma);
    struct records_out state;
    char number[16], **argv;
    int error;

    if (obstacle != NULL || state_write(ma, &state) != 0) {
        upgrade_refuse(ma, obstacle != NULL ? obstacle : strerror(errno));
        return;
    }
    sl_log(SL_NOTICE, "SL0260", "the master becomes what %s is now", ma->program);
    argv = words_with(ma, "--take-over", state.fd, number);
    records_pass(&state, 1);
    if (argv != NULL)
        fexecve(ma->upgrade.program, argv, environ);
    error = errno;
    records_pass(&state, 0);
    records_free(&state);
    free(argv);
    upgrade_refuse(ma, strerror(error));
}

void
upgrade_ended(struct master *ma, pid_t pid, int status)
{
    char answer[ANSWER_MAX + 1], why[ANSWER_MAX + 128];
    ssize_t n;

    if (ma->upgrade.pid <= 0 || pid != ma->upgrade.pid)
        return;
    n = pread(ma->upgrade.answer, answer, ANSWER_MAX, 0);
    answer[n > 0 ? n : 0] = '\0';
    ma->upgrade.pid = 0;
    ma->upgrade.deadline = 0;
    if (status == 0 && strcmp(answer, ANSWER_YES "\n") == 0) {
        upgrade_exec(ma);
        return;
    }
    snprintf(why, sizeof why, "asked to take over, it ended by %s %d%s%.*s",
             WIFSIGNALED(status) ? "signal" : "exit",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
             answer[0] != '\0' ? ": " : "", (int)strcspn(answer, "\n"), answer);
    upgrade_refuse(ma, why);
}

void
upgrade_times(struct master *ma, int64_t now)
{
    if (ma->upgrade.deadline == 0 || now < ma->upgrade.deadline)
        return;
    kill(ma->upgrade.pid, SIGKILL);
    upgrade_refuse(ma, "asked to take over, it did not answer in time");
}
