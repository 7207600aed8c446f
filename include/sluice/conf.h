/* The configuration language as a module sees it: a directive is a row.
 *
 * A row binds a name to a typed slot of the module's conf struct.  The core parses,
 * checks, merges (inner, else outer, else default; lists add up, outer first, and a line
 * that begins with "-" starts the list anew) and remembers file:line of every value.  A
 * module writes a parse function only for what is no slot; such lines add up like lists.
 *
 * Conf structs are made by the core, zeroed then defaulted, live as long as the
 * generation, and are read-only once requests run: every thread may read them. */
#ifndef SLUICE_CONF_H
#define SLUICE_CONF_H

#include "sluice/base.h"

/* Where a directive may stand.  Sections of a module's own (Balancer) have rows of their
 * own instead. */
enum {
    SL_IN_GLOBAL = 1,   /* outside every section */
    SL_IN_HOST = 2,     /* <VirtualHost> */
    SL_IN_LOCATION = 4, /* <Location>, <LocationMatch>, <If> */
    SL_IN_ANY = 7,
};

enum sl_slot {
    SL_SLOT_FLAG,     /* int: on or off */
    SL_SLOT_NUMBER,   /* int64_t, 0 or more; "unlimited" and "off" give -1: a row that means less
                       * has a parse function that checks */
    SL_SLOT_SIZE,     /* int64_t bytes: 4k, 10m, 1g; "unlimited" gives -1 */
    SL_SLOT_DURATION, /* int64_t milliseconds: 500ms, 10s, 5m, 2h, 1d; "off" gives -1 */
    SL_SLOT_RATE,     /* int64_t, per 1000 seconds: 10r/s, 600r/m; bytes: 1k/s or 1k; 0, off */
    SL_SLOT_STRING,   /* const char * */
    SL_SLOT_TOKEN,    /* const char *, RFC 9110 token */
    SL_SLOT_ENUM,     /* int: index into the row's words */
    SL_SLOT_LIST,     /* apr_array_header_t * of const char *; adds up */
    SL_SLOT_NETS,     /* struct sl_networks *; adds up; NULL is the empty set */
    SL_SLOT_EXPR,     /* struct sl_expr * */
    SL_SLOT_OPTIONS,  /* k=v pairs, each a slot of its own: the row's options */
    SL_SLOT_LINES,    /* apr_array_header_t * of void *, made by parse(); adds up */
    SL_SLOT_PARSED,   /* void *, made by parse(); a scalar: the inner one holds */
    /* struct sl_cond *: a condition that is asked when ... is known (enum sl_phase) */
    SL_SLOT_COND_REQUEST,
    SL_SLOT_COND_ROUTED,
    SL_SLOT_COND_RESPONSE,
    SL_SLOT_COND_LOG,
    /* apr_array_header_t * of void *, made by parse(): rows of one module that name the same
     * member share it, in the order of their lines.  The innermost scope that has any of them
     * holds alone. */
    SL_SLOT_RULES,
};

/* One k=v pair of an SL_SLOT_OPTIONS row; `key` alone (no '=') sets a flag. */
struct sl_option {
    const char *key;
    enum sl_slot type;
    size_t offset;
    const char *init;         /* default, in the language's own words; NULL: zero */
    const char *const *words; /* SL_SLOT_ENUM; of others: the value the key alone stands for, or NULL */
    const char *help;
};

/* Makes one item of a LINES, RULES or PARSED slot: stores it in *item and returns NULL, or
 * returns a phrase ("expected a status between 300 and 399") to which the core adds
 * directive, file, line and the words it stands on.  There is a first word where the row's args
 * ask for one, outside of brackets.  On a row of a scalar type it checks the value that was just
 * stored at `item`. */
typedef const char *sl_parse_f(struct sl_cmd *cmd, void **item);

struct sl_directive {
    const char *name;
    enum sl_slot type;
    unsigned where;
    size_t offset;
    /* Default, in the language's own words; NULL: zero or empty.  Of LINES, RULES and PARSED
     * slots it is shown, not parsed: the slot stays NULL. */
    const char *init;
    const char *help; /* one sentence without full stop: sluice -L prints it; "; by default ..." at
                       * its end says what no init can, to the manual, too */
    const char *args; /* how the arguments are written, for -L, the manual and errors */
    sl_parse_f *parse;
    const struct sl_option *options;
    const char *const *words; /* SL_SLOT_ENUM, ends with NULL */
};

/* The member's type is compared by the compiler: a mismatch is a warning. */
#define SL_AT(T, member, type)                                                               \
    (offsetof(T, member) + 0 * sizeof((type *)0 == &((T *)0)->member))

#define SL_FLAG(name, T, m, init, where, help)                                               \
    {name, SL_SLOT_FLAG, where, SL_AT(T, m, int), init, help, "on|off", NULL, NULL, NULL}
