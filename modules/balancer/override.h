/* What the operator says of servers at run time: override.c.  Thread 0's. */
#ifndef BALANCER_OVERRIDE_H
#define BALANCER_OVERRIDE_H

#include "balancer.h"

/* "drain weight=5"; "": nothing. */
const char *override_text(apr_pool_t *pool, const struct sl_server *s);
/* What the configuration says, and an override stands for: "10.0.0.1:80 weight=1 drain". */
const char *override_line(apr_pool_t *pool, const struct sl_server *s);
/* When it was said; "": it was not, or nobody knows any more. */
const char *override_when(apr_pool_t *pool, const struct sl_server *s);

/* In force at once, for all methods and for all that have the name of s or had it last; not kept
 * yet.  weight: of 0 the configured one; 0, or -1 without memory. */
void override_admin(struct sl_server *s, enum sl_admin admin);
int override_weight(struct sl_server *s, unsigned weight);
int override_is_said(const struct sl_server *s);
/* What is in force of it is what StateDir has from now on. */
void override_keep(struct sl_server *s, sl_kept_f *done, void *data);
/* The same for one that waits for its server, by POOL/SERVER: 0: there is none, done is not
 * called. */
int override_forget(const char *key, sl_kept_f *done, void *data);

/* check_config: for which lines those in StateDir stand. */
void overrides_claim(struct sl_worker *w);
/* ready: what was said before holds for this generation, too, or goes with an edited line, and
 * StateDir follows.  0 or -1.  drain: another generation decides from now on. */
int overrides_take(struct sl_worker *w);
void overrides_rest(void);
/* Servers have come: what StateDir has of them holds. */
void overrides_arrived(struct sl_pool *pool);

#endif
