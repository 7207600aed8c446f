/* Text that cannot break the format it stands in. */
#include "format.h"

static const char hex[] = "0123456789abcdef";

char *
put_escaped(char *to, char *end, struct sl_span s)
{
    size_t i;

    for (i = 0; i < s.n && end - to > 4; i++) {
        unsigned char c = (unsigned char)s.at[i];

        if (c == '"' || c == '\\') {
            *to++ = '\\';
            *to++ = (char)c;
        } else if (c < 0x20 || c >= 0x7f) {
            *to++ = '\\';
            *to++ = 'x';
            *to++ = hex[c >> 4];
            *to++ = hex[c & 15];
        } else
            *to++ = (char)c;
    }
    return to;
}
