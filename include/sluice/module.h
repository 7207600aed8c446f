/* sluice/module.h: the whole interface of a module; include this and nothing else.
 *
 * A module is one shared object with one constant, made by SL_MODULE(name).  The loader
 * compares the ABI record before it calls anything: major must match, minor may be older
 * than the server's.  Rows are walked by the sizes recorded here, so rows may grow at the
 * end without breaking modules built before.  Nothing depends on configure's flags. */
#ifndef SLUICE_MODULE_H
#define SLUICE_MODULE_H

#include "sluice/access.h"
#include "sluice/base.h"
#include "sluice/conf.h"
#include "sluice/control.h"
#include "sluice/descriptor.h"
#include "sluice/encoder.h"
#include "sluice/expr.h"
#include "sluice/fields.h"
#include "sluice/file.h"
#include "sluice/filter.h"
#include "sluice/gauge.h"
#include "sluice/lint.h"
#include "sluice/log.h"
#include "sluice/loop.h"
#include "sluice/net.h"
#include "sluice/override.h"
#include "sluice/pattern.h"
#include "sluice/provider.h"
#include "sluice/req.h"
#include "sluice/resolver.h"
#include "sluice/source.h"
#include "sluice/subrequest.h"
#include "sluice/upstream.h"
#include "sluice/zone.h"

#define SL_ABI_MAGIC 0x53474c55u
#define SL_ABI_MAJOR 1
#define SL_ABI_MINOR 0

struct sl_abi {
    unsigned magic;
    unsigned short major, minor;
    unsigned short module_size, directive_size, section_size, hook_size, variable_size;
};

/* Hook points, in the order a request passes them. */
enum sl_hook_point {
    SL_HOOK_PRE_CONFIG,
    SL_HOOK_CHECK_CONFIG,
    SL_HOOK_POST_CONFIG,
    SL_HOOK_OPEN_LOGS,
    SL_HOOK_WORKER_INIT,
    SL_HOOK_THREAD_INIT,
    SL_HOOK_READY,
    SL_HOOK_DRAIN,
    SL_HOOK_WORKER_EXIT,
    SL_HOOK_PRE_CONNECTION,
    SL_HOOK_CLOSE_CONNECTION,
    SL_HOOK_CREATED,
    SL_HOOK_HEAD_READ,
    SL_HOOK_ROUTE,
    SL_HOOK_ACCESS,
    SL_HOOK_FIXUP,
    SL_HOOK_HANDLER,
    SL_HOOK_SELECT_SERVER,
    SL_HOOK_UPSTREAM_REQUEST,
    SL_HOOK_UPSTREAM_RESPONSE,
    SL_HOOK_UPSTREAM_DONE,
    SL_HOOK_RESPONSE,
    SL_HOOK_LOG,
    SL_HOOK_COUNT
};

enum sl_order { SL_EARLY, SL_MIDDLE, SL_LATE };

/* SL_DRY_OK: explain may run it, it leaves no trace. */
enum { SL_DRY_OK = 1 };

/* Process hooks get the generation's scopes through the worker: 0, or -1 with a message in
 * the log, which stops the start. */
typedef int sl_worker_f(struct sl_worker *w);
typedef int sl_thread_f(struct sl_worker *w, struct sl_loop *loop);
typedef enum sl_verdict sl_conn_f(struct sl_conn *c, const void *conf);
typedef enum sl_verdict sl_req_f(struct sl_req *r, const void *conf);
typedef enum sl_verdict sl_attempt_f(struct sl_attempt *a, const void *conf);

struct sl_hook {
    enum sl_hook_point point;
    enum sl_order order;
    unsigned flags;
    const char *name;  /* of the function, for sluice -M and reports */
    /* Runs after the hooks of the same order of these modules, with blanks between them; NULL: any. */
    const char *after;
    sl_worker_f *on_worker;
    sl_thread_f *on_thread;
    sl_conn_f *on_conn;
    sl_req_f *on_req;
    sl_attempt_f *on_attempt;
};

#define SL_HOOK_W(point, f) {point, SL_MIDDLE, 0, #f, NULL, f, NULL, NULL, NULL, NULL}
#define SL_HOOK_T(point, f) {point, SL_MIDDLE, 0, #f, NULL, NULL, f, NULL, NULL, NULL}
#define SL_HOOK_C(point, f, order) {point, order, 0, #f, NULL, NULL, NULL, f, NULL, NULL}
#define SL_HOOK_R(point, f, order, flags) {point, order, flags, #f, NULL, NULL, NULL, NULL, f, NULL}
#define SL_HOOK_A(point, f, order, flags) {point, order, flags, #f, NULL, NULL, NULL, NULL, NULL, f}

