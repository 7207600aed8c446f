/* One of everything a module may do, each switched by a directive, for tests: suspension from
 * another thread and from a timer, both doors of filters, notes, data, variables, a zone, a
 * counter, every failure a hook can have. */
#include "sluice/module.h"

#include <apr_strings.h>

#include <ctype.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct probe_conf {
    const char *wait;   /* access: offload, timer, twice, again, never */
    const char *filter; /* response: upper, pass, wait, grow, fail, again */
    const char *say;    /* handler */
    const char *opinion; /* access: granted, denied */
    const char *dry;    /* access, in a dry run, too: offload, log, zone, count, wait, note */
    struct sl_cond *when; /* handler: says it only then */
    int fail, block, notoken, late, active;
    int64_t layout;
};

struct waiting {
    struct sl_offload job;
    struct sl_timer timer;
    struct sl_token token;
    int twice;
};

/* How often its hooks were called for the request. */
struct calls {
    int access, response;
};

static int counter;
static atomic_int *zone; /* how many workers have started */

static void
work(struct sl_offload *job)
{
    struct timespec t = {0, 20000000};

    (void)job;
    nanosleep(&t, NULL);
    sl_req_resume(((struct waiting *)job)->token, SL_NEXT);
    if (((struct waiting *)job)->twice)
        sl_req_resume(((struct waiting *)job)->token, SL_FAIL);
}

static void
done(struct sl_loop *loop, struct sl_offload *job)
{
    sl_count(loop, counter, 1);
    free(job);
}

static void
rang(struct sl_loop *loop, struct sl_timer *timer)
{
    struct waiting *w = (struct waiting *)(void *)((char *)timer - offsetof(struct waiting, timer));

    (void)loop;
    sl_req_resume(w->token, SL_NEXT);
    free(w);
}

static struct calls *
calls_of(struct sl_req *r)
{
    return sl_req_data(r, &sl_module_record, sizeof(struct calls));
}

/* The first call has the hook called once more. */
static enum sl_verdict
call_again(struct sl_req *r, int n_calls)
{
    if (n_calls > 1)
        return SL_NEXT;
    sl_req_resume(sl_req_suspend(r), SL_RETRY);
    return SL_WAIT;
}

static enum sl_verdict
probe_access(struct sl_req *r, const void *confp)
{
    const struct probe_conf *conf = confp;
    struct waiting *w;
    struct calls *calls = calls_of(r);

    sl_note(r, "probe sees %d", calls->access);
    calls->access++;
    sl_var_set(r, "probe", SL_SPAN("probed"));
    if (conf->fail)
        return sl_req_fail(r, 418, &sl_cause_internal, "as told");
    if (conf->notoken)
        return SL_WAIT;
    if (conf->block) {
        struct timespec t = {0, 400000000};

        nanosleep(&t, NULL);
    }
    if (conf->wait == NULL)
        return SL_NEXT;
    if (strcmp(conf->wait, "again") == 0)
        return call_again(r, calls->access);
    w = calloc(1, sizeof *w);
    w->token = sl_req_suspend(r);
    w->twice = strcmp(conf->wait, "twice") == 0;
    w->job.work = work;
    w->job.done = done;
    w->timer.fn = rang;
    if (strcmp(conf->wait, "timer") == 0)
        sl_timer_set(sl_req_loop(r), &w->timer, sl_loop_now(sl_req_loop(r)) + 50);
    else if (strcmp(conf->wait, "never") == 0)
        free(w);
    else
        sl_offload(sl_req_loop(r), &w->job);
    return SL_WAIT;
}

/* Says that it may run dry, and does what such a hook must not. */
static enum sl_verdict
probe_dry(struct sl_req *r, const void *confp)
{
    static struct sl_offload job = {.work = NULL};
    const struct probe_conf *conf = confp;
    const char *what = conf->dry != NULL ? conf->dry : "";
    int is_fresh;

    if (strcmp(what, "note") == 0)
        sl_note(r, "dry: %d", sl_req_is_dry(r));
    if (strcmp(what, "offload") == 0)
        sl_note(r, "offload: %d", sl_req_is_dry(r) ? sl_offload(sl_req_loop(r), &job) : 0);
    if (strcmp(what, "log") == 0)
        sl_note(r, "log: %d", sl_req_is_dry(r) ? sl_log_file("/nonexistent/log") : 0);
    if (strcmp(what, "zone") == 0)
        sl_note(r, "zone: %d", sl_req_is_dry(r) ? sl_zone("dry", 1, 64, &is_fresh) != NULL : 0);
    if (strcmp(what, "count") == 0)
        sl_count(sl_req_loop(r), 0, 1);
    if (strcmp(what, "wait") == 0) {
        sl_req_resume(sl_req_suspend(r), SL_NEXT);
        return SL_WAIT;
    }
    return SL_NEXT;
}

