/* Cache-Control, conditions and ranges: never past their bytes, and a range is within its body. */
/* with: modules/cache_disk/control.c modules/cache_disk/policy.c modules/cache_disk/structured.c server/runtime/span.c */
#include "../../modules/cache_disk/policy.h"
#include "../../modules/cache_disk/structured.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *exact = malloc(n + 1);
    struct sl_span text = {exact, n};
    struct range ranges[RANGES_MAX];
    struct condition_facts f = {.if_none_match = text, .etag = SL_SPAN("\"a\"")};
    struct cache_control cc;
    struct content_range part;
    int i, found;

    memcpy(exact, data, n);
    cc = cache_control_parse(text);
    if (cc.max_age > CC_SECONDS_MAX || cc.max_age < CC_ABSENT)
        abort();
    policy_not_modified(&f);
    is_dictionary(text);
    http_date(text);
    found = policy_ranges(text, 1000, ranges);
    for (i = 0; i < found; i++)
        if (ranges[i].from < 0 || ranges[i].n <= 0 || ranges[i].from + ranges[i].n > 1000)
            abort();
    if (policy_content_range(text, &part) == 0 &&
        (part.first < 0 || part.last < part.first || part.whole <= part.last))
        abort();
    free(exact);
    return 0;
}
