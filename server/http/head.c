/* Heads of messages, parsed in place.
 *
 * One pass, left to right, over bytes that may end anywhere; every step says OK, MORE or
 * what is wrong.  What an attacker could have read two ways by two parsers is wrong here
 * (RFC 9112, 2.2, 3 and 5.1; RFC 9110, 5.5). */
#include "http/head.h"
#include "http/fields.h"
#include "runtime/span.h"
#include "sluice/log.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What a step finds; from BAD on the head is refused. */
enum step {
    STEP_OK,
    STEP_MORE,
    STEP_BAD,
    STEP_VERSION,
    STEP_HOST,
    STEP_LINE,
    STEP_SIZE,
    STEP_FIELDS,
    STEP_COUNT,
};

static const struct sl_cause *const request_causes[STEP_COUNT] = {
    [STEP_BAD] = &sl_cause_bad_request,     [STEP_VERSION] = &sl_cause_bad_version,
    [STEP_HOST] = &sl_cause_bad_host,       [STEP_LINE] = &sl_cause_line_too_long,
    [STEP_SIZE] = &sl_cause_head_too_large, [STEP_FIELDS] = &sl_cause_too_many_fields,
};

static const struct sl_cause *const response_causes[STEP_COUNT] = {
    [STEP_BAD] = &sl_cause_bad_response,        [STEP_VERSION] = &sl_cause_bad_response,
    [STEP_HOST] = &sl_cause_bad_response,       [STEP_LINE] = &sl_cause_response_too_large,
    [STEP_SIZE] = &sl_cause_response_too_large, [STEP_FIELDS] = &sl_cause_response_too_large,
};

/* RFC 9110, 5.6.2. */
static const uint8_t token_bytes[256] = {
    ['!'] = 1,           ['#' ... '\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,
    ['0' ... '9'] = 1,   ['A' ... 'Z'] = 1,  ['^'] = 1, ['_'] = 1, ['`'] = 1,
    ['a' ... 'z'] = 1,   ['|'] = 1,          ['~'] = 1,
};

static inline int
is_token_byte(char c)
{
    return token_bytes[(unsigned char)c];
}

/* Field values and reasons: visible, obs-text, SP and HTAB (RFC 9110, 5.5). */
static inline int
is_text_byte(char c)
{
    return (unsigned char)c >= 0x20 ? c != 0x7f : c == '\t';
}

static inline int
is_target_byte(char c)
{
    return c > 0x20 && c < 0x7f;
}

#ifdef __SSE2__
/* 0xff where a byte is first to first + span. */
static inline __m128i
bytes_in(__m128i x, char first, char span)
{
    __m128i from_first = _mm_sub_epi8(x, _mm_set1_epi8(first));

    return _mm_cmpeq_epi8(_mm_min_epu8(from_first, _mm_set1_epi8(span)), from_first);
}
#endif

/* Past letters, digits and '-', which most names are made of, by sixteens; the byte that stops it
 * may be another token byte. */
static inline const char *
plain_name_end(const char *at, const char *end)
{
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i letter = bytes_in(_mm_or_si128(x, _mm_set1_epi8(0x20)), 'a', 'z' - 'a');
        __m128i other = _mm_or_si128(bytes_in(x, '0', 9), _mm_cmpeq_epi8(x, _mm_set1_epi8('-')));
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(letter, other)) ^ 0xffffu;

        if (mask != 0)
            return at + __builtin_ctz(mask);
    }
#else
    (void)end;
#endif
    return at;
}

/* The first byte that is no token byte, or `end`. */
static inline const char *
token_end(const char *at, const char *end)
{
    at = plain_name_end(at, end);
    while (at < end && is_token_byte(*at))
        at++;
    return at;
}

static inline const char *
text_end(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i control = _mm_set1_epi8(0x1f);
    const __m128i tab = _mm_set1_epi8('\t');
    const __m128i del = _mm_set1_epi8(0x7f);

    for (; end - at >= 16; at += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i stop = _mm_cmpeq_epi8(_mm_min_epu8(x, control), x);
        unsigned mask;

        stop = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(x, tab), stop),
                            _mm_cmpeq_epi8(x, del));
        mask = (unsigned)_mm_movemask_epi8(stop);
        if (mask != 0)
            return at + __builtin_ctz(mask);
    }
#endif
    while (at < end && is_text_byte(*at))
        at++;
    return at;
}

static inline const char *
target_end(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i below = _mm_set1_epi8(0x20);
    const __m128i above = _mm_set1_epi8(0x7f);

    for (; end - at >= 16; at += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i good = _mm_and_si128(_mm_cmpgt_epi8(x, below), _mm_cmplt_epi8(x, above));
        unsigned mask = (unsigned)_mm_movemask_epi8(good) ^ 0xffffu;

        if (mask != 0)
            return at + __builtin_ctz(mask);
    }
#endif
    while (at < end && is_target_byte(*at))
        at++;
    return at;
}

