/* Bytes and spans as the core's parsers look at them; pure. */
#ifndef RUNTIME_SPAN_H
#define RUNTIME_SPAN_H

#include "sluice/base.h"

/* OWS (RFC 9110, 5.6.3). */
static inline int
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* What a hexadecimal digit stands for, -1: it is none. */
static inline int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Without the blanks around it. */
struct sl_span span_trim(struct sl_span s);
/* Takes the last member of a comma-separated list off, else as sl_list_next(). */
int span_list_last(struct sl_span *list, struct sl_span *member);

#endif
