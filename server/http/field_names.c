/* Well-known field names: from bytes to a small number in a few nanoseconds.
 *
 * A name's length, first and last letter pick one slot of a table without collisions; one
 * comparison then tells whether it is that name.  A name added to SL_FIELD_NAMES needs a
 * SLOT row here: test_head.c misses a forgotten one, and the compiler warns where two
 * rows fall on one slot. */
#include "http/fields.h"

#define NAME_MAX_LENGTH 24 /* room for the longest, and for reading it by eights */

static const char names[SL_F_COUNT][NAME_MAX_LENGTH] = {
#define NAME(id, name) [SL_F_##id] = name,
    SL_FIELD_NAMES(NAME)
#undef NAME
};

enum {
#define LENGTH(id, name) N_##id = sizeof(name) - 1,
    SL_FIELD_NAMES(LENGTH)
#undef LENGTH
};

static const uint8_t lengths[SL_F_COUNT] = {
#define LENGTH(id, name) [SL_F_##id] = N_##id,
    SL_FIELD_NAMES(LENGTH)
#undef LENGTH
};

/* The factors were found by trying all. */
#define HASH(n, first, last) (((n) * 5u + (first) * 4u + (last) * 12u) & 255u)
#define SLOT(id, first, last) [HASH(N_##id, (unsigned)(first), (unsigned)(last))] = SL_F_##id

static const uint8_t slots[256] = {
    SLOT(HOST, 'h', 't'),
    SLOT(CONNECTION, 'c', 'n'),
    SLOT(CONTENT_LENGTH, 'c', 'h'),
    SLOT(TRANSFER_ENCODING, 't', 'g'),
    SLOT(TE, 't', 'e'),
    SLOT(TRAILER, 't', 'r'),
    SLOT(UPGRADE, 'u', 'e'),
    SLOT(EXPECT, 'e', 't'),
    SLOT(KEEP_ALIVE, 'k', 'e'),
    SLOT(PROXY_CONNECTION, 'p', 'n'),
    SLOT(VIA, 'v', 'a'),
    SLOT(X_FORWARDED_FOR, 'x', 'r'),
    SLOT(X_FORWARDED_PROTO, 'x', 'o'),
    SLOT(X_FORWARDED_HOST, 'x', 't'),
    SLOT(X_REAL_IP, 'x', 'p'),
    SLOT(FORWARDED, 'f', 'd'),
    SLOT(DATE, 'd', 'e'),
    SLOT(SERVER, 's', 'r'),
    SLOT(LOCATION, 'l', 'n'),
    SLOT(CONTENT_TYPE, 'c', 'e'),
    SLOT(CONTENT_ENCODING, 'c', 'g'),
    SLOT(CONTENT_RANGE, 'c', 'e'),
    SLOT(CONTENT_LOCATION, 'c', 'n'),
    SLOT(ACCEPT, 'a', 't'),
    SLOT(ACCEPT_ENCODING, 'a', 'g'),
    SLOT(ACCEPT_RANGES, 'a', 's'),
    SLOT(AGE, 'a', 'e'),
    SLOT(ALLOW, 'a', 'w'),
    SLOT(AUTHORIZATION, 'a', 'n'),
    SLOT(CACHE_CONTROL, 'c', 'l'),
    SLOT(COOKIE, 'c', 'e'),
    SLOT(SET_COOKIE, 's', 'e'),
    SLOT(ETAG, 'e', 'g'),
    SLOT(EXPIRES, 'e', 's'),
    SLOT(IF_MATCH, 'i', 'h'),
    SLOT(IF_MODIFIED_SINCE, 'i', 'e'),
    SLOT(IF_NONE_MATCH, 'i', 'h'),
    SLOT(IF_RANGE, 'i', 'e'),
    SLOT(IF_UNMODIFIED_SINCE, 'i', 'e'),
    SLOT(LAST_MODIFIED, 'l', 'd'),
    SLOT(MAX_FORWARDS, 'm', 's'),
    SLOT(ORIGIN, 'o', 'n'),
    SLOT(PRAGMA, 'p', 'a'),
    SLOT(PROXY_AUTHENTICATE, 'p', 'e'),
    SLOT(PROXY_AUTHORIZATION, 'p', 'n'),
    SLOT(RANGE, 'r', 'e'),
    SLOT(REFERER, 'r', 'r'),
    SLOT(RETRY_AFTER, 'r', 'r'),
    SLOT(USER_AGENT, 'u', 't'),
    SLOT(VARY, 'v', 'y'),
    SLOT(WWW_AUTHENTICATE, 'w', 'e'),
    SLOT(X_ACCEL_BUFFERING, 'x', 'g'),
    SLOT(HTTP2_SETTINGS, 'h', 's'),
    SLOT(CACHE_STATUS, 'c', 's'),
    SLOT(CDN_CACHE_CONTROL, 'c', 'l'),
};

