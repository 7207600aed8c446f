/* The chunked transfer coding (RFC 9112, 7.1): a pure decoder over bytes. */
#ifndef HTTP_CHUNKED_H
#define HTTP_CHUNKED_H

#include "sluice/base.h"

struct chunked {
    uint64_t left;   /* of the current chunk */
    uint32_t n_line; /* bytes of the current size line, extensions included */
    uint8_t state;   /* zeroed to begin */
};

enum chunked_step {
    CHUNKED_DATA,     /* *data is body; call again */
    CHUNKED_MORE,     /* all was used */
    CHUNKED_TRAILERS, /* the last chunk was read; a trailer section follows (head.h) */
    CHUNKED_BAD,      /* overflow, garbage, bare LF, too long an extension */
};

/* Takes from in[0..n): *used bytes are consumed in every case but BAD.  May be called with
 * any split of the same bytes and gives the same body. */
enum chunked_step chunked_next(struct chunked *c, const char *in, size_t n, size_t *used,
                               struct sl_span *data);

/* Writes a chunk's size line ("1f4\r\n") for n > 0; at most 18 bytes.  Returns its length. */
size_t chunked_size_line(char *to, uint64_t n);

#endif
