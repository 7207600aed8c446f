/* Commands for the operator: one that says its words, at once or later, much or never, and one
 * that crashes. */
#include "sluice/module.h"

#include <stdlib.h>

struct late {
    struct sl_timer timer;
    struct sl_control_call *call;
};

static void
rang(struct sl_loop *loop, struct sl_timer *timer)
{
    struct late *late = (struct late *)(void *)timer;

    (void)loop;
    sl_control_print(late->call, "late\n");
    sl_control_end(&late->call, 0);
}

static void
end_later(struct sl_control_call *call, int64_t ms)
{
    struct late *late = apr_pcalloc(sl_control_pool(call), sizeof *late);
    struct sl_loop *loop = sl_loop_self();

    late->call = call;
    late->timer.fn = rang;
    sl_timer_set(loop, &late->timer, sl_loop_now(loop) + ms);
}

static void
say_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    int i;

    for (i = 0; i < argc; i++)
        sl_control_print(call, sl_control_wants_json(call) ? "{\"%s\"}\n" : "[%s]\n", argv[i]);
    sl_control_print(call, "exit 7\n%d words", argc);
    sl_control_end(&call, argc > 0 ? 0 : 2);
}

static void
later_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    if (argc == 1)
        end_later(call, atol(argv[0]));
}

static void
much_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    long n = argc == 1 ? atol(argv[0]) : 0;

    while (n-- > 0)
        sl_control_print(call, "0123456789abcde\n");
    sl_control_end(&call, 0);
}

static void
crash_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    (void)call;
    (void)argc;
    (void)argv;
    abort();
}

static const struct sl_control_command say = {"[WORD]...", "says its words", say_run};
static const struct sl_control_command later = {"[MS]", "answers after MS, or never", later_run};
static const struct sl_control_command much = {"LINES", "says much", much_run};
static const struct sl_control_command crash = {"", "crashes", crash_run};

static int
command_init(const struct sl_module *self)
{
    (void)self;
    return sl_provider_register("control", "say", &say) != 0 ||
           sl_provider_register("control", "later", &later) != 0 ||
           sl_provider_register("control", "much", &much) != 0 ||
           sl_provider_register("control", "crash", &crash) != 0 ? -1 : 0;
}

SL_MODULE(command) = {.name = "command", .init = command_init};
