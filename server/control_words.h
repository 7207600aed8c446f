/* The words of a command on the control socket: between blanks, one a line in all, bytes that
 * would not do as they are and "%" as %XX; an empty word is %00.  Pure. */
#ifndef CONTROL_WORDS_H
#define CONTROL_WORDS_H

#include <stddef.h>

#define CONTROL_LINE_MAX 65536 /* bytes of a line */

/* Writes word behind the *n bytes of line, and what parts it from the one before.  0, or -1 when
 * there is no room: then *n is as it was. */
int control_word_add(char *line, size_t room, size_t *n, const char *word);
/* The next word, read in place; NULL: there is none.  *at moves behind it. */
char *control_word_next(char **at);

#endif