static enum sl_verdict
probe_say(struct sl_req *r, const void *confp)
{
    const struct probe_conf *conf = confp;

    if (conf->when != NULL && sl_cond_holds(conf->when, r) != 1)
        return SL_NEXT;
    return conf->say != NULL ? sl_respond(r, 200, "text/plain", sl_span(conf->say)) : SL_NEXT;
}

/* ---- filters ---- */

static enum sl_verdict
upper(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    char copy[512];
    size_t i, k;

    for (; n > sizeof copy; at += k, n -= k) {
        k = sizeof copy;
        for (i = 0; i < k; i++)
            copy[i] = (char)toupper((unsigned char)at[i]);
        sl_filter_write(f, copy, k, 0);
    }
    for (i = 0; i < n; i++)
        copy[i] = (char)toupper((unsigned char)at[i]);
    return sl_filter_write(f, copy, n, flags);
}

static enum sl_verdict
grow(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    if (n > 0)
        sl_filter_write(f, "<", 1, 0);
    sl_filter_write(f, at, n, 0);
    return sl_filter_write(f, n > 0 ? ">" : "", n > 0, flags);
}

static enum sl_verdict
broken(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    (void)f;
    (void)at;
    (void)n;
    (void)flags;
    return SL_FAIL;
}

static enum sl_verdict
pass(struct sl_filter *f, apr_bucket_brigade *bb)
{
    return sl_filter_pass(f, bb);
}

struct slow {
    struct sl_timer timer;
    struct sl_filter *f;
    int waited;
};

static void
slow_rang(struct sl_loop *loop, struct sl_timer *timer)
{
    (void)loop;
    sl_filter_resume(((struct slow *)(void *)timer)->f);
}

/* Takes its first bytes only when shown a second time. */
static enum sl_verdict
slow(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    struct slow *s = sl_filter_ctx(f);

    if (n == 0 || s->waited++ > 0)
        return sl_filter_write(f, at, n, flags);
    s->f = f;
    s->timer.fn = slow_rang;
    sl_timer_set(sl_req_loop(sl_filter_req(f)), &s->timer,
                 sl_loop_now(sl_req_loop(sl_filter_req(f))) + 50);
    return SL_WAIT;
}

static const struct sl_filter_type upper_type = {"upper", upper, NULL}, grow_type = {"grow", grow, NULL},
                                   fail_type = {"broken", broken, NULL},
                                   pass_type = {"pass", NULL, pass}, slow_type = {"slow", slow, NULL};

static enum sl_verdict
probe_response(struct sl_req *r, const void *confp)
{
    const struct probe_conf *conf = confp;
    const char *f = conf->filter;
    struct calls *calls = calls_of(r);

    calls->response++;
    sl_fields_set(sl_req_response(r), "X-Probe", sl_var_get(r, "probe"));
    sl_fields_set(sl_req_response(r), "X-Starts",
                  sl_span(apr_itoa(sl_req_pool(r), atomic_load(zone))));
    if (conf->late) {
        int is_fresh;

        sl_fields_set(sl_req_response(r), "X-Late",
                      sl_span(sl_zone("late", 1, 64, &is_fresh) == NULL ? "refused" : "given"));
    }
    sl_fields_set(sl_req_response(r), "X-Calls",
                  sl_span(apr_psprintf(sl_req_pool(r), "%d, %d", calls->access, calls->response)));
    if (f == NULL)
        return SL_NEXT;
    if (strcmp(f, "again") == 0)
        return call_again(r, calls->response);
    if (strstr(f, "upper"))
        sl_filter_add(r, &upper_type, NULL, 1);
    if (strstr(f, "pass"))
        sl_filter_add(r, &pass_type, NULL, 1);
    if (strstr(f, "slow"))
        sl_filter_add(r, &slow_type, apr_pcalloc(sl_req_pool(r), sizeof(struct slow)), 1);
    if (strstr(f, "grow"))
        sl_filter_add(r, &grow_type, NULL, 0);
    if (strstr(f, "fail"))
        sl_filter_add(r, &fail_type, NULL, 1);
    return SL_NEXT;
}

static enum sl_verdict
probe_deny(struct sl_req *r, void *ctx)
{
    return sl_respond(r, 401, "text/plain", sl_span(ctx));
}

