/* Parsing of structured fields (RFC 8941, 4.2).  Each function takes what it is named after from the
 * front of what is left: 1, or 0 where that does not stand there. */
#include "structured.h"

#include <apr_lib.h>

#define INTEGER_DIGITS 15
#define WHOLE_DIGITS 12 /* before the point of a decimal */
#define FRACTION_DIGITS 3

/* 0 at the end, which no field has among its bytes. */
static unsigned char
next(const struct sl_span *s)
{
    return s->n > 0 ? (unsigned char)*s->at : 0;
}

static void
skip(struct sl_span *s)
{
    s->at++;
    s->n--;
}

static int
take(struct sl_span *s, char c)
{
    if (next(s) != (unsigned char)c)
        return 0;
    skip(s);
    return 1;
}

static void
take_white(struct sl_span *s, const char *white)
{
    while (next(s) != 0 && strchr(white, next(s)) != NULL)
        skip(s);
}

static int
is_lower(unsigned char c)
{
    return c >= 'a' && c <= 'z';
}

static int
take_key(struct sl_span *s)
{
    if (!is_lower(next(s)) && next(s) != '*')
        return 0;
    while (is_lower(next(s)) || apr_isdigit(next(s)) ||
           (next(s) != 0 && strchr("_-.*", next(s)) != NULL))
        skip(s);
    return 1;
}

static unsigned
take_digits(struct sl_span *s)
{
    unsigned n = 0;

    for (; apr_isdigit(next(s)); n++)
        skip(s);
    return n;
}

static int
take_number(struct sl_span *s)
{
    unsigned n, n_fraction;

    take(s, '-');
    n = take_digits(s);
    if (!take(s, '.'))
        return n > 0 && n <= INTEGER_DIGITS;
    n_fraction = take_digits(s);
    return n > 0 && n <= WHOLE_DIGITS && n_fraction > 0 && n_fraction <= FRACTION_DIGITS;
}

static int
take_string(struct sl_span *s)
{
    take(s, '"');
    while (!take(s, '"')) {
        if (take(s, '\\') && next(s) != '"' && next(s) != '\\')
            return 0;
        if (next(s) < 0x20 || next(s) > 0x7e)
            return 0;
        skip(s);
    }
    return 1;
}

static int
take_token(struct sl_span *s)
{
    while (apr_isalnum(next(s)) || (next(s) != 0 && strchr("!#$%&'*+-.^_`|~:/", next(s)) != NULL))
        skip(s);
    return 1;
}

static int
take_bytes(struct sl_span *s)
{
    take(s, ':');
    while (apr_isalnum(next(s)) || (next(s) != 0 && strchr("+/=", next(s)) != NULL))
        skip(s);
    return take(s, ':');
}

static int
take_bare_item(struct sl_span *s)
{
    unsigned char c = next(s);

    if (c == '-' || apr_isdigit(c))
        return take_number(s);
    if (c == '"')
        return take_string(s);
    if (c == ':')
        return take_bytes(s);
    if (c == '?')
        return take(s, '?') && (take(s, '0') || take(s, '1'));
    return (c == '*' || apr_isalpha(c)) && take_token(s);
}

static int
take_parameters(struct sl_span *s)
{
    while (take(s, ';')) {
        take_white(s, " ");
        if (!take_key(s) || (take(s, '=') && !take_bare_item(s)))
            return 0;
    }
    return 1;
}

static int
take_inner_list(struct sl_span *s)
{
    while (1) {
        take_white(s, " ");
        if (take(s, ')'))
            return 1;
        if (!take_bare_item(s) || !take_parameters(s) || (next(s) != ' ' && next(s) != ')'))
            return 0;
    }
}

static int
take_member(struct sl_span *s)
{
    if (!take_key(s))
        return 0;
    if (take(s, '=') && !(take(s, '(') ? take_inner_list(s) : take_bare_item(s)))
        return 0;
    return take_parameters(s);
}

int
is_dictionary(struct sl_span field)
{
    struct sl_span s = field;

    take_white(&s, " ");
    while (s.n > 0) {
        if (!take_member(&s))
            return 0;
        take_white(&s, " \t");
        if (s.n == 0)
            return 1;
        if (!take(&s, ','))
            return 0;
        take_white(&s, " \t");
        if (s.n == 0)
            return 0; /* a comma at the end */
    }
    return 1;
}
