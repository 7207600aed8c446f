/* What a WebSocket of HTTP/1.1 has to say that one of HTTP/2 has not. */
#include "http2.h"

#include <apr_base64.h>
#include <apr_sha1.h>

struct sl_span
websocket_accept(apr_pool_t *pool, struct sl_span key)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    char *text = apr_palloc(pool, (size_t)apr_base64_encode_len(sizeof digest));
    apr_sha1_ctx_t sha;

    apr_sha1_init(&sha);
    apr_sha1_update(&sha, key.at, (unsigned)key.n);
    apr_sha1_update(&sha, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    apr_sha1_final(digest, &sha);
    apr_base64_encode_binary(text, digest, sizeof digest);
    return sl_span(text);
}
