/* What all generations know about a server together. */
#ifndef UPSTREAM_SHARED_H
#define UPSTREAM_SHARED_H

/* Once all pools are made and zones are open, before requests run: every server gets its places
 * in the zone "servers".  One for which there is none keeps counts of its own, and the log says
 * so. */
void servers_share(void);
/* All else of the start has succeeded: what was known of a server under another address is forgotten
 * from now on.  Before, a generation that is refused would take it from the one that goes on. */
void servers_take_over(void);

#endif
