/* See meta.h.  The bytes stay on their machine: numbers are as the processor has them, and a
 * version in front keeps strangers out. */
#include "meta.h"

#include <apr_strings.h>

#include <string.h>

#define META_VERSION 0x53430007u

/* Of a meta, what is stored.  Behind it the fields, and then their lines as HTTP/1 has them, one
 * behind the other. */
#define FRONT_BYTES offsetof(struct meta, entries)

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
fields_write(struct sl_field_lines fields, uint64_t but, char *entry, char *lines)
{
    const struct sl_field *x, *end = fields.at + fields.n;
    char *to = lines;

    for (x = fields.at; x < end; x++)
        if ((but >> x->id & 1) == 0) {
            struct meta_field f = {(uint32_t)(to - lines), (uint32_t)x->name.n,
                                   (uint32_t)x->value.n, x->id};

            memcpy(entry, &f, sizeof f);
            entry += sizeof f;
            to = line_put(to, x->name, x->value);
        }
}

struct sl_span
meta_write(apr_pool_t *pool, struct meta *m, const struct sl_fields *of, unsigned ignore)
{
    struct sl_field_lines fields = sl_fields_lines(of);
    const struct sl_field *x, *end = fields.at + fields.n;
    uint64_t but = not_kept(ignore);
    size_t n_lines = 0, n_entries;
    char *at;

    m->version = META_VERSION;
    m->n_fields = 0;
    for (x = fields.at; x < end; x++)
        if ((but >> x->id & 1) == 0) {
            n_lines += line_size(x->name.n, x->value.n);
            m->n_fields++;
        }
    n_entries = m->n_fields * sizeof(struct meta_field);
    at = apr_palloc(pool, FRONT_BYTES + n_entries + n_lines);
    memcpy(at, m, FRONT_BYTES);
    fields_write(fields, but, at + FRONT_BYTES, at + FRONT_BYTES + n_entries);
    return (struct sl_span){at, FRONT_BYTES + n_entries + n_lines};
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
    size_t n_entries;

    if (bytes.n < FRONT_BYTES)
        return -1;
    memcpy(m, bytes.at, FRONT_BYTES);
    n_entries = m->n_fields * sizeof(struct meta_field);
    if (m->version != META_VERSION || m->status < 200 || m->status > 599 || m->whole < 0 ||
        m->slice < 0 || (m->whole > 0 && m->slice == 0) || bytes.n < FRONT_BYTES + n_entries)
        return -1;
    m->entries = bytes.at + FRONT_BYTES;
    m->lines = (struct sl_span){m->entries + n_entries, bytes.n - FRONT_BYTES - n_entries};
    m->ids = 0;
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