/* Steps over one byte that must be there. */
static inline enum step
eat(const char **at, const char *end, char c)
{
    if (*at == end)
        return STEP_MORE;
    if (**at != c)
        return STEP_BAD;
    ++*at;
    return STEP_OK;
}

static inline enum step
eat_crlf(const char **at, const char *end)
{
    enum step s;

    if (end - *at >= 2 && memcmp(*at, "\r\n", 2) == 0) {
        *at += 2;
        return STEP_OK;
    }
    s = eat(at, end, '\r');
    return s == STEP_OK ? eat(at, end, '\n') : s;
}

/* HTTP-version (RFC 9112, 2.3); minor versions above 1 count as 1 (RFC 9110, 6.2). */
static inline enum step
eat_version(const char **at, const char *end, int *version)
{
    const char *v = *at;
    size_t have = (size_t)(end - v);

    if (have < 8)
        return memcmp(v, "HTTP/", have < 5 ? have : 5) == 0 ? STEP_MORE : STEP_BAD;
    if (memcmp(v, "HTTP/", 5) != 0)
        return STEP_BAD;
    if (v[5] < '0' || v[5] > '9' || v[6] != '.' || v[7] < '0' || v[7] > '9')
        return STEP_BAD;
    if (v[5] != '1')
        return STEP_VERSION;
    *version = v[7] == '0' ? 10 : 11;
    *at += 8;
    return STEP_OK;
}

/* RFC 9112, 3. */
static inline enum step
eat_request_line(const char **at, const char *end, struct request_head *head)
{
    const char *begin = *at;
    enum step s;

    *at = token_end(begin, end);
    head->method = (struct sl_span){begin, (size_t)(*at - begin)};
    if (*at == begin)
        return *at == end ? STEP_MORE : STEP_BAD;
    if ((s = eat(at, end, ' ')) != STEP_OK)
        return s;

    begin = *at;
    *at = target_end(begin, end);
    head->target = (struct sl_span){begin, (size_t)(*at - begin)};
    if (*at == begin)
        return *at == end ? STEP_MORE : STEP_BAD;
    if ((s = eat(at, end, ' ')) != STEP_OK)
        return s;

    if ((s = eat_version(at, end, &head->version)) != STEP_OK)
        return s;
    return eat_crlf(at, end);
}

/* RFC 9112, 4; the SP before an absent reason is not insisted on. */
static inline enum step
eat_status_line(const char **at, const char *end, struct response_head *head)
{
    int i, status = 0;
    enum step s;

    if ((s = eat_version(at, end, &head->version)) != STEP_OK)
        return s;
    if ((s = eat(at, end, ' ')) != STEP_OK)
        return s;
    for (i = 0; i < 3; i++, ++*at) {
        if (*at == end)
            return STEP_MORE;
        if (**at < '0' || **at > '9')
            return STEP_BAD;
        status = status * 10 + (**at - '0');
    }
    if (status < 100 || status > 599)
        return STEP_BAD;
    head->status = status;
    if (*at < end && **at == ' ')
        ++*at;
    else
        return eat_crlf(at, end);

    head->reason.at = *at;
    *at = text_end(*at, end);
    head->reason.n = (size_t)(*at - head->reason.at);
    return eat_crlf(at, end);
}

/* A proxy takes white space before the colon out of responses; in a request it is an error
 * (RFC 9112, 5.1). */
static inline const char *
skip_blanks(const char *at, const char *end)
{
    while (at < end && is_blank(*at))
        at++;
    return at;
}

enum kind { IN_REQUEST, IN_RESPONSE };

/* One line "name: value CRLF" (RFC 9112, 5).  A continued one begins with white space and
 * so has no name: obs-fold is refused (RFC 9112, 5.2). */
static inline enum step
eat_field(const char **begin, const char *end, enum kind kind, struct sl_field *field)
{
    const char *name = *begin, *name_end = token_end(name, end), *colon = name_end, *value, *last, *at;
    enum step s;

    if (colon < end && *colon != ':' && kind == IN_RESPONSE)
        colon = skip_blanks(colon, end);
    if (colon == end)
        return STEP_MORE;
    if (*colon != ':' || name_end == name)
        return STEP_BAD;
    value = skip_blanks(colon + 1, end);
    last = at = text_end(value, end);
    if ((s = eat_crlf(&at, end)) != STEP_OK)
        return s;
    while (last > value && is_blank(last[-1]))
        last--;

    field->name = (struct sl_span){name, (size_t)(name_end - name)};
    field->value = (struct sl_span){value, (size_t)(last - value)};
    field->flags = value == name_end + 2 && name_end[1] == ' ' && last > value && last + 2 == at
                       ? FIELD_CANONICAL
                       : 0;
    *begin = at;
    return STEP_OK;
}

