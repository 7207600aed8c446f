/* A module that fails, hangs or crashes where it is told: Trouble HOOK fail|slow|hang|crash [FILE].
 * At the hooks of requests and attempts it does so only when somebody asks for /trouble, at all where
 * a FILE is named only as long as that is there, and takes it away before. */
#include "sluice/module.h"
#include "sluice/upstream.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

struct trouble_conf {
    apr_array_header_t *unused;
};

static const char *where = "", *kind = "", *once;

static int
trouble(const char *hook)
{
    if (strcmp(where, hook) != 0 || (once != NULL && unlink(once) != 0))
        return 0;
    if (strcmp(kind, "crash") == 0)
        raise(SIGSEGV);
    if (strcmp(kind, "slow") == 0)
        return (int)sleep(1);
    if (strcmp(kind, "hang") == 0)
        sleep(30);
    return -1;
}

static enum sl_verdict
trouble_in(struct sl_req *r, const char *hook)
{
    struct sl_span path = sl_req_path(r);

    if (once != NULL || (path.n == 8 && memcmp(path.at, "/trouble", 8) == 0))
        trouble(hook);
    return SL_NEXT;
}

#define PROCESS(name) static int on_##name(struct sl_worker *w) { (void)w; return trouble(#name); }
#define REQUEST(name)                                                                            \
    static enum sl_verdict on_##name(struct sl_req *r, const void *conf)                         \
    {                                                                                            \
        (void)conf;                                                                              \
        return trouble_in(r, #name);                                                             \
    }

#define CONNECTION(name)                                                                         \
    static enum sl_verdict on_##name(struct sl_conn *c, const void *conf)                        \
    {                                                                                            \
        (void)c;                                                                                 \
        (void)conf;                                                                              \
        trouble(#name);                                                                          \
        return SL_NEXT;                                                                          \
    }
#define ATTEMPT(name)                                                                            \
    static enum sl_verdict on_##name(struct sl_attempt *a, const void *conf)                     \
    {                                                                                            \
        (void)conf;                                                                              \
        return trouble_in(sl_attempt_req(a), #name);                                             \
    }

PROCESS(check_config)
PROCESS(post_config)
PROCESS(open_logs)
PROCESS(worker_init)
PROCESS(ready)
PROCESS(drain)
PROCESS(worker_exit)
CONNECTION(pre_connection)
CONNECTION(close_connection)
REQUEST(created)
REQUEST(head_read)
REQUEST(route)
REQUEST(access)
REQUEST(fixup)
REQUEST(handler)
ATTEMPT(select_server)
ATTEMPT(upstream_request)
ATTEMPT(upstream_response)
ATTEMPT(upstream_done)
REQUEST(response)
REQUEST(log)

static int
on_thread_init(struct sl_worker *w, struct sl_loop *loop)
{
    (void)w;
    (void)loop;
    return trouble("thread_init");
}

static const char *
trouble_parse(struct sl_cmd *cmd, void **item)
{
    *item = NULL;
    if (sl_cmd_argc(cmd) < 2)
        return "expected a hook and fail, slow, hang or crash";
    where = sl_cmd_arg(cmd, 0);
    kind = sl_cmd_arg(cmd, 1);
    once = sl_cmd_arg(cmd, 2);
    return NULL;
}

static const struct sl_directive directives[] = {
    SL_LINES("Trouble", struct trouble_conf, unused, trouble_parse, SL_IN_GLOBAL,
             "HOOK fail|slow|hang|crash [FILE]", "Where to fail"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(on_check_config), SL_ON_POST_CONFIG(on_post_config),
    SL_ON_OPEN_LOGS(on_open_logs),       SL_ON_WORKER_INIT(on_worker_init),
    SL_ON_THREAD_INIT(on_thread_init),   SL_ON_READY(on_ready),
    SL_ON_DRAIN(on_drain),               SL_ON_WORKER_EXIT(on_worker_exit),
    SL_ON_PRE_CONNECTION(on_pre_connection, SL_EARLY),
    SL_ON_CLOSE_CONNECTION(on_close_connection, SL_EARLY),
    SL_ON_CREATED(on_created, SL_EARLY, 0), SL_ON_HEAD_READ(on_head_read, SL_EARLY, 0),
    SL_ON_SELECT_SERVER(on_select_server, SL_EARLY, 0),
    SL_ON_UPSTREAM_REQUEST(on_upstream_request, SL_EARLY, 0),
    SL_ON_UPSTREAM_RESPONSE(on_upstream_response, SL_EARLY, 0),
    SL_ON_UPSTREAM_DONE(on_upstream_done, SL_EARLY, 0),
    SL_ON_ROUTE(on_route, SL_EARLY, 0),  SL_ON_ACCESS(on_access, SL_EARLY, 0),
    SL_ON_FIXUP(on_fixup, SL_EARLY, 0),  SL_ON_HANDLER(on_handler, SL_EARLY, 0),
    SL_ON_RESPONSE(on_response, SL_EARLY, 0), SL_ON_LOG(on_log, SL_EARLY, 0),
    SL_HOOKS_END,
};
SL_MODULE(trouble) = {
    .name = "trouble",
    .conf_size = sizeof(struct trouble_conf),
    .directives = directives,
    .hooks = hooks,
};
