/* See meta.h.  The bytes stay on their machine: numbers are as the processor has them, and a
 * version in front keeps strangers out. */
#include "meta.h"

#include <apr_strings.h>

#include <string.h>

#define META_VERSION 0x53430005u

struct meta_front {
    uint32_t version;
    uint16_t status, n_fields;
    uint32_t is_strict, is_always_asked;
    int64_t lifetime, born, while_revalidate, if_error, date, whole, slice;
    uint64_t era, slices, body;
};

struct meta_field {
    uint32_t n_name, n_value, id;
};

/* ---- writing ---- */

struct pen {
    char *at;
    size_t n;
    unsigned n_fields;
};

static void
pen_put(struct pen *p, const void *bytes, size_t n)
{
    if (n > 0)
        memcpy(p->at + p->n, bytes, n);
    p->n += n;
}

static void
pen_field(struct pen *p, const struct sl_field *x)
{
    struct meta_field f = {(uint32_t)x->name.n, (uint32_t)x->value.n, x->id};

    pen_put(p, &f, sizeof f);
    pen_put(p, x->name.at, x->name.n);
    pen_put(p, x->value.at, x->value.n);
    p->n_fields++;
}

/* Age is of the moment, the length is the body's, the rest of one hop (RFC 9111, 3.1). */
static int
is_kept(const struct sl_field *x, unsigned ignore)
{
    if (x->id == SL_F_AGE || sl_field_is_framing((enum sl_field_id)x->id))
        return 0;
    return x->id != SL_F_SET_COOKIE || (ignore & IGNORE_SET_COOKIE) == 0;
}

static void
front_write(char *to, const struct meta *m, unsigned n_fields)
{
    struct meta_front front = {
        .version = META_VERSION,
        .status = (uint16_t)m->status,
        .n_fields = (uint16_t)n_fields,
        .is_strict = (uint32_t)m->storing.is_strict,
        .is_always_asked = (uint32_t)m->storing.is_always_asked,
        .lifetime = m->storing.lifetime,
        .born = m->storing.born,
        .while_revalidate = m->storing.while_revalidate,
        .if_error = m->storing.if_error,
        .date = m->date,
        .whole = m->whole,
        .slice = m->slice,
        .era = m->era,
        .slices = m->slices,
        .body = m->body,
    };

    memcpy(to, &front, sizeof front);
}

static void
pen_fields(struct pen *p, const struct sl_fields *fields, unsigned ignore)
{
    const struct sl_field *x;
    unsigned i;

    for (i = 0; (x = sl_fields_at(fields, i)) != NULL; i++)
        if (is_kept(x, ignore))
            pen_field(p, x);
}

/* Room for all of it, kept or not. */
static size_t
meta_room(const struct sl_fields *fields)
{
    size_t n = sizeof(struct meta_front);
    const struct sl_field *x;
    unsigned i;

    for (i = 0; (x = sl_fields_at(fields, i)) != NULL; i++)
        n += sizeof(struct meta_field) + x->name.n + x->value.n;
    return n;
}

struct sl_span
meta_write(apr_pool_t *pool, const struct meta *m, const struct sl_fields *fields, unsigned ignore)
{
    struct pen p = {apr_palloc(pool, meta_room(fields)), sizeof(struct meta_front), 0};

    pen_fields(&p, fields, ignore);
    front_write(p.at, m, p.n_fields);
    return (struct sl_span){p.at, p.n};
}

/* ---- reading ---- */

int
meta_next(struct sl_span *rest, struct sl_field *x)
{
    struct meta_field f;

    if (rest->n < sizeof f)
        return 0;
    memcpy(&f, rest->at, sizeof f);
    if (f.n_name > rest->n - sizeof f || f.n_value > rest->n - sizeof f - f.n_name)
        return 0;
    x->name = (struct sl_span){rest->at + sizeof f, f.n_name};
    x->value = (struct sl_span){x->name.at + f.n_name, f.n_value};
    x->id = (uint8_t)(f.id < SL_F_COUNT ? f.id : SL_F_OTHER);
    rest->n -= sizeof f + f.n_name + f.n_value;
    rest->at = x->value.at + x->value.n;
    return 1;
}

int
meta_read(struct sl_span bytes, struct meta *m)
{
    struct meta_front front;
    struct sl_span rest;
    struct sl_field x;
    unsigned n = 0;

    if (bytes.n < sizeof front)
        return -1;
    memcpy(&front, bytes.at, sizeof front);
    if (front.version != META_VERSION || front.status < 200 || front.status > 599 ||
        front.whole < 0 || front.slice < 0 || (front.whole > 0 && front.slice == 0))
        return -1;
    *m = (struct meta){
        .status = front.status,
        .storing = {.lifetime = front.lifetime,
                    .born = front.born,
                    .while_revalidate = front.while_revalidate,
                    .if_error = front.if_error,
                    .is_strict = front.is_strict != 0,
                    .is_always_asked = front.is_always_asked != 0},
        .date = front.date,
        .era = front.era,
        .whole = front.whole,
        .slice = front.slice,
        .slices = front.slices,
        .body = front.body,
        .fields = {bytes.at + sizeof front, bytes.n - sizeof front},
        .n_fields = front.n_fields,
    };
    for (rest = m->fields; meta_next(&rest, &x); n++)
        ;
    return rest.n == 0 && n == m->n_fields ? 0 : -1;
}

struct sl_span
meta_get(const struct meta *m, const char *name)
{
    struct sl_span rest = m->fields, wanted = sl_span(name);
    struct sl_field x;

    while (meta_next(&rest, &x))
        if (x.name.n == wanted.n && sl_span_eqi(x.name, wanted))
            return x.value;
    return (struct sl_span){NULL, 0};
}

/* ---- markers ---- */

struct sl_span
marker_write(apr_pool_t *pool, const struct marker *m)
{
    char *at = apr_palloc(pool, sizeof m->era + m->vary.n);

    memcpy(at, &m->era, sizeof m->era);
    memcpy(at + sizeof m->era, m->vary.at, m->vary.n);
    return (struct sl_span){at, sizeof m->era + m->vary.n};
}

int
marker_read(struct sl_span bytes, struct marker *m)
{
    if (bytes.n <= sizeof m->era)
        return -1;
    memcpy(&m->era, bytes.at, sizeof m->era);
    m->vary = (struct sl_span){bytes.at + sizeof m->era, bytes.n - sizeof m->era};
    return 0;
}

/* ---- encoded forms ---- */

struct form_front {
    uint32_t version;
    int32_t level;
    uint64_t body;
};

struct sl_span
form_write(apr_pool_t *pool, const struct form *f)
{
    struct form_front front = {META_VERSION, f->level, f->body};

    return (struct sl_span){apr_pmemdup(pool, &front, sizeof front), sizeof front};
}

int
form_read(struct sl_span bytes, struct form *f)
{
    struct form_front front;

    if (bytes.n != sizeof front)
        return -1;
    memcpy(&front, bytes.at, sizeof front);
    *f = (struct form){front.body, front.level};
    return front.version == META_VERSION ? 0 : -1;
}
