/* What costs a peer little and us more: frames that carry nothing, streams reset before they are
 * answered.  Each kind fills a bucket that empties at a tenth of its size a second. */
#include "http2.h"

#define CREDIT_BYTES 512 /* sent, for which one WINDOW_UPDATE is the least to expect */

static int
bucket_fill(struct http2_bucket *b, int64_t now_ms, int64_t size)
{
    if (size < 0)
        return 1;
    b->level -= (now_ms - b->at_ms) * size / 10000;
    if (b->level < 0)
        b->level = 0;
    b->at_ms = now_ms;
    return ++b->level <= size;
}

/* Headers, and data that is there or ends, are what the connection is for. */
static int
is_of_use(const nghttp2_frame_hd *hd)
{
    switch (hd->type) {
    case NGHTTP2_DATA:
        return hd->length > 0 || (hd->flags & NGHTTP2_FLAG_END_STREAM);
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION: /* nghttp2 counts those of a head */
    case NGHTTP2_RST_STREAM:   /* guard_reset() */
    case NGHTTP2_GOAWAY:
        return 1;
    default: /* an open set: what is not known is of no use */
        return 0;
    }
}

int
guard_frame(struct http2 *h, const nghttp2_frame_hd *hd)
{
    return is_of_use(hd) || bucket_fill(&h->control, http2_now(h), h->conf->control_frames);
}

int
guard_reset(struct http2 *h)
{
    return bucket_fill(&h->resets, http2_now(h), h->conf->resets);
}

void
guard_sent(struct http2 *h, size_t n)
{
    h->control.level -= 2 * (int64_t)(n / CREDIT_BYTES);
    if (h->control.level < 0)
        h->control.level = 0;
}