#define SL_ON_CHECK_CONFIG(f) SL_HOOK_W(SL_HOOK_CHECK_CONFIG, f)
#define SL_ON_POST_CONFIG(f) SL_HOOK_W(SL_HOOK_POST_CONFIG, f)
#define SL_ON_OPEN_LOGS(f) SL_HOOK_W(SL_HOOK_OPEN_LOGS, f)
#define SL_ON_WORKER_INIT(f) SL_HOOK_W(SL_HOOK_WORKER_INIT, f)
#define SL_ON_THREAD_INIT(f) SL_HOOK_T(SL_HOOK_THREAD_INIT, f)
#define SL_ON_READY(f) SL_HOOK_W(SL_HOOK_READY, f)
#define SL_ON_DRAIN(f) SL_HOOK_W(SL_HOOK_DRAIN, f)
#define SL_ON_WORKER_EXIT(f) SL_HOOK_W(SL_HOOK_WORKER_EXIT, f)
#define SL_ON_PRE_CONNECTION(f, order) SL_HOOK_C(SL_HOOK_PRE_CONNECTION, f, order)
#define SL_ON_CLOSE_CONNECTION(f, order) SL_HOOK_C(SL_HOOK_CLOSE_CONNECTION, f, order)
#define SL_ON_CREATED(f, order, flags) SL_HOOK_R(SL_HOOK_CREATED, f, order, flags)
#define SL_ON_HEAD_READ(f, order, flags) SL_HOOK_R(SL_HOOK_HEAD_READ, f, order, flags)
#define SL_ON_ROUTE(f, order, flags) SL_HOOK_R(SL_HOOK_ROUTE, f, order, flags)
#define SL_ON_ACCESS(f, order, flags) SL_HOOK_R(SL_HOOK_ACCESS, f, order, flags)
#define SL_ON_FIXUP(f, order, flags) SL_HOOK_R(SL_HOOK_FIXUP, f, order, flags)
#define SL_ON_HANDLER(f, order, flags) SL_HOOK_R(SL_HOOK_HANDLER, f, order, flags)
#define SL_ON_SELECT_SERVER(f, order, flags) SL_HOOK_A(SL_HOOK_SELECT_SERVER, f, order, flags)
#define SL_ON_UPSTREAM_REQUEST(f, order, flags) SL_HOOK_A(SL_HOOK_UPSTREAM_REQUEST, f, order, flags)
#define SL_ON_UPSTREAM_RESPONSE(f, order, flags) SL_HOOK_A(SL_HOOK_UPSTREAM_RESPONSE, f, order, flags)
#define SL_ON_UPSTREAM_DONE(f, order, flags) SL_HOOK_A(SL_HOOK_UPSTREAM_DONE, f, order, flags)
#define SL_ON_RESPONSE(f, order, flags) SL_HOOK_R(SL_HOOK_RESPONSE, f, order, flags)
#define SL_ON_LOG(f, order, flags) SL_HOOK_R(SL_HOOK_LOG, f, order, flags)
#define SL_HOOKS_END {SL_HOOK_COUNT, SL_EARLY, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL}

/* Called in every scope, also where nothing of it is configured. */
enum { SL_MODULE_ALWAYS = 1 };

struct sl_module {
    const char *name;
    unsigned flags;
    size_t conf_size; /* of its conf struct, one a scope */
    size_t data_size; /* of its data, one a generation: sl_cmd_module_data() and below */
    const struct sl_directive *directives;
    const struct sl_section *sections;
    const struct sl_hook *hooks;
    const struct sl_variable *variables;
    /* When loaded, before the configuration is read: registers providers and counters.
     * 0 or -1. */
    int (*init)(const struct sl_module *self);
};

/* This module's own record, for calls that ask which module it is. */
extern const struct sl_module sl_module_record;

/* SL_MODULE(gzip) = { .conf_size = ..., .directives = ..., .hooks = ... }; the loader
 * finds both symbols; the name is the one of LoadModule. */
#define SL_MODULE(module_name)                                                               \
    const struct sl_abi sl_abi_record = {                                                    \
        SL_ABI_MAGIC,                    SL_ABI_MAJOR,                                       \
        SL_ABI_MINOR,                    sizeof(struct sl_module),                           \
        sizeof(struct sl_directive),     sizeof(struct sl_section),                          \
        sizeof(struct sl_hook),          sizeof(struct sl_variable),                         \
    };                                                                                       \
    const char sl_module_name[] = #module_name;                                              \
    const struct sl_module sl_module_record

/* The worker, as process hooks see it. */
apr_pool_t *sl_worker_pool(struct sl_worker *w); /* lives as long as the generation */
unsigned sl_worker_threads(const struct sl_worker *w);
struct sl_loop *sl_worker_loop(struct sl_worker *w, unsigned i);
struct sl_scope *sl_worker_global(struct sl_worker *w);
/* Walks every scope, outer before inner; NULL past the last. */
struct sl_scope *sl_worker_scope(struct sl_worker *w, unsigned i);
/* The i-th Listen line; 0 past the last. */
struct sl_listen {
    const char *text, *place; /* "443", "sluice.conf:3" */
    const struct sl_transport *transport; /* NULL: plain */
    struct sl_scope *scope; /* its default host's, else global */
};
int sl_worker_listen(const struct sl_worker *w, unsigned i, struct sl_listen *l);
/* The module's per-generation data, zeroed, data_size bytes. */
void *sl_worker_module_data(struct sl_worker *w, const struct sl_module *module);
/* A configuration error found in check_config, or in open_logs where a file cannot be opened: the
 * start ends with it.  place may be NULL; what stands behind "\n    cure: " is the cure. */
void sl_worker_config_error(struct sl_worker *w, const char *place, const char *fmt, ...)
    SL_PRINTF(3, 4);

#endif
