/* What is stored of a response beside its body: status, what policy has found, fields.  Pure. */
#ifndef CACHE_META_H
#define CACHE_META_H

#include "policy.h"

#include "sluice/fields.h"

struct meta {
    /* as it is stored: */
    uint32_t version;      /* meta_write() sets it, and how many fields there are */
    uint16_t status, n_fields;
    struct storing storing;
    uint64_t era;          /* of a variant: its marker's; 0: it is none */
    int64_t whole, slice;  /* of one in slices: its bytes, and those of a slice; 0: it is not */
    uint64_t slices;       /* drawn for them: another version has others */
    uint64_t body;         /* names its bytes: stays when the server agrees to them */
    /* of what meta_read() has read; fields are read by meta_field() */
    const char *entries;
    struct sl_span lines;
    uint64_t ids; /* of those that are well known, a bit each */
};

/* Fields that belong to the hop, the moment or the length are left out. */
struct sl_span meta_write(apr_pool_t *pool, struct meta *m, const struct sl_fields *fields,
                          unsigned ignore);
/* The bytes of one stored, which may be anything: 0, or -1. */
int meta_read(struct sl_span bytes, struct meta *m);
/* Sets name, value and id of field i, which stands in a line as sl_fields_restore() wants it; 0
 * behind the last. */
int meta_field(const struct meta *m, unsigned i, struct sl_field *x);
struct sl_span meta_get(const struct meta *m, enum sl_field_id id); /* at NULL: absent */

/* Makes the fields of a 304 those of the response it stands for (RFC 9111, 3.2). */
void meta_merge(apr_pool_t *pool, struct sl_fields *fields, const struct meta *old);

/* ---- markers: that a URL has variants, and what they differ by ---- */

/* A marker's variants have its era: what was stored under one that was forgotten is not found by
 * way of the next. */
struct marker {
    uint64_t era;
    struct sl_span vary;
};
struct sl_span marker_write(apr_pool_t *pool, const struct marker *m);
int marker_read(struct sl_span bytes, struct marker *m); /* 0, or -1 */

/* ---- encoded forms: the body of an object in a coding ---- */

/* The rest is said by the object whose meta has the same body. */
struct form {
    uint64_t body;
    int level;
};
struct sl_span form_write(apr_pool_t *pool, const struct form *f);
int form_read(struct sl_span bytes, struct form *f); /* 0, or -1 */

#endif
