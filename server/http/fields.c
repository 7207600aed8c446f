/* Header fields as an ordered list: see include/sluice/fields.h.  Linear: a message has a
 * dozen fields, and the bit mask answers most questions without a look at them. */
#include "http/fields.h"

#include <apr_strings.h>

#define FIELDS_SPARE 8

void
fields_take(struct sl_fields *f, apr_pool_t *pool, const struct sl_field *at, unsigned n,
            uint64_t ids)
{
    f->pool = pool;
    f->n = n;
    f->room = n + FIELDS_SPARE;
    f->ids = ids;
    f->at = apr_palloc(pool, f->room * sizeof *f->at);
    if (n > 0)
        memcpy(f->at, at, n * sizeof *at);
}

static void
fields_grow(struct sl_fields *f)
{
    unsigned room = f->room == 0 ? 2 * FIELDS_SPARE : 2 * f->room;
    struct sl_field *at = apr_palloc(f->pool, room * sizeof *at);

    if (f->n > 0)
        memcpy(at, f->at, f->n * sizeof *at);
    f->at = at;
    f->room = room;
}

static void __attribute__((noinline))
fields_push_growing(struct sl_fields *f, enum sl_field_id id, struct sl_span name,
                    struct sl_span value)
{
    fields_grow(f);
    fields_push(f, id, name, value);
}

void
fields_push(struct sl_fields *f, enum sl_field_id id, struct sl_span name, struct sl_span value)
{
    struct sl_field *x;

    if (f->n == f->room) {
        fields_push_growing(f, id, name, value);
        return;
    }
    if (value.at == NULL) /* there, and empty: not absent */
        value.at = "";
    x = &f->at[f->n++];
    x->name = name;
    x->value = value;
    x->id = (uint8_t)id;
    x->flags = 0;
    f->ids |= sl_field_bit(id);
}

void
fields_push_line(struct sl_fields *f, enum sl_field_id id, size_t n_name, struct sl_span line)
{
    size_t n_around = n_name + 2; /* ": " */

    fields_push(f, id, (struct sl_span){line.at, n_name},
                (struct sl_span){line.at + n_around, line.n - n_around - 2});
    f->at[f->n - 1].flags = FIELD_CANONICAL;
}

static int
field_is(const struct sl_field *x, enum sl_field_id id, struct sl_span name)
{
    if (x->flags & FIELD_DROPPED)
        return 0;
    return id != SL_F_OTHER ? x->id == id : x->id == SL_F_OTHER && sl_span_eqi(x->name, name);
}

/* Of a well-known name. */
static struct sl_field *
fields_find_id(const struct sl_fields *f, enum sl_field_id id)
{
    struct sl_field *x, *end;

    if (!fields_may_have(f, id))
        return NULL;
    for (x = f->at, end = x + f->n; x < end; x++)
        if (x->id == id && (x->flags & FIELD_DROPPED) == 0)
            return x;
    return NULL;
}

static struct sl_field *
fields_find(const struct sl_fields *f, enum sl_field_id id, struct sl_span name)
{
    unsigned i;

    if (!fields_may_have(f, id))
        return NULL;
    for (i = 0; i < f->n; i++)
        if (field_is(&f->at[i], id, name))
            return &f->at[i];
    return NULL;
}

struct sl_span
sl_fields_get(const struct sl_fields *f, const char *name)
{
    struct sl_span s = sl_span(name);
    const struct sl_field *x = fields_find(f, sl_field_id(s), s);

    return x != NULL ? x->value : (struct sl_span){NULL, 0};
}

struct sl_span
sl_fields_get_id(const struct sl_fields *f, enum sl_field_id id)
{
    const struct sl_field *x = fields_find_id(f, id);

    return x != NULL ? x->value : (struct sl_span){NULL, 0};
}

int
sl_fields_has_id(const struct sl_fields *f, enum sl_field_id id)
{
    return sl_fields_has_any(f, sl_field_bit(id));
}

int
sl_fields_has_any(const struct sl_fields *f, uint64_t ids)
{
    unsigned i;

    if ((f->ids & ids) == 0)
        return 0;
    for (i = 0; i < f->n; i++)
        if (ids >> f->at[i].id & 1 && (f->at[i].flags & FIELD_DROPPED) == 0)
            return 1;
    return 0;
}

const struct sl_field *
sl_fields_at(const struct sl_fields *f, unsigned i)
{
    return i < f->n ? &f->at[i] : NULL;
}

struct sl_field_lines
sl_fields_lines(const struct sl_fields *f)
{
    return (struct sl_field_lines){f->at, f->n};
}

const struct sl_field *
sl_fields_next(const struct sl_fields *f, unsigned *i)
{
    while (*i < f->n && (f->at[*i].flags & FIELD_DROPPED))
        ++*i;
    return *i < f->n ? &f->at[(*i)++] : NULL;
}

static struct sl_span
fields_join(struct sl_fields *f, const struct sl_field *first, enum sl_field_id id,
            struct sl_span s)
{
    struct sl_span *parts;
    unsigned i, n = 1;

    if (first == NULL)
        return (struct sl_span){NULL, 0};
    for (i = (unsigned)(first - f->at) + 1; i < f->n; i++)
        n += (unsigned)field_is(&f->at[i], id, s);
    if (n < 2)
        return first->value;
    parts = apr_palloc(f->pool, 2 * n * sizeof *parts);
    for (i = n = 0; i < f->n; i++)
        if (field_is(&f->at[i], id, s)) {
            parts[n++] = f->at[i].value;
            parts[n++] = SL_SPAN(", ");
        }
    return sl_spans_join(f->pool, parts, n - 1);
}

