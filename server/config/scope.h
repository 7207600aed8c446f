/* Scopes, modules as loaded, and the lists of hooks compiled for each scope: what the
 * request path reads of the configuration.  Immutable once requests run. */
#ifndef CONFIG_SCOPE_H
#define CONFIG_SCOPE_H

#include "sluice/module.h"

/* A module in this process; core is number 0. */
struct loaded_module {
    const struct sl_module *module;
    const struct sl_abi *abi;
    const char *name;
    const char *file;
    int fd; /* leads to the file it was loaded from, until the master has it; -1: nowhere */
    unsigned index;
};

/* One call of a compiled list. */
struct hook_call {
    union {
        sl_conn_f *on_conn;
        sl_req_f *on_req;
        sl_attempt_f *on_attempt;
    } fn;
    const void *conf; /* the module's merged conf in this scope */
    const struct sl_hook *hook;
    const struct loaded_module *module;
};
struct hook_list {
    const struct hook_call *at;
    unsigned n;
};

struct overlays;

struct sl_scope {
    enum sl_scope_kind kind;
    unsigned index; /* in config.scopes */
    struct sl_scope *parent;
    const char *place; /* file:line */
    const char *title; /* as written: <Location "/api"> */
    void *owned;       /* the section's module's */
    const struct core_conf *core; /* the core's merged conf: conf[0] */
    void **conf;                  /* merged, by module index */
    void *raw;                    /* config/: what was written here, with places */
    struct sl_cond *condition;    /* of an If; NULL: it has none that compiles */
    struct sl_pattern *pattern;   /* what a request has matched to be here; NULL: none */
    struct overlays *overlays;    /* the Ifs that apply here; NULL: none */
    struct hook_list lists[SL_HOOK_COUNT]; /* from SL_HOOK_PRE_CONNECTION on */
};

#endif
