/* Heads: whatever the bytes, nothing is read past them, and what parses is consistent. */
/* with: server/http/head.c server/http/field_names.c server/runtime/span.c server/runtime/causes.c server/http/framing.c server/http/target.c */
#include "panic_double.h"

#include "http/head.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct sl_field fields[256];

static void
check_request(const char *at, size_t n)
{
    struct head_limits limits = {2048, 4096, 100};
    struct request_head head = {.size = 0};
    const struct sl_cause *why;
    enum framing framing;
    struct target target;
    struct sl_span name;
    uint64_t length;
    int port, same;
    unsigned i;

    if (head_parse_request(at, n, &limits, &head, fields) != PARSE_OK)
        return;
    SL_ASSERT(head.size <= n && memcmp(at + head.size - 4, "\r\n\r\n", 4) == 0);
    framing_of_request(&head, fields, &framing, &length, &why);
    connection_persists(head.version, fields, head.n_fields, head.ids);
    if (target_split(head.method, head.target, &target) == PARSE_OK) {
        char *to = malloc(target.path.n + 1);

        SL_ASSERT(path_normalise(target.path, to, &same) <= (int)target.path.n);
        free(to);
        if (target.authority.at != NULL)
            host_split(target.authority, &name, &port);
    }
    fields_drop_hop_by_hop(fields, head.n_fields, head.ids);
    for (i = 0; i < head.n_fields; i++)
        SL_ASSERT(is_token(fields[i].name) && is_field_value(fields[i].value));
}

static void
check_response(const char *at, size_t n)
{
    struct head_limits limits = {2048, 4096, 100};
    struct response_head head = {.size = 0};
    const struct sl_cause *why;
    enum framing framing;
    uint64_t length;
    size_t size;
    unsigned n_fields;

    if (head_parse_response(at, n, &limits, &head, fields) == PARSE_OK) {
        SL_ASSERT(head.size <= n && head.status >= 100 && head.status <= 599);
        framing_of_response(&head, fields, SL_SPAN("GET"), &framing, &length, &why);
    }
    head_parse_trailers(at, n, &limits, &size, &n_fields, fields);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    check_request((const char *)data, n);
    check_response((const char *)data, n);
    return 0;
}