#define SL_NUMBER(name, T, m, init, where, help)                                             \
    {name, SL_SLOT_NUMBER, where, SL_AT(T, m, int64_t), init, help, "N", NULL, NULL, NULL}
#define SL_SIZE(name, T, m, init, where, help)                                               \
    {name, SL_SLOT_SIZE, where, SL_AT(T, m, int64_t), init, help, "SIZE", NULL, NULL, NULL}
#define SL_DURATION(name, T, m, init, where, help)                                           \
    {name, SL_SLOT_DURATION, where, SL_AT(T, m, int64_t), init, help, "TIME", NULL, NULL, NULL}
#define SL_RATE(name, T, m, init, where, help)                                               \
    {name, SL_SLOT_RATE, where, SL_AT(T, m, int64_t), init, help, "RATE", NULL, NULL, NULL}
#define SL_STRING(name, T, m, init, where, help)                                             \
    {name, SL_SLOT_STRING, where, SL_AT(T, m, const char *), init, help, "TEXT", NULL, NULL, NULL}
#define SL_TOKEN(name, T, m, init, where, help)                                              \
    {name, SL_SLOT_TOKEN, where, SL_AT(T, m, const char *), init, help, "TOKEN", NULL, NULL, NULL}
#define SL_ENUM(name, T, m, init, where, words, args, help)                                  \
    {name, SL_SLOT_ENUM, where, SL_AT(T, m, int), init, help, args, NULL, NULL, words}
#define SL_LIST(name, T, m, init, where, help)                                               \
    {name, SL_SLOT_LIST, where, SL_AT(T, m, apr_array_header_t *), init, help, "WORD ...",   \
     NULL, NULL, NULL}
#define SL_NETS(name, T, m, init, where, help)                                               \
    {name, SL_SLOT_NETS, where, SL_AT(T, m, struct sl_networks *), init, help, "NET ...",    \
     NULL, NULL, NULL}
#define SL_EXPR(name, T, m, init, where, help)                                               \
    {name, SL_SLOT_EXPR, where, SL_AT(T, m, struct sl_expr *), init, help, "EXPR", NULL,     \
     NULL, NULL}
/* phase: REQUEST, ROUTED, RESPONSE or LOG. */
#define SL_COND(name, T, m, phase, where, help)                                              \
    {name, SL_SLOT_COND_##phase, where, SL_AT(T, m, struct sl_cond *), NULL, help,           \
     "CONDITION", NULL, NULL, NULL}
#define SL_OPTIONS(name, options, where, args, help)                                         \
    {name, SL_SLOT_OPTIONS, where, 0, NULL, help, args, NULL, options, NULL}
#define SL_LINES(name, T, m, parse, where, args, help)                                       \
    {name, SL_SLOT_LINES, where, SL_AT(T, m, apr_array_header_t *), NULL, help, args, parse, \
     NULL, NULL}
#define SL_RULES(name, T, m, parse, where, args, help)                                       \
    {name, SL_SLOT_RULES, where, SL_AT(T, m, apr_array_header_t *), NULL, help, args, parse, \
     NULL, NULL}
#define SL_PARSED(name, T, m, parse, where, args, help)                                      \
    {name, SL_SLOT_PARSED, where, offsetof(T, m), NULL, help, args, parse, NULL, NULL}
#define SL_DIRECTIVES_END {NULL, SL_SLOT_FLAG, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL}

/* Sections.  A scope section (host, location) opens a new scope inside the current one, in
 * which all modules' directives may stand; the module that owns the section decides when a
 * request enters it.  An object section has rows of its own, bound to a fresh conf of
 * conf_size, which close() is handed; nothing is merged. */
enum sl_section_kind { SL_SECTION_HOST, SL_SECTION_LOCATION, SL_SECTION_IF, SL_SECTION_OBJECT };

struct sl_section {
    const char *name; /* "VirtualHost" */
    enum sl_section_kind kind;
    unsigned where; /* SL_IN_GLOBAL, SL_IN_HOST, SL_IN_LOCATION */
    /* At the opening line, with its arguments.  `scope` is the new scope, NULL for an
     * object section; sl_scope_own() hangs the module's data on it. */
    const char *(*open)(struct sl_cmd *cmd, struct sl_scope *scope);
    /* Object sections: at the closing line.  cmd has the opening line's arguments. */
    const char *(*close)(struct sl_cmd *cmd, void *conf);
    const struct sl_directive *directives; /* object sections */
    size_t conf_size;                      /* object sections */
    const char *args;
    const char *help;
};
#define SL_SECTIONS_END {NULL, SL_SECTION_OBJECT, 0, NULL, NULL, NULL, 0, NULL, NULL}

