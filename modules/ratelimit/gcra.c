/* See gcra.h. */
#include "gcra.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static uint32_t
common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

static uint32_t
period_of(const char *unit)
{
    static const struct {
        const char *unit;
        uint32_t ms;
    } periods[] = {{"/s", 1000}, {"/m", 60000}, {"/h", 3600000}, {"/d", 86400000}};
    size_t i;

    if (*unit == 'r')
        unit++;
    for (i = 0; i < sizeof periods / sizeof periods[0]; i++)
        if (strcmp(unit, periods[i].unit) == 0)
            return periods[i].ms;
    return 0;
}

const char *
rate_parse(const char *text, struct rate *rate)
{
    char *end;
    unsigned long n;
    uint32_t period, divisor;

    if (!isdigit((unsigned char)*text) || strspn(text, "0123456789") > 9)
        return "expected a rate such as 10r/s, 600r/m, 50r/h or 1000r/d";
    n = strtoul(text, &end, 10);
    period = period_of(end);
    if (period == 0)
        return "expected a rate such as 10r/s, 600r/m, 50r/h or 1000r/d";
    if (n == 0 || n > RATE_MAX)
        return "expected between 1 and 1000000 requests";
    divisor = common_divisor((uint32_t)n, period);
    *rate = (struct rate){(uint32_t)n / divisor, period / divisor};
    return NULL;
}

uint64_t
gcra_remaining(const struct gcra *g, uint64_t ahead)
{
    return ahead > g->tolerance ? 0 : (g->tolerance - ahead) / g->cost + 1;
}

uint64_t
gcra_wait(const struct gcra *g, uint64_t ahead)
{
    return ahead > g->tolerance ? ahead - g->tolerance : 0;
}