/* A field section with the blank line that ends it. */
struct section {
    unsigned n;
    uint64_t ids, doubled; /* names that came once at least, and more than once */
};

static enum step
eat_fields(const char **begin, const char *end, enum kind kind, unsigned room,
           struct section *section, struct sl_field *fields)
{
    const char *at = *begin;
    unsigned n;
    enum step s;

    for (n = 0; at < end && *at != '\r'; n++) {
        if (n == room)
            return STEP_FIELDS;
        if ((s = eat_field(&at, end, kind, &fields[n])) != STEP_OK)
            return s;
    }
    *begin = at;
    if ((s = eat_crlf(begin, end)) != STEP_OK)
        return s;
    section->n = n;
    section->ids = fields_identify(fields, n, &section->doubled);
    return STEP_OK;
}

/* A first line that is too long, or will be when the rest has come. */
static enum step
check_line(enum step s, const char *line, const char *at, const char *end, size_t limit)
{
    size_t n;

    if (s == STEP_OK)
        n = (size_t)(at - line) - 2;
    else if (s == STEP_MORE)
        n = (size_t)(end - line) - (end > line && end[-1] == '\r');
    else
        return s;
    return n > limit ? STEP_LINE : s;
}

static enum step
check_size(enum step s, size_t size, size_t n, size_t limit)
{
    if ((s == STEP_OK && size > limit) || (s == STEP_MORE && n >= limit))
        return STEP_SIZE;
    return s;
}

/* Exactly one Host, which only HTTP/1.0 may lack (RFC 9112, 3.2). */
static enum step
check_host(const struct request_head *head, const struct section *section)
{
    uint64_t host = sl_field_bit(SL_F_HOST);

    if ((section->doubled & host) != 0)
        return STEP_HOST;
    return (section->ids & host) != 0 || head->version == 10 ? STEP_OK : STEP_HOST;
}

static inline enum parse
conclude(enum step s, const struct sl_cause *const *causes, const struct sl_cause **why)
{
    if (s == STEP_OK)
        return PARSE_OK;
    if (s == STEP_MORE)
        return PARSE_MORE;
    *why = causes[s];
    return PARSE_BAD;
}

/* RFC 9112, 2.2: a client may send a stray CRLF before its request. */
static inline enum step
eat_stray_crlf(const char **at, const char *end)
{
    return *at < end && **at == '\r' ? eat_crlf(at, end) : STEP_OK;
}

enum parse
head_parse_request(const char *buf, size_t n, const struct head_limits *limits,
                   struct request_head *head, struct sl_field *fields)
{
    struct section section = {0, 0, 0};
    const char *at = buf, *end = buf + n, *line;
    enum step s;

    *head = (struct request_head){.method = {NULL, 0}};
    if ((s = eat_stray_crlf(&at, end)) == STEP_OK) {
        line = at;
        s = eat_request_line(&at, end, head);
        s = check_line(s, line, at, end, limits->line);
    }
    if (s == STEP_OK)
        s = eat_fields(&at, end, IN_REQUEST, limits->n_fields, &section, fields);
    head->size = (size_t)(at - buf);
    head->n_fields = section.n;
    head->ids = section.ids;
    s = check_size(s, head->size, n, limits->head);
    if (s == STEP_OK)
        s = check_host(head, &section);
    return conclude(s, request_causes, &head->why);
}

enum parse
head_parse_response(const char *buf, size_t n, const struct head_limits *limits,
                    struct response_head *head, struct sl_field *fields)
{
    struct section section = {0, 0, 0};
    const char *at = buf, *end = buf + n;
    enum step s;

    *head = (struct response_head){.status = 0};
    s = eat_status_line(&at, end, head);
    s = check_line(s, buf, at, end, limits->line);
    if (s == STEP_OK)
        s = eat_fields(&at, end, IN_RESPONSE, limits->n_fields, &section, fields);
    head->size = (size_t)(at - buf);
    head->n_fields = section.n;
    head->ids = section.ids;
    s = check_size(s, head->size, n, limits->head);
    return conclude(s, response_causes, &head->why);
}

enum parse
head_parse_trailers(const char *buf, size_t n, const struct head_limits *limits, size_t *size,
                    unsigned *n_fields, struct sl_field *fields)
{
    const struct sl_cause *why;
    struct section section = {0, 0, 0};
    const char *at = buf;
    enum step s;

    s = eat_fields(&at, buf + n, IN_REQUEST, limits->n_fields, &section, fields);
    *size = (size_t)(at - buf);
    *n_fields = section.n;
    return conclude(check_size(s, *size, n, limits->head), request_causes, &why);
}

int
is_token(struct sl_span s)
{
    return s.n > 0 && token_end(s.at, s.at + s.n) == s.at + s.n;
}

int
is_field_value(struct sl_span s)
{
    return s.n == 0 || text_end(s.at, s.at + s.n) == s.at + s.n;
}