struct sl_span
sl_fields_joined(struct sl_fields *f, const char *name)
{
    struct sl_span s = sl_span(name);
    enum sl_field_id id = sl_field_id(s);

    return fields_join(f, fields_find(f, id, s), id, s);
}

struct sl_span
sl_fields_joined_id(struct sl_fields *f, enum sl_field_id id)
{
    struct sl_span none = {NULL, 0};

    return fields_may_have(f, id) ? fields_join(f, fields_find_id(f, id), id, none) : none;
}

/* Fields are taken out by moving the rest up: indexes of a walk stay those of lines. */
static void
fields_remove(struct sl_fields *f, enum sl_field_id id, struct sl_span name, unsigned from)
{
    unsigned i, n = from;

    for (i = from; i < f->n; i++)
        if (!field_is(&f->at[i], id, name))
            f->at[n++] = f->at[i];
    f->n = n;
}

int
sl_fields_add(struct sl_fields *f, const char *name, struct sl_span value)
{
    struct sl_span s = sl_span(name);
    enum sl_field_id id = sl_field_id(s);

    if (!is_token(s) || !is_field_value(value) || sl_field_is_framing(id))
        return -1;
    fields_push(f, id, s, value);
    return 0;
}

struct sl_fields *
sl_fields_make(apr_pool_t *pool)
{
    struct sl_fields *f = apr_palloc(pool, sizeof *f);

    *f = (struct sl_fields){.pool = pool};
    return f;
}

#define NOT_RECEIVED                                                                         \
    ((uint64_t)1 << SL_F_CONNECTION | (uint64_t)1 << SL_F_TRANSFER_ENCODING |                \
     (uint64_t)1 << SL_F_KEEP_ALIVE | (uint64_t)1 << SL_F_UPGRADE |                          \
     (uint64_t)1 << SL_F_PROXY_CONNECTION)

int
sl_fields_receive(struct sl_fields *f, struct sl_span name, struct sl_span value)
{
    unsigned id = field_id_received(name);
    int is_folded = id == FIELD_ID_FOLDED;

    if (!is_token(name) || !is_field_value(value) || (NOT_RECEIVED >> id & 1))
        return -1;
    fields_push(f, is_folded ? SL_F_OTHER : (enum sl_field_id)id, name, value);
    if (is_folded) {
        f->at[f->n - 1].flags |= FIELD_FOLDED;
        f->ids |= (uint64_t)1 << FIELD_ID_FOLDED;
    }
    return 0;
}

int
sl_fields_restore(struct sl_fields *f, const struct sl_field *x)
{
    enum sl_field_id id = x->id != SL_F_OTHER ? (enum sl_field_id)x->id : sl_field_id(x->name);

    if (id >= SL_F_COUNT || sl_field_is_framing(id))
        return -1;
    fields_push(f, id, x->name, x->value);
    f->at[f->n - 1].flags = FIELD_CANONICAL;
    return 0;
}

int
sl_fields_put(struct sl_fields *f, unsigned i, struct sl_span value)
{
    if (i >= f->n || !is_field_value(value) || sl_field_is_framing(f->at[i].id))
        return -1;
    f->at[i].value = value.at != NULL ? value : SL_SPAN("");
    f->at[i].flags = 0;
    return 0;
}

int
sl_fields_set(struct sl_fields *f, const char *name, struct sl_span value)
{
    struct sl_span s = sl_span(name);
    enum sl_field_id id = sl_field_id(s);
    struct sl_field *x = fields_find(f, id, s);
    unsigned i;

    if (x == NULL)
        return sl_fields_add(f, name, value);
    i = (unsigned)(x - f->at);
    if (sl_fields_put(f, i, value) != 0)
        return -1;
    fields_remove(f, id, s, i + 1);
    return 0;
}

void
sl_fields_unset(struct sl_fields *f, const char *name)
{
    struct sl_span s = sl_span(name);
    enum sl_field_id id = sl_field_id(s);

    if (!fields_may_have(f, id) || sl_field_is_framing(id))
        return;
    fields_remove(f, id, s, 0);
    if (id != SL_F_OTHER)
        f->ids &= ~sl_field_bit(id);
}

void
sl_fields_unset_id(struct sl_fields *f, enum sl_field_id id)
{
    if (id != SL_F_OTHER && !sl_field_is_framing(id))
        fields_unset_id(f, id);
}

void
fields_unset_if(struct sl_fields *f, int (*is_out)(const struct sl_field *x))
{
    unsigned i, n = 0;

    for (i = 0; i < f->n; i++)
        if (!is_out(&f->at[i])) {
            if (n < i)
                f->at[n] = f->at[i];
            n++;
        }
    f->n = n;
}

void
fields_unset_id(struct sl_fields *f, enum sl_field_id id)
{
    if (fields_may_have(f, id))
        fields_remove(f, id, (struct sl_span){NULL, 0}, 0);
    f->ids &= ~sl_field_bit(id);
}

int
list_has(struct sl_span list, struct sl_span member)
{
    struct sl_span one;

    while (sl_list_next(&list, &one))
        if (sl_span_eqi(one, member))
            return 1;
    return 0;
}

int
sl_fields_lists(const struct sl_fields *f, enum sl_field_id id, const char *member)
{
    unsigned i;

    if (!fields_may_have(f, id))
        return 0;
    for (i = 0; i < f->n; i++)
        if (field_is(&f->at[i], id, (struct sl_span){NULL, 0}) &&
            list_has(f->at[i].value, sl_span(member)))
            return 1;
    return 0;
}
