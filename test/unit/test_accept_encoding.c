/* Accept-Encoding as a table: what is sent, and how much each coding is liked. */
/* with: server/runtime/span.c */
#include "unit.h"

#include "../../server/http/accept_encoding.c"

static const struct {
    const char *field; /* NULL: none */
    unsigned gzip, br, identity;
} table[] = {
    {NULL, 0, 0, 1},
    {"", 0, 0, 1},
    {"gzip", 1000, 0, 1},
    {"GZip", 1000, 0, 1},
    {"x-gzip", 1000, 0, 1},
    {"gzip, deflate, br, zstd", 1000, 1000, 1},
    {"br;q=0.9,gzip;q=0.8", 800, 900, 1},
    {"br ; q=0.25 , gzip ;q=1.000", 1000, 250, 1},
    {"gzip\t;\tQ=0.5", 500, 0, 1},
    {"gzip;q=0", 0, 0, 1},
    {"gzip;q=0.000", 0, 0, 1},
    {"gzip;q=0.001", 1, 0, 1},
    {"*", 1000, 1000, 1},
    {"*;q=0.3", 300, 300, 1},
    {"*;q=0", 0, 0, 0},
    {"gzip, *;q=0", 1000, 0, 0},
    {"*;q=0, gzip", 1000, 0, 0},
    {"gzip;q=0, *", 0, 1000, 1},
    {"identity;q=0, gzip", 1000, 0, 0},
    {"identity;q=0, *;q=0.5", 500, 500, 0},
    {"identity, *;q=0", 0, 0, 1000},
    {"identity;q=0.5, gzip;q=0.1", 100, 0, 500},
    {",, gzip,, br ,", 1000, 1000, 1},
    {"gzip;q=1.001", 0, 0, 1}, /* what is no weight refuses */
    {"gzip;q=2", 0, 0, 1},
    {"gzip;q=", 0, 0, 1},
    {"gzip;q=0.1234", 0, 0, 1},
    {"gzip;q=.5", 0, 0, 1},
    {"gzip;q=0.5x, br", 0, 1000, 1},
    {"gzip;level=9", 0, 0, 1},
    {"gzip;", 0, 0, 1},
    {"gzip;q=x, *", 0, 1000, 1},
    {"gzip;q=1.", 1000, 0, 1},
    {"gzi", 0, 0, 1},
    {"gzipp", 0, 0, 1},
    {"gzip gzip", 0, 0, 1},
    {";q=1", 0, 0, 1},
    {"gzip;q=0.4, gzip;q=0.9", 400, 0, 1}, /* the first counts */
};

static void
every_row(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        size_t n = table[i].field != NULL ? strlen(table[i].field) : 0;
        char *copy = malloc(n > 0 ? n : 1); /* exactly as long: reading past it is caught */
        struct sl_span field = {NULL, 0};

        if (table[i].field != NULL) {
            memcpy(copy, table[i].field, n);
            field = (struct sl_span){copy, n};
        }
        if (sl_encoding_quality(field, SL_SPAN("gzip")) != table[i].gzip ||
            sl_encoding_quality(field, SL_SPAN("br")) != table[i].br ||
            sl_encoding_quality(field, SL_SPAN("identity")) != table[i].identity)
            fail_msg("\"%s\": gzip %u, br %u, identity %u", table[i].field,
                     sl_encoding_quality(field, SL_SPAN("gzip")),
                     sl_encoding_quality(field, SL_SPAN("br")),
                     sl_encoding_quality(field, SL_SPAN("identity")));
        free(copy);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_row)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
