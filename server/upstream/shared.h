/* What all generations know about a server together. */
#ifndef UPSTREAM_SHARED_H
#define UPSTREAM_SHARED_H

/* Once all pools are made and zones are open, before requests run: every server gets its places
 * in the zone "servers".  One for which there is none keeps counts of its own, and the log says
 * so. */
void servers_share(void);

#endif
