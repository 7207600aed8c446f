/* See meta.h.  The bytes stay on their machine: numbers are as the processor has them, and a
 * version in front keeps strangers out. */
#include "meta.h"

#include <apr_strings.h>

#include <string.h>

#define META_VERSION 0x53430006u

/* Behind it the fields, and then their lines as HTTP/1 has them, one behind the other. */
struct meta_front {
    uint32_t version;
    uint16_t status, n_fields;
    uint32_t is_strict, is_always_asked;
    int64_t lifetime, born, while_revalidate, if_error, date, whole, slice;
    uint64_t era, slices, body;
};

struct meta_field {
    uint32_t at, n_name, n_value, id; /* at: of its line among the lines */
};

/* ---- writing ---- */

/* Age is of the moment, the length is the body's, the rest of one hop (RFC 9111, 3.1). */
static uint64_t
not_kept(unsigned ignore)
{
    return SL_FRAMING | sl_field_bit(SL_F_AGE) |
           (ignore & IGNORE_SET_COOKIE ? sl_field_bit(SL_F_SET_COOKIE) : 0);
}

static size_t
line_size(size_t n_name, size_t n_value)
{
    return n_name + n_value + 4;
}

static struct meta_front
front_of(const struct meta *m, unsigned n_fields)
{
    return (struct meta_front){
        .version = META_VERSION,
        .status = (uint16_t)m->status,
        .n_fields = (uint16_t)n_fields,
        .is_strict = (uint32_t)m->storing.is_strict,
        .is_always_asked = (uint32_t)m->storing.is_always_asked,
        .lifetime = m->storing.lifetime,
        .born = m->storing.born,
        .while_revalidate = m->storing.while_revalidate,
        .if_error = m->storing.if_error,
        .date = m->storing.date,
        .whole = m->whole,
        .slice = m->slice,
        .era = m->era,
        .slices = m->slices,
        .body = m->body,
    };
}

static char *
line_put(char *to, struct sl_span name, struct sl_span value)
{
    memcpy(to, name.at, name.n);
    memcpy(to + name.n, ": ", 2);
    if (value.n > 0)
        memcpy(to + name.n + 2, value.at, value.n);
    memcpy(to + name.n + 2 + value.n, "\r\n", 2);
    return to + line_size(name.n, value.n);
}

static void
fields_write(const struct sl_fields *fields, uint64_t but, char *entry, char *lines)
{
    const struct sl_field *x;
    char *to = lines;
    unsigned i;

    for (i = 0; (x = sl_fields_at(fields, i)) != NULL; i++)
        if ((but >> x->id & 1) == 0) {
            struct meta_field f = {(uint32_t)(to - lines), (uint32_t)x->name.n,
                                   (uint32_t)x->value.n, x->id};

            memcpy(entry, &f, sizeof f);
            entry += sizeof f;
            to = line_put(to, x->name, x->value);
        }
}

struct sl_span
meta_write(apr_pool_t *pool, const struct meta *m, const struct sl_fields *fields, unsigned ignore)
{
    uint64_t but = not_kept(ignore);
    struct meta_front front;
    const struct sl_field *x;
    size_t n_lines = 0, n_entries;
    unsigned i, n = 0;
    char *at;

    for (i = 0; (x = sl_fields_at(fields, i)) != NULL; i++)
        if ((but >> x->id & 1) == 0) {
            n_lines += line_size(x->name.n, x->value.n);
            n++;
        }
    front = front_of(m, n);
    n_entries = n * sizeof(struct meta_field);
    at = apr_palloc(pool, sizeof front + n_entries + n_lines);
    memcpy(at, &front, sizeof front);
    fields_write(fields, but, at + sizeof front, at + sizeof front + n_entries);
    return (struct sl_span){at, sizeof front + n_entries + n_lines};
}

/* ---- reading ---- */

static struct meta_field
entry_at(const struct meta *m, unsigned i)
{
    struct meta_field f;

    memcpy(&f, m->entries + i * sizeof f, sizeof f);
    return f;
}

/* Each line begins where the one before it ends, and the last ends with the lines: 0, or -1. */
static int
fields_check(struct meta *m)
{
    size_t at = 0;
    unsigned i;

    for (i = 0; i < m->n_fields; i++) {
        struct meta_field f = entry_at(m, i);

        if (f.at != at || f.id >= SL_F_COUNT)
            return -1;
        at += line_size(f.n_name, f.n_value);
        if (at > m->lines.n)
            return -1;
        m->ids |= sl_field_bit((enum sl_field_id)f.id);
    }
    return at == m->lines.n ? 0 : -1;
}

int
meta_field(const struct meta *m, unsigned i, struct sl_field *x)
{
    struct meta_field f;

    if (i >= m->n_fields)
        return 0;
    f = entry_at(m, i);
    x->name = (struct sl_span){m->lines.at + f.at, f.n_name};
    x->value = (struct sl_span){x->name.at + f.n_name + 2, f.n_value};
    x->id = (uint8_t)f.id;
    return 1;
}

int
meta_read(struct sl_span bytes, struct meta *m)
{
    struct meta_front front;
    size_t n_entries;

    if (bytes.n < sizeof front)
        return -1;
    memcpy(&front, bytes.at, sizeof front);
    n_entries = front.n_fields * sizeof(struct meta_field);
    if (front.version != META_VERSION || front.status < 200 || front.status > 599 ||
        front.whole < 0 || front.slice < 0 || (front.whole > 0 && front.slice == 0) ||
        bytes.n < sizeof front + n_entries)
        return -1;
    *m = (struct meta){
        .status = front.status,
        .storing = {.lifetime = front.lifetime,
                    .born = front.born,
                    .date = front.date,
                    .while_revalidate = front.while_revalidate,
                    .if_error = front.if_error,
                    .is_strict = front.is_strict != 0,
                    .is_always_asked = front.is_always_asked != 0},
        .era = front.era,
        .whole = front.whole,
        .slice = front.slice,
        .slices = front.slices,
        .body = front.body,
        .entries = bytes.at + sizeof front,
        .lines = {bytes.at + sizeof front + n_entries, bytes.n - sizeof front - n_entries},
        .n_fields = front.n_fields,
    };
    return fields_check(m);
}

struct sl_span
meta_get(const struct meta *m, enum sl_field_id id)
{
    struct sl_field x;
    unsigned i;

    for (i = 0; m->ids & sl_field_bit(id) && meta_field(m, i, &x); i++)
        if (x.id == id)
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