/* The line a parse function is called for. */
int sl_cmd_argc(const struct sl_cmd *cmd);                    /* without the directive's name */
const char *sl_cmd_arg(const struct sl_cmd *cmd, int i);      /* NULL past the last */
apr_pool_t *sl_cmd_pool(const struct sl_cmd *cmd);            /* lives as long as the generation */
const char *sl_cmd_place(const struct sl_cmd *cmd);           /* "sluice.conf:14" */
void *sl_cmd_module_data(const struct sl_cmd *cmd);           /* see sl_module.data_size */
struct sl_scope *sl_cmd_scope(const struct sl_cmd *cmd);      /* the scope it stands in */
/* Makes the phrase of an error, in the command's pool. */
const char *sl_cmd_error(struct sl_cmd *cmd, const char *fmt, ...) SL_PRINTF(2, 3);
/* Adds how to mend it; shown below the error as "cure: ...". */
void sl_cmd_cure(struct sl_cmd *cmd, const char *fmt, ...) SL_PRINTF(2, 3);
/* Stores k=v pairs of arguments `from`.. into `conf` by `options` (ended by a NULL key);
 * an unknown key is an error that names the nearest.  NULL or a phrase. */
const char *sl_cmd_options(struct sl_cmd *cmd, int from, const struct sl_option *options, void *conf);

/* A path as written on the line: relative to the file the line stands in. */
const char *sl_cmd_path(const struct sl_cmd *cmd, const char *path);
/* The bytes of a file a line names, NUL-terminated: of at most `max`, relative to the file the
 * line stands in.  They are kept with the configuration: what was accepted stays, whatever
 * becomes of the file.  One file a line.  NULL or a phrase. */
const char *sl_cmd_file(struct sl_cmd *cmd, const char *name, size_t max, struct sl_span *bytes);

/* A set of statuses of failures. */
enum { SL_STATUS_FIRST = 400, SL_STATUS_LAST = 599 };
struct sl_statuses {
    uint64_t bits[4];
};
/* Adds the one argument i names.  NULL or a phrase. */
const char *sl_cmd_status(struct sl_cmd *cmd, int i, struct sl_statuses *set);
static inline int
sl_statuses_have(const struct sl_statuses *set, int status)
{
    unsigned i = (unsigned)(status - SL_STATUS_FIRST);

    return status >= SL_STATUS_FIRST && status <= SL_STATUS_LAST && (set->bits[i / 64] >> i % 64 & 1);
}

/* How many letters differ, to find the name that was meant: inserted, deleted or replaced, case
 * does not count.  64 when a name is longer than that. */
unsigned sl_name_distance(const char *a, const char *b);

/* One value in the language's own words into `slot` of the named type: NULL or a phrase. */
const char *sl_parse_slot(apr_pool_t *pool, enum sl_slot type, const char *text, void *slot);

/* Scopes: global is the outermost; a host's parent is global, a location's its host or the
 * location around it. */
struct sl_scope *sl_scope_parent(const struct sl_scope *scope);
enum sl_scope_kind { SL_SCOPE_GLOBAL, SL_SCOPE_HOST, SL_SCOPE_LOCATION, SL_SCOPE_IF };
enum sl_scope_kind sl_scope_kind(const struct sl_scope *scope);
const char *sl_scope_place(const struct sl_scope *scope); /* "sluice.conf:14" */
/* The owning module's own pointer on a scope (set in section open). */
void sl_scope_own(struct sl_scope *scope, void *data);
void *sl_scope_owned(const struct sl_scope *scope);
/* The module's merged conf in this scope; valid from check_config on. */
const void *sl_scope_conf(const struct sl_scope *scope, const struct sl_module *module);

/* Where the scope itself, not one around it, says a directive of the module's: the last line
 * that does; NULL: none does. */
const char *sl_scope_said(const struct sl_scope *scope, const struct sl_module *module,
                          const char *directive);

/* Ifs (SL_SECTION_IF) say what holds beside the location, by a condition their section's
 * open() sets.  While requests run, sl_scope_overlay() gives the scope with all Ifs that hold
 * for r laid over it, the innermost last: the scope itself where there is none.  What it gives
 * is read-only and lives at least as long as r; any thread, no lock.  NULL: a pattern needed
 * too many steps, and r has failed.  At most 32 Ifs apply to a scope. */
void sl_scope_set_condition(struct sl_scope *scope, struct sl_cond *cond);
int sl_scope_has_ifs(const struct sl_scope *scope); /* from check_config on */
struct sl_scope *sl_scope_overlay(struct sl_scope *scope, struct sl_req *r);

/* A set of IPv4 and IPv6 networks; immutable. */
struct sl_sockaddr;
int sl_networks_has(const struct sl_networks *nets, const struct sl_sockaddr *addr);

#endif