static enum sl_verdict
probe_opinion(struct sl_req *r, const void *confp)
{
    const struct probe_conf *conf = confp;

    if (conf->opinion == NULL)
        return SL_NEXT;
    sl_note(r, "settled: %d", sl_access_is_settled(r));
    return strcmp(conf->opinion, "granted") == 0
               ? sl_access_granted(r) : sl_access_denied(r, probe_deny, (void *)(uintptr_t)"who?");
}

/* "a=1 b=0": what is in flight at the servers of the pool; this attempt counts. */
static enum sl_verdict
probe_upstream(struct sl_attempt *a, const void *confp)
{
    const struct probe_conf *conf = confp;
    const struct sl_pool *pool = sl_attempt_server(a)->pool;
    apr_pool_t *memory = sl_req_pool(sl_attempt_req(a));
    const char *text = "";
    unsigned i;

    for (i = 0; conf->active && i < pool->n_servers; i++)
        text = apr_psprintf(memory, "%s%s%s=%u", text, i > 0 ? " " : "", pool->servers[i]->name,
                            sl_server_active(pool->servers[i]));
    if (conf->active)
        sl_fields_set(sl_attempt_response(a), "X-Active", sl_span(text));
    return SL_NEXT;
}

static int
probe_zone(struct sl_worker *w)
{
    int is_fresh;
    const struct probe_conf *conf = sl_scope_conf(sl_worker_global(w), &sl_module_record);
    unsigned layout = (unsigned)conf->layout;

    zone = sl_zone("probe", layout, 4096, &is_fresh);
    if (zone == NULL || (is_fresh && atomic_load(zone) != 0) ||
        sl_zone("probe", layout, 4096, &is_fresh) != zone || is_fresh)
        return -1;
    atomic_fetch_add(zone, 1);
    return 0;
}

static int
probe_init(const struct sl_module *self)
{
    (void)self;
    counter = sl_counter("probe_offloads", "jobs that came back");
    return counter < 0 ? -1 : 0;
}

static const struct sl_directive directives[] = {
    SL_STRING("ProbeWait", struct probe_conf, wait, NULL, SL_IN_ANY, "Suspends"),
    SL_STRING("ProbeFilter", struct probe_conf, filter, NULL, SL_IN_ANY, "Filters bodies"),
    SL_STRING("ProbeSay", struct probe_conf, say, NULL, SL_IN_ANY, "Answers"),
    SL_STRING("ProbeDry", struct probe_conf, dry, NULL, SL_IN_ANY, "Runs in dry runs"),
    SL_STRING("ProbeOpinion", struct probe_conf, opinion, NULL, SL_IN_ANY, "Who may pass"),
    SL_COND("ProbeWhen", struct probe_conf, when, ROUTED, SL_IN_ANY, "Answers only then"),
    SL_FLAG("ProbeFail", struct probe_conf, fail, "off", SL_IN_ANY, "Fails"),
    SL_FLAG("ProbeBlock", struct probe_conf, block, "off", SL_IN_ANY, "Blocks"),
    SL_FLAG("ProbeLate", struct probe_conf, late, "off", SL_IN_ANY, "Asks for a zone too late"),
    SL_FLAG("ProbeActive", struct probe_conf, active, "off", SL_IN_ANY, "Says what is in flight"),
    SL_NUMBER("ProbeLayout", struct probe_conf, layout, "1", SL_IN_GLOBAL, "Of the zone"),
    SL_FLAG("ProbeNoToken", struct probe_conf, notoken, "off", SL_IN_ANY, "Waits without a token"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_POST_CONFIG(probe_zone),
    SL_ON_ACCESS(probe_access, SL_MIDDLE, 0),
    SL_ON_ACCESS(probe_dry, SL_LATE, SL_DRY_OK),
    SL_ON_ACCESS(probe_opinion, SL_LATE, SL_DRY_OK),
    SL_ON_HANDLER(probe_say, SL_EARLY, 0),
    SL_ON_UPSTREAM_RESPONSE(probe_upstream, SL_MIDDLE, 0),
    SL_ON_RESPONSE(probe_response, SL_EARLY, 0),
    SL_HOOKS_END,
};
static const struct sl_variable variables[] = {
    {"probe", 0, SL_PHASE_ROUTED, SL_TYPE_STRING, 1, NULL, "what the probe left"},
    SL_VARIABLES_END,
};
SL_MODULE(probe) = {
    .name = "probe",
    .conf_size = sizeof(struct probe_conf),
    .directives = directives,
    .hooks = hooks,
    .variables = variables,
    .init = probe_init,
};
