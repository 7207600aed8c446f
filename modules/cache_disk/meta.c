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
    return SL_FRAMING | sl_field_bit(SL_F_AGE) | sl_field_bit(SL_F_PROXY_CONNECTION) |
           sl_field_bit(SL_F_PROXY_AUTHENTICATE) | sl_field_bit(SL_F_PROXY_AUTHORIZATION) |
           (ignore & IGNORE_SET_COOKIE ? sl_field_bit(SL_F_SET_COOKIE) : 0);
}

/* One field of a hop is not well known. */
static int
is_kept(const struct sl_field *x, uint64_t but)
{
    static const struct sl_span info = {"Proxy-Authentication-Info", 25};

    return (but >> x->id & 1) == 0 && (x->name.n != info.n || !sl_span_eqi(x->name, info));
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
        if (is_kept(x, but)) {
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
        if (is_kept(x, but)) {
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

/* ---- a 304 ---- */

/* Among the first n. */
static int
is_among(const struct sl_fields *fields, unsigned n, struct sl_span name)
{
    const struct sl_field *x = sl_fields_lines(fields).at, *end = x + n;

    for (; x < end; x++)
        if (sl_span_eqi(x->name, name))
            return 1;
    return 0;
}

/* A cookie in it is for who asked, and what it says of a coding or a part is not of the body that is
 * stored.  The old Date would make it old.  The ETag stays: the 304's may be strong where that of the
 * body, which the server compressed, is weak. */
void
meta_merge(apr_pool_t *pool, struct sl_fields *fields, const struct meta *old)
{
    static const enum sl_field_id not_taken[] = {SL_F_SET_COOKIE, SL_F_CONTENT_ENCODING,
                                                 SL_F_CONTENT_RANGE};
    struct sl_field x;
    unsigned at, n;
    size_t i;

    for (i = 0; i < sizeof not_taken / sizeof not_taken[0]; i++)
        sl_fields_unset_id(fields, not_taken[i]);
    if (meta_get(old, SL_F_ETAG).n > 0)
        sl_fields_unset_id(fields, SL_F_ETAG);
    n = sl_fields_lines(fields).n;
    for (at = 0; meta_field(old, at, &x); at++)
        if (!is_among(fields, n, x.name) && x.id != SL_F_DATE)
            sl_fields_add(fields, sl_span_dup(pool, x.name),
                          (struct sl_span){sl_span_dup(pool, x.value), x.value.n});
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
