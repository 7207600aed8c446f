/* Patterns (PCRE2), and texts made of what they captured.
 *
 * Both are compiled once, while the configuration is read, live as long as the pool they
 * were made in, and are read-only: any thread may use them.  '.' is every byte and '$'
 * the very end, so that an escaped newline is no way around; case counts, unless "(?i)"
 * says no.
 *
 * What patterns look at comes from strangers: steps and memory of a match are bounded,
 * well below the 5 ms a hook may take.  A pattern that needs more gives up, and that is
 * no "no": where it decides who may do what, fail the request with
 * sl_cause_pattern_limit. */
#ifndef SLUICE_PATTERN_H
#define SLUICE_PATTERN_H

#include "sluice/base.h"
#include "sluice/expr.h"

struct sl_pattern;

/* NULL with what is wrong in *why, in `pool`, at the character *at, from 1. */
struct sl_pattern *sl_pattern_compile(apr_pool_t *pool, const char *text,
                                      const char **why, unsigned *at);
/* The same for a word of a directive's line: NULL or a phrase. */
const char *sl_cmd_pattern(struct sl_cmd *cmd, const char *text,
                           struct sl_pattern **pattern);
const char *sl_pattern_text(const struct sl_pattern *p);
/* How many groups it has, $0 not counted. */
unsigned sl_pattern_groups(const struct sl_pattern *p);
/* The number of a group by its name, (?<name>...); 0: there is none of that name. */
unsigned sl_pattern_group(const struct sl_pattern *p, struct sl_span name);

/* What a match captured: the match itself and the groups 1 to 9, spans of its subject.
 * Empty where a group took no part; at is never NULL. */
#define SL_GROUPS 10
struct sl_captures {
    struct sl_span group[SL_GROUPS];
};

/* Looks from byte `from` of the subject on; what stands before it is seen by assertions.
 * 1 a match, 0 none, -1 it gave up.  *captures is set on 1; NULL: nobody asks. */
int sl_pattern_match(const struct sl_pattern *p, struct sl_span subject, size_t from,
                     struct sl_captures *captures);

/* ---- templates ----
 *
 * $0 to $9 and $<name> are what a pattern captured, "$$" is a dollar sign, %{variables}
 * are values; a dollar sign of a value is just that. */
struct sl_template;

/* Makes text fit for where it is to stand, as percent-encoding does; the same span where
 * nothing is to be done. */
typedef struct sl_span sl_escape_f(apr_pool_t *pool, struct sl_span text);

/* For a word of a directive's line; variables must be known in `phase`.  escape is asked
 * for the template's own text and for values, never for groups; NULL: both stay as they
 * are. NULL or a phrase. */
const char *sl_cmd_template(struct sl_cmd *cmd, const char *text,
                            const struct sl_pattern *pattern, enum sl_phase phase,
                            sl_escape_f *escape, struct sl_template **made);
/* In the request's pool; never at NULL. */
struct sl_span sl_template_fill(const struct sl_template *t,
                                const struct sl_captures *captures, struct sl_req *r);

/* ---- patterns that choose a scope ----
 *
 * Values of lines inside such a scope (sl_cmd_expr()) may use its groups, as those inside
 * an <If> use what the condition captured. */

/* In the section's open(). */
void sl_scope_set_pattern(struct sl_scope *scope, struct sl_pattern *pattern);
/* When it matched: what it captured is kept until the request ends, if a value asks for
 * it. The subject must live as long. */
void sl_req_keep_captures(struct sl_req *r, const struct sl_pattern *pattern,
                          const struct sl_captures *captures);

#endif
