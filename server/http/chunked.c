/* The chunked coding, decoded byte by byte on size lines and by the span within chunks.
 *
 *   SIZE_FIRST -> SIZE -> [BLANK ->] [EXTENSION ->] SIZE_LF -> DATA -> DATA_CR -> DATA_LF
 *        ^                                             |                             |
 *        |______________________________ size 0: LAST <'                             |
 *        |___________________________________________________________________________|
 *
 * Extensions are skipped, not understood: their bytes are checked and counted, as a peer
 * could otherwise feed a line without end (RFC 9112, 7.1.1). */
#include "http/chunked.h"

#include "runtime/span.h"

#define LINE_MAX_BYTES 1024
#define SIZE_MAX_DIGITS 16

enum state {
    SIZE_FIRST, /* 0: where a zeroed decoder begins */
    SIZE,
    BLANK,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    LAST,
    BROKEN,
};

static int
is_extension_byte(char c)
{
    return (unsigned char)c >= 0x20 ? c != 0x7f : c == '\t';
}

static enum state
on_digit(struct chunked *c, char in)
{
    int digit = hex_digit(in);

    if (digit < 0 || c->n_line > SIZE_MAX_DIGITS || c->left > (uint64_t)INT64_MAX >> 4)
        return BROKEN;
    c->left = c->left << 4 | (unsigned)digit;
    return SIZE;
}

/* Behind the size: its line's end, or blanks that lead to an extension. */
static enum state
on_size_end(char in)
{
    switch (in) {
    case '\r':
        return SIZE_LF;
    case ';':
        return EXTENSION;
    case ' ':
    case '\t':
        return BLANK;
    }
    return BROKEN;
}

/* One byte of framing: the state it leads to. */
static enum state
on_byte(struct chunked *c, char in)
{
    switch ((enum state)c->state) {
    case SIZE_FIRST:
        return on_digit(c, in);
    case SIZE:
        return hex_digit(in) >= 0 ? on_digit(c, in) : on_size_end(in);
    case BLANK: /* only an extension gives them meaning */
        return in == '\r' ? BROKEN : on_size_end(in);
    case EXTENSION:
        if (in == '\r')
            return SIZE_LF;
        return is_extension_byte(in) ? EXTENSION : BROKEN;
    case SIZE_LF:
        if (in != '\n')
            return BROKEN;
        c->n_line = 0;
        return c->left == 0 ? LAST : DATA;
    case DATA_CR:
        return in == '\r' ? DATA_LF : BROKEN;
    case DATA_LF:
        return in == '\n' ? SIZE_FIRST : BROKEN;
    case DATA:
    case LAST:
    case BROKEN:
        break;
    }
    return BROKEN;
}

static inline int
is_size_line(uint8_t state)
{
    return state <= EXTENSION;
}

enum chunked_step
chunked_next(struct chunked *c, const char *in, size_t n, size_t *used, struct sl_span *data)
{
    size_t at = 0;

    for (;;) {
        *used = at;
        if (c->state == LAST)
            return CHUNKED_TRAILERS;
        if (c->state == BROKEN)
            return CHUNKED_BAD;
        if (at == n)
            return CHUNKED_MORE;
        if (c->state == DATA)
            break;
        if (is_size_line(c->state) && ++c->n_line > LINE_MAX_BYTES + 1) /* and its CR */
            c->state = BROKEN;
        else
            c->state = (uint8_t)on_byte(c, in[at++]);
    }
    *data = (struct sl_span){in + at, n - at < c->left ? n - at : (size_t)c->left};
    c->left -= data->n;
    if (c->left == 0)
        c->state = DATA_CR;
    *used = at + data->n;
    return CHUNKED_DATA;
}

size_t
chunked_size_line(char *to, uint64_t n)
{
    static const char digits[] = "0123456789abcdef";
    size_t length = 1, i;

    while (length < 16 && n >> (4 * length) != 0)
        length++;
    for (i = 0; i < length; i++)
        to[i] = digits[(n >> (4 * (length - 1 - i))) & 15];
    to[length] = '\r';
    to[length + 1] = '\n';
    return length + 2;
}
