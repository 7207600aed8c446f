/* See crash.h. */
#include "runtime/crash.h"

#include "config/load.h"
#include "runtime/log.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

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

#define CRASH_STACK 16384

_Thread_local struct crash_place crash_place;

/* Only what a signal handler may call; the id of a request is made in its own memory. */
static void
say_span(struct sl_span text)
{
    int fd = log_descriptor();

    if (text.n > 0 && write(fd >= 0 ? fd : STDERR_FILENO, text.at, text.n) < 0)
        return; /* there is nobody left to tell */
}

static void
say(const char *text)
{
    say_span(text != NULL ? sl_span(text) : (struct sl_span){NULL, 0});
}

static void
crashed(int number)
{
    static const char *const names[] = {[SIGSEGV] = "SIGSEGV", [SIGBUS] = "SIGBUS",
                                        [SIGILL] = "SIGILL", [SIGFPE] = "SIGFPE",
                                        [SIGABRT] = "SIGABRT"};
    const struct crash_place *at = &crash_place;

    say("error SL0330 the worker crashed by ");
    say(names[number]);
    if (at->call == NULL)
        say(" outside modules");
    else {
        say(" in mod_");
        say(at->call->module->name);
        say(" at ");
        say(hook_point_name(at->call->hook->point));
        if (at->request != NULL) {
            say(", request ");
            say_span(sl_req_id(at->request));
        }
    }
    say("\n");
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
