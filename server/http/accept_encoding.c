/* Accept-Encoding read: a pure function of its value and a coding's name. */
#include "sluice/encoder.h"

#include "runtime/span.h"

#define QUALITY_NONE 0u
#define QUALITY_MOST 1000u
#define QUALITY_LITTLE 1u /* of identity, unless the field says otherwise */

/* RFC 9110, 12.4.2: "0" or "1", with up to three digits behind a point.  -1: it is neither. */
static int
quality_parse(struct sl_span s)
{
    int q, unit = 100;
    size_t i;

    if (s.n == 0 || s.n > 5 || (s.at[0] != '0' && s.at[0] != '1') || (s.n > 1 && s.at[1] != '.'))
        return -1;
    q = s.at[0] == '1' ? 1000 : 0;
    for (i = 2; i < s.n; i++, unit /= 10) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return -1;
        q += (s.at[i] - '0') * unit;
    }
    return q <= 1000 ? q : -1;
}

/* The weight behind a member's name; what is not a weight refuses the coding. */
static unsigned
member_quality(struct sl_span rest)
{
    struct sl_span s = span_trim(rest);
    int q;

    if (s.n < 2 || (s.at[0] | 0x20) != 'q' || s.at[1] != '=')
        return QUALITY_NONE;
    q = quality_parse((struct sl_span){s.at + 2, s.n - 2});
    return q < 0 ? QUALITY_NONE : (unsigned)q;
}

/* The name of a member and what the client thinks of it. */
static struct sl_span
member_split(struct sl_span member, unsigned *quality)
{
    const char *semicolon = member.n > 0 ? memchr(member.at, ';', member.n) : NULL;
    size_t n = semicolon != NULL ? (size_t)(semicolon - member.at) : member.n;

    *quality = semicolon == NULL ? QUALITY_MOST
                                 : member_quality((struct sl_span){semicolon + 1, member.n - n - 1});
    return span_trim((struct sl_span){member.at, n});
}

/* RFC 9110, 8.4.1.3: x-gzip is gzip. */
static int
coding_is(struct sl_span name, struct sl_span coding)
{
    return sl_span_eqi(name, coding) ||
           (sl_span_eqi(name, SL_SPAN("x-gzip")) && sl_span_eqi(coding, SL_SPAN("gzip")));
}

unsigned
sl_encoding_quality(struct sl_span field, struct sl_span coding)
{
    int is_identity = sl_span_eqi(coding, SL_SPAN("identity"));
    unsigned quality, star = is_identity ? QUALITY_LITTLE : QUALITY_NONE;
    struct sl_span member, name;

    while (sl_list_next(&field, &member)) {
        name = member_split(member, &quality);
        if (coding_is(name, coding))
            return quality;
        if (sl_span_eq(name, SL_SPAN("*")) && (!is_identity || quality == QUALITY_NONE))
            star = quality;
    }
    return star;
}
