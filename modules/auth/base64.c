/* Base64 as RFC 4648 has it, strictly: OpenSSL's decoder takes more than that, and not its
 * alphabet for URLs. */
#include "auth.h"

static int
letter(unsigned char c, const char last[2])
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == (unsigned char)last[0] ? 62 : c == (unsigned char)last[1] ? 63 : -1;
}

/* Without padding; bits that belong to no byte must be 0. */
static int
decode(struct sl_span in, const char last[2], char *to)
{
    unsigned bits = 0, n_bits = 0;
    char *at = to;
    size_t i;

    for (i = 0; i < in.n; i++) {
        int six = letter((unsigned char)in.at[i], last);

        if (six < 0)
            return -1;
        bits = bits << 6 | (unsigned)six;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            *at++ = (char)(bits >> n_bits);
        }
        bits &= (1u << n_bits) - 1;
    }
    return n_bits < 6 && bits == 0 ? (int)(at - to) : -1;
}

int
base64_decode(struct sl_span in, char *to)
{
    unsigned n_pad = 0;

    if (in.n % 4 != 0)
        return -1;
    while (n_pad < 2 && in.n > 0 && in.at[in.n - 1] == '=') {
        in.n--;
        n_pad++;
    }
    return decode(in, "+/", to);
}

int
base64url_decode(struct sl_span in, char *to)
{
    return decode(in, "-_", to);
}
