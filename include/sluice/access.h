/* Who may pass: the opinions of hooks of the access phase, and what Satisfy makes of them.
 *
 * A hook that has an opinion returns what one of these gives; one without says SL_NEXT.  Under
 * "Satisfy all" the first that denies answers.  Under "Satisfy any" one that grants is enough, and
 * where none has, the last that denied answers behind the phase's last hook.  Hooks that refuse
 * for other reasons than who asks (a limit, a redirect to https) answer by themselves. */
#ifndef SLUICE_ACCESS_H
#define SLUICE_ACCESS_H

#include "sluice/base.h"

/* Answers a request that is denied: by sl_req_fail() or sl_respond(). */
typedef enum sl_verdict sl_deny_f(struct sl_req *r, void *ctx);

enum sl_verdict sl_access_granted(struct sl_req *r);
/* `ctx` lives as long as the request. */
enum sl_verdict sl_access_denied(struct sl_req *r, sl_deny_f *deny, void *ctx);

/* Whether one that grants is enough here (Satisfy any). */
int sl_access_needs_one(const struct sl_req *r);
/* Whether that one has: who would ask something dear, or the client, need not. */
int sl_access_is_settled(const struct sl_req *r);

#endif
