/* Calling hooks: who runs is known to the crash report, and a hook that holds the loop for
 * more than 5 ms is named in the log.  With SLUICE_HOOK_FATAL=MS in the environment, as in
 * tests, one that takes longer than that by its own doing ends the process: it slept that long, or
 * used the processor for four times as long.  A thread that a busy machine put aside, be it behind a
 * short sleep, is not the hook's fault; and where the machine is virtual, what others took of the
 * processor often counts as used.
 *
 * The measure is the CPU's own tick counter, read once a hook (the end of one
 * is the beginning of the next); only a suspicious count is
 * turned into time, by comparing with the clock since the start. */
#include "http/request.h"
#include "config/load.h"
#include "runtime/log.h"
#include "runtime/crash.h"
#include "upstream/exchange.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define HOOK_MAX_NS 5000000
#define CPU_SHARE 4
#define HOOK_SUSPICIOUS_TICKS 2500000 /* 5 ms at 500 MHz: slower than any counter in use */

uint64_t
hook_clock(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

static uint64_t
clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t start_ticks, start_ns;
static double fatal_ns; /* 0: never */

/* What this thread has done by itself, and how long it waited for a processor (0 where the kernel
 * does not tell), up to an instant: read before a hook where slow ones are fatal. */
struct spent {
    uint64_t at_ns, cpu_ns, waited_ns;
    long n_sleeps;
};
static _Thread_local struct spent before;

static uint64_t
waited_ns(void)
{
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    char text[64] = "";
    uint64_t ns = 0;

    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
        sscanf(text, "%*u %" SCNu64, &ns);
    if (fd >= 0)
        close(fd);
    return ns;
}

static void
spent_read(struct spent *s)
{
    struct rusage u;

    getrusage(RUSAGE_THREAD, &u);
    s->n_sleeps = u.ru_nvcsw;
    s->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* Reading takes its time, too, and may be put aside: that is not the hook's. So the instant is the last
 * that is read here, and the first behind the hook. */
static void __attribute__((noinline))
spent_before(void)
{
    before.waited_ns = waited_ns();
    spent_read(&before);
    before.at_ns = clock_ns(CLOCK_MONOTONIC);
}

static int
hook_is_to_blame(void)
{
    struct spent now = {.at_ns = clock_ns(CLOCK_MONOTONIC)};
    double cpu_ns, slept_ns;

    spent_read(&now);
    now.waited_ns = waited_ns();
    cpu_ns = (double)(now.cpu_ns - before.cpu_ns);
    slept_ns = (double)(now.at_ns - before.at_ns) - cpu_ns - (double)(now.waited_ns - before.waited_ns);
    return cpu_ns > CPU_SHARE * fatal_ns || (now.n_sleeps > before.n_sleeps && slept_ns > fatal_ns);
}

__attribute__((constructor)) static void
hooks_clock_start(void)
{
    start_ticks = hook_clock();
    start_ns = clock_ns(CLOCK_MONOTONIC);
    if (getenv("SLUICE_HOOK_FATAL") != NULL)
        fatal_ns = atof(getenv("SLUICE_HOOK_FATAL")) * 1e6;
}

static void __attribute__((noinline))
hook_was_slow(const struct hook_call *call, uint64_t n_ticks)
{
    double ns_per_tick = (double)(clock_ns(CLOCK_MONOTONIC) - start_ns) / (double)(hook_clock() - start_ticks + 1);
    double ns = (double)n_ticks * ns_per_tick;

    if (ns < HOOK_MAX_NS)
        return;
    sl_log(SL_WARN, "SL0310", "mod_%s: %s held its thread for %.1f ms (at most 5 ms): move "
           "what blocks to sl_offload()", call->module->name, call->hook->name, ns / 1e6);
    if (fatal_ns > 0 && ns > fatal_ns && hook_is_to_blame())
        sl_panic(__FILE__, __LINE__, call->hook->name, "a hook that does not block");
}

static inline void
hook_enter(const struct hook_call *call, struct sl_req *request)
{
    crash_place = (struct crash_place){call, request, NULL};
    if (fatal_ns > 0)
        spent_before();
}

static uint64_t
hook_leave(const struct hook_call *call, uint64_t began)
{
    uint64_t now = hook_clock();

    crash_place.call = NULL;
    if (now - began > HOOK_SUSPICIOUS_TICKS)
        hook_was_slow(call, now - began);
    return now;
}

/* A dry run calls only what leaves no trace, and lists the others. */
static inline int
hook_is_left_out(const struct hook_call *call, struct sl_req *r)
{
    if ((r->flags & REQ_DRY) == 0 || (call->hook->flags & SL_DRY_OK) != 0)
        return 0;
    req_note_add(r, NOTE_LEFT_OUT, call, "its row does not say SL_DRY_OK");
    return 1;
}

enum sl_verdict
hook_call_req(const struct hook_call *call, struct sl_req *r, uint64_t *began)
{
    enum sl_verdict v;

    if (hook_is_left_out(call, r))
        return SL_NEXT;
    hook_enter(call, r);
    v = call->fn.on_req(r, call->conf);
    *began = hook_leave(call, *began);
    return v;
}

enum sl_verdict
hooks_run_conn(struct sl_conn *c, enum sl_hook_point point)
{
    const struct hook_list *list = &c->listener->scope->lists[point];
    enum sl_verdict v = SL_NEXT;
    uint64_t began;
    unsigned i;

    if (list->n == 0)
        return SL_NEXT;
    began = hook_clock();
    for (i = 0; i < list->n && v == SL_NEXT; i++) {
        hook_enter(&list->at[i], NULL);
        v = list->at[i].fn.on_conn(c, list->at[i].conf);
        began = hook_leave(&list->at[i], began);
    }
    return v;
}

enum sl_verdict
hooks_call_attempt(const struct hook_list *list, struct sl_attempt *a)
{
    struct sl_req *r = exchange_of(a)->r;
    uint64_t began = hook_clock();
    enum sl_verdict v = SL_NEXT;
    unsigned i;

    for (i = 0; i < list->n && v == SL_NEXT; i++) {
        if (r != NULL && hook_is_left_out(&list->at[i], r))
            continue;
        hook_enter(&list->at[i], r);
        v = list->at[i].fn.on_attempt(a, list->at[i].conf);
        began = hook_leave(&list->at[i], began);
    }
    return v;
}