enum letters { AS_WRITTEN, ANY_CASE };

/* The bits in which eight bytes differ.  In any case: only where `known` has a letter does 0x20 not
 * count, so that no other byte passes for '-'. */
static inline uint64_t
differ8(const char *known, const char *at, enum letters in)
{
    uint64_t a, b;

    memcpy(&a, known, 8);
    memcpy(&b, at, 8);
    return (a ^ b) & (in == ANY_CASE ? ~((a & 0x4040404040404040u) >> 1) : ~(uint64_t)0);
}

static inline uint32_t
differ4(const char *known, const char *at, enum letters in)
{
    uint32_t a, b;

    memcpy(&a, known, 4);
    memcpy(&b, at, 4);
    return (a ^ b) & (in == ANY_CASE ? ~((a & 0x40404040u) >> 1) : ~0u);
}

static inline unsigned
differ1(const char *known, const char *at, enum letters in)
{
    unsigned a = (unsigned char)*known, b = (unsigned char)*at;

    return (a ^ b) & (in == ANY_CASE ? ~((a & 0x40u) >> 1) : ~0u);
}

/* The last eight bytes, or four, may overlap those before; names are shorter than 24. */
static inline int
is_name_in(const char *known, struct sl_span s, enum letters in)
{
    uint64_t differs = 0;
    size_t i;

    if (s.n >= 8) {
        differs = differ8(known, s.at, in) | differ8(known + s.n - 8, s.at + s.n - 8, in);
        if (s.n > 16)
            differs |= differ8(known + 8, s.at + 8, in);
        return differs == 0;
    }
    if (s.n >= 4)
        return (differ4(known, s.at, in) | differ4(known + s.n - 4, s.at + s.n - 4, in)) == 0;
    for (i = 0; i < s.n; i++)
        differs |= differ1(known + i, s.at + i, in);
    return differs == 0;
}

/* The only well-known name of this length, first and last letter, if there is one. */
static inline uint8_t
candidate(struct sl_span name)
{
    unsigned first, last;
    uint8_t id;

    if (name.n == 0 || name.n >= NAME_MAX_LENGTH)
        return SL_F_OTHER;
    first = (unsigned char)name.at[0] | 0x20u;
    last = (unsigned char)name.at[name.n - 1] | 0x20u;
    id = slots[HASH((unsigned)name.n, first, last)];
    return lengths[id] == name.n ? id : SL_F_OTHER;
}

enum sl_field_id
sl_field_id(struct sl_span name)
{
    uint8_t id = candidate(name);

    return id != SL_F_OTHER && is_name_in(names[id], name, ANY_CASE) ? id : SL_F_OTHER;
}

_Static_assert(SL_F_COUNT <= FIELD_ID_FOLDED, "a bit of its own");

static int
is_folded(const char *known, struct sl_span s)
{
    unsigned differs = 0;
    size_t i;

    for (i = 0; i < s.n; i++)
        differs |= differ1(known + i, s.at[i] == '_' ? "-" : s.at + i, ANY_CASE);
    return differs == 0;
}

#define FOLDING_IDS                                                                          \
    ((uint64_t)1 << SL_F_CONTENT_LENGTH | (uint64_t)1 << SL_F_TRANSFER_ENCODING |            \
     (uint64_t)1 << SL_F_X_FORWARDED_FOR | (uint64_t)1 << SL_F_X_FORWARDED_PROTO |           \
     (uint64_t)1 << SL_F_X_FORWARDED_HOST | (uint64_t)1 << SL_F_X_REAL_IP)

static unsigned __attribute__((noinline))
id_in_any_case(uint8_t id, struct sl_span name)
{
    if (is_name_in(names[id], name, ANY_CASE))
        return id;
    if ((FOLDING_IDS >> id & 1) && is_folded(names[id], name))
        return FIELD_ID_FOLDED;
    return SL_F_OTHER;
}

static inline unsigned
id_received(struct sl_span name)
{
    uint8_t id = candidate(name);

    if (id == SL_F_OTHER || is_name_in(names[id], name, AS_WRITTEN)) /* most write it so */
        return id;
    return id_in_any_case(id, name);
}

unsigned
field_id_received(struct sl_span name)
{
    return id_received(name);
}

uint64_t
fields_identify(struct sl_field *fields, unsigned n, uint64_t *doubled)
{
    uint64_t ids = 0, twice = 0, bit;
    unsigned i, id;

    for (i = 0; i < n; i++) {
        id = id_received(fields[i].name);
        if (id == FIELD_ID_FOLDED) {
            fields[i].flags |= FIELD_FOLDED;
            ids |= sl_field_bit(FIELD_ID_FOLDED);
            id = SL_F_OTHER;
        }
        fields[i].id = (uint8_t)id;
        bit = sl_field_bit((enum sl_field_id)id);
        twice |= ids & bit;
        ids |= bit;
    }
    *doubled = twice;
    return ids;
}
