/* From root to somebody who may do less. */
#ifndef PRIVILEGES_H
#define PRIVILEGES_H

/* Becomes user and group (NULL: www-data or nobody, and the user's own group) when root; for
 * others nothing changes.  0, or -1 with a message in the log. */
int privileges_drop(const char *user, const char *group);
/* Descriptors: as many as the system allows. */
void descriptors_raise(void);

#endif
