/* Which page a failure shows. */
#include "http/request.h"

/* A redirect to the page that just failed would go round in circles. */
static int
leads_here(const struct sl_req *r, struct sl_span location)
{
    size_t n = 0;

    while (n < location.n && location.at[n] != '?' && location.at[n] != '#')
        n++;
    return r->path.at != NULL && sl_span_eq(r->path, (struct sl_span){location.at, n});
}

const struct error_page *
error_page_find(const struct sl_req *r, int status)
{
    const apr_array_header_t *pages = r->scope->core->error_pages;
    int i;

    for (i = pages != NULL ? pages->nelts - 1 : -1; i >= 0; i--) { /* the last line holds */
        const struct error_page *page = APR_ARRAY_IDX(pages, i, const struct error_page *);

        if (sl_statuses_have(&page->of, status))
            return page->location.n > 0 && leads_here(r, page->location) ? NULL : page;
    }
    return NULL;
}
