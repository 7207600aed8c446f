/* See crash.h. */
#include "runtime/crash.h"

#include "config/load.h"
#include "runtime/log.h"

#include <signal.h>
#include <string.h>

/* A sanitizer reports a crash itself, and more of it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

#define CRASH_STACK 32768

_Thread_local struct crash_place crash_place;

/* Only what a signal handler may call; the id of a request is made in its own memory. */
struct report {
    char text[256];
    size_t n;
};

static void
say_span(struct report *to, struct sl_span text)
{
    size_t room = sizeof to->text - to->n, n = text.n < room ? text.n : room;

    memcpy(to->text + to->n, text.at, n);
    to->n += n;
}

static void
say(struct report *to, const char *text)
{
    if (text != NULL)
        say_span(to, sl_span(text));
}

static void
crashed(int number)
{
    static const char *const names[] = {[SIGSEGV] = "SIGSEGV", [SIGBUS] = "SIGBUS",
                                        [SIGILL] = "SIGILL", [SIGFPE] = "SIGFPE",
                                        [SIGABRT] = "SIGABRT"};
    const struct crash_place *at = &crash_place;
    struct log_about about = {.request = {NULL, 0}};
    struct report report = {.n = 0};

    say(&report, "the worker crashed by ");
    say(&report, names[number]);
    if (at->command != NULL) {
        say(&report, " in the command ");
        say(&report, at->command);
    } else if (at->call == NULL)
        say(&report, " outside modules");
    else {
        say(&report, " in mod_");
        say(&report, at->call->module->name);
        say(&report, " at ");
        say(&report, hook_point_name(at->call->hook->point));
        if (at->request != NULL) {
            about.request = sl_req_id(at->request);
            say(&report, ", request ");
            say_span(&report, about.request);
        }
    }
    log_write_last(SL_ERROR, "SL0330", about.request.n > 0 ? &about : NULL,
                   (struct sl_span){report.text, report.n});
    raise(number); /* the handler is gone: the process ends by it */
}

void
crash_thread_watch(void)
{
    static _Thread_local char stack[CRASH_STACK];
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};

    if (!IS_SANITIZED)
        sigaltstack(&own, NULL);
}

void
crash_watch(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    struct sigaction action = {.sa_handler = crashed,
                               .sa_flags = (int)SA_RESETHAND | SA_NODEFER | SA_ONSTACK};
    size_t i;

    for (i = 0; i < sizeof fatal / sizeof fatal[0] && !IS_SANITIZED; i++)
        sigaction(fatal[i], &action, NULL);
}
