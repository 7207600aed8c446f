/* What AuthBasic's clients send: a pure function of the field's bytes. */
#include "auth.h"

#define PASSWORD_MAX 512 /* of libcrypt; a longer one is nobody's */

static int
has_control(const char *at, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if ((unsigned char)at[i] < ' ' || at[i] == 127)
            return 1;
    return 0;
}

int
basic_is_scheme(struct sl_span field)
{
    return field.n >= 6 && field.at[5] == ' ' &&
           sl_span_eqi((struct sl_span){field.at, 5}, SL_SPAN("Basic"));
}

enum basic_parse
basic_parse(apr_pool_t *pool, struct sl_span field, struct sl_span *user, struct sl_span *password)
{
    struct sl_span coded;
    const char *colon;
    char *text;
    int n;

    if (!basic_is_scheme(field))
        return BASIC_OTHER_SCHEME;
    coded = (struct sl_span){field.at + 6, field.n - 6};
    while (coded.n > 0 && *coded.at == ' ') {
        coded.at++;
        coded.n--;
    }
    text = apr_palloc(pool, coded.n + 1);
    n = base64_decode(coded, text);
    colon = n > 0 ? memchr(text, ':', (size_t)n) : NULL;
    if (colon == NULL || has_control(text, (size_t)n))
        return BASIC_MALFORMED;
    *user = (struct sl_span){text, (size_t)(colon - text)};
    *password = (struct sl_span){colon + 1, (size_t)(text + n - colon - 1)};
    return user->n > 0 && password->n < PASSWORD_MAX ? BASIC_OK : BASIC_MALFORMED;
}
