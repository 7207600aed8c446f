/* JSON strings out of any bytes.  Pure: a crash report is written with it, too. */
#include "sluice/base.h"

#include <string.h>

/* The length of the UTF-8 sequence at p (RFC 3629, 4), 0 when it is none. */
static size_t
utf8_length(const unsigned char *p, size_t n)
{
    size_t need = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3
                  : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0, i;

    if (need == 0 || need > n)
        return 0;
    for (i = 1; i < need; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return need;
}

static char *
put_control(char *to, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";

    memcpy(to, "\\u00", 4);
    to[4] = digits[c >> 4];
    to[5] = digits[c & 15];
    return to + 6;
}

char *
sl_json_string(char *to, char *end, struct sl_span s)
{
    const unsigned char *p = (const unsigned char *)s.at;
    size_t i = 0, k;

    *to++ = '"';
    while (i < s.n && end - to > 8) {
        if (p[i] == '"' || p[i] == '\\') {
            *to++ = '\\';
            *to++ = (char)p[i++];
        } else if (p[i] < 0x20 || p[i] == 0x7f)
            to = put_control(to, p[i++]);
        else if (p[i] < 0x80)
            *to++ = (char)p[i++];
        else if ((k = utf8_length(p + i, s.n - i)) > 0) {
            memcpy(to, p + i, k);
            to += k;
            i += k;
        } else {
            memcpy(to, "\xef\xbf\xbd", 3);
            to += 3;
            i++;
        }
    }
    *to++ = '"';
    return to;
}
