/* The core's side of header fields: the list itself, for those who read and write heads. */
#ifndef HTTP_FIELDS_H
#define HTTP_FIELDS_H

#include "http/head.h"

#define FIELDS_MAX 256 /* LimitFields is at most 250 */

/* `ids` has a bit for every well-known name that stands in the list, that of SL_F_OTHER for all
 * others, and may have bits of names that were taken out since. */
struct sl_fields {
    struct sl_field *at;
    unsigned n, room;
    uint64_t ids;
    apr_pool_t *pool; /* where it grows */
};

static inline int
fields_may_have(const struct sl_fields *f, enum sl_field_id id)
{
    return (f->ids & sl_field_bit(id)) != 0;
}

/* Takes parsed fields over: copied into the pool with room for some more. */
void fields_take(struct sl_fields *f, apr_pool_t *pool, const struct sl_field *at, unsigned n,
                 uint64_t ids);
/* Adds without a check: name and value are ours. */
void fields_push(struct sl_fields *f, enum sl_field_id id, struct sl_span name,
                 struct sl_span value);
/* The same of a whole line, "Name: value\r\n", which leaves as it is. */
void fields_push_line(struct sl_fields *f, enum sl_field_id id, size_t n_name, struct sl_span line);
void fields_unset_if(struct sl_fields *f, int (*is_out)(const struct sl_field *x));
void fields_unset_id(struct sl_fields *f, enum sl_field_id id);
/* Whether a list value has this member (RFC 9110, 5.6.1), parameters not compared. */
int list_has(struct sl_span list, struct sl_span member);
/* The value of the first part name=value of a list between `sep`, as it stands, blanks before a name
 * skipped (a query's &, RFC 6265's ;).  at NULL: there is none. */
struct sl_span pair_find(struct sl_span list, char sep, struct sl_span name);

#endif
