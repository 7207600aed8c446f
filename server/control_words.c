/* See control_words.h. */
#include "control_words.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define ESCAPED 3 /* bytes of %XX */

static int
is_plain(unsigned char c)
{
    return c > ' ' && c != '%' && c != 0x7f;
}

static size_t
written(const char *word)
{
    size_t n = *word == '\0' ? ESCAPED : 0;

    for (; *word != '\0'; word++)
        n += is_plain((unsigned char)*word) ? 1 : ESCAPED;
    return n;
}

int
control_word_add(char *line, size_t room, size_t *n, const char *word)
{
    char *to = line + *n;
    size_t size = written(word) + (*n > 0);

    if (*n + size >= room)
        return -1;
    *n += size;
    if (to > line)
        *to++ = ' ';
    if (*word == '\0')
        strcpy(to, "%00");
    for (; *word != '\0'; word++)
        to += is_plain((unsigned char)*word) ? snprintf(to, 2, "%c", *word)
                                             : snprintf(to, ESCAPED + 1, "%%%02x", (unsigned char)*word);
    return 0;
}

static int
hex(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

char *
control_word_next(char **at)
{
    char *word = *at + strspn(*at, " \n"), *to = word, *from;

    if (*word == '\0')
        return NULL;
    for (from = word; *from != '\0' && *from != ' ' && *from != '\n'; from++)
        if (*from == '%' && isxdigit((unsigned char)from[1]) && isxdigit((unsigned char)from[2])) {
            *to++ = (char)(hex(from[1]) * 16 + hex(from[2]));
            from += 2;
        } else
            *to++ = *from;
    *at = *from != '\0' ? from + 1 : from;
    *to = '\0';
    return word;
}
