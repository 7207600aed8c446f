/* gzip by zlib.  A state is a z_stream, made once and reset for each body: its 256 KiB stay
 * warm in the thread's cache, and no page of it is asked of the kernel again. */

/*man
NAME
    mod_gzip - compresses responses with gzip
DESCRIPTION
    Compresses bodies for clients whose Accept-Encoding likes gzip. Where mod_brotli and
    mod_zstd are on too, one negotiation holds for all three: the coding with the highest q
    value is used, and of equal ones br before zstd before gzip; identity is used where the
    client likes it better.

    A response is left as it is when it is encoded already, says Cache-Control: no-transform,
    is of another type, shorter than the least size, a part (206), or empty (204, 205, 304);
    so is the answer to a request with Range or no-transform. What could have been encoded
    says Vary: Accept-Encoding, encoded or not, and so do 304 and the answers to HEAD. What is
    encoded has a weak ETag and neither Content-MD5, digests, Accept-Ranges nor
    Content-Length.

    Bodies of unknown length are flushed with each piece the server sends, so that streams
    stay live. Of bodies with Content-Length only pieces shorter than 4 kB are.

    What mod_cache_disk(8) stores is compressed once for each coding, and has a Content-Length then.

    Memory: a body being compressed takes 270 kB (of zlib), one being decompressed 42 kB. Each
    thread keeps up to 8 states, of all codings together, for the next bodies, and has no more
    than 256 MB of them in use: further responses go out as they are. A client that reads a
    long body slowly, or holds a stream, keeps its state; that is why text/event-stream is not
    among the default types.
DIRECTIVES
  Gzip
    Compresses responses in this scope.
  GzipTypes
    Media types to compress, without parameters; one that ends with a star stands for a family
    (text and all behind the slash), a star alone for all.
  GzipMinSize
    Bodies known to be shorter are sent as they are.
  GzipLevel
    1 is fast, 9 is small. Above 6 little is won.
  GzipDecode
    Decompresses what a server sent compressed for clients that do not accept gzip. A body may
    then become a thousand times as large; it is decompressed no faster than the client reads.
  GzipPrivate
    off leaves responses alone that set cookies or whose Cache-Control says private or
    no-store. Where a page shows a secret beside what a request brought, an attacker who sees
    lengths can guess the secret (BREACH).
EXAMPLE
    LoadModule route
    LoadModule gzip
    Listen 80
    Gzip on
    GzipTypes application/x-ndjson
    <Location "/account/">
        GzipPrivate off
    </Location>
    ProxyPass http://127.0.0.1:3000
*/

#include "sluice/module.h"

#include <stdlib.h>

#define ZLIB_CONST
#include <zlib.h>

#define WINDOW_GZIP (15 + 16) /* 32 KiB, in gzip's wrapping */
#define MEMORY 8

/* ---- the coder ---- */

static void *
gzip_open(int level)
{
    z_stream *z = calloc(1, sizeof *z);

    if (z != NULL &&
        deflateInit2(z, level, Z_DEFLATED, WINDOW_GZIP, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(z);
        return NULL;
    }
    return z;
}

static int
gzip_reset(void *state, int64_t length)
{
    (void)length;
    return deflateReset(state) == Z_OK ? 0 : -1;
}

static void
gzip_move(z_stream *z, const struct sl_coder_io *io)
{
    z->next_in = (const Bytef *)io->in;
    z->avail_in = (uInt)io->n_in;
    z->next_out = (Bytef *)io->out;
    z->avail_out = (uInt)io->n_out;
}

static void
gzip_moved(const z_stream *z, struct sl_coder_io *io)
{
    io->in = (const char *)z->next_in;
    io->n_in = z->avail_in;
    io->out = (char *)z->next_out;
    io->n_out = z->avail_out;
}

static enum sl_coded
gzip_run(void *state, struct sl_coder_io *io, enum sl_coder_op op)
{
    static const int flush[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
    z_stream *z = state;
    int rc;

    gzip_move(z, io);
    rc = deflate(z, flush[op]);
    gzip_moved(z, io);
    if (rc == Z_STREAM_END)
        return SL_CODED;
    if (rc != Z_OK && rc != Z_BUF_ERROR) /* the latter: there was nothing left to do */
        return SL_CODED_BAD;
    return io->n_out == 0 || op == SL_CODER_END ? SL_CODED_FULL : SL_CODED;
}

static void
gzip_close(void *state)
{
    deflateEnd(state);
    free(state);
}

static size_t
gzip_size(int level)
{
    (void)level;
    return 270000;
}

static const struct sl_coder gzip_encode = {gzip_open, gzip_reset, gzip_run, gzip_close, gzip_size};

/* ---- and back ---- */

struct gunzip {
    z_stream z;
    int is_between; /* members (RFC 1952, 2.2); the body may end here */
};

static void *
gunzip_open(int level)
{
    struct gunzip *g = calloc(1, sizeof *g);

    (void)level;
    if (g != NULL && inflateInit2(&g->z, WINDOW_GZIP) != Z_OK) {
        free(g);
        return NULL;
    }
    return g;
}

static int
gunzip_reset(void *state, int64_t length)
{
    struct gunzip *g = state;

    (void)length;
    g->is_between = 1;
    return inflateReset(&g->z) == Z_OK ? 0 : -1;
}

/* One step: to the end of the input, of the output or of a member. */
static int
gunzip_step(struct gunzip *g, struct sl_coder_io *io)
{
    int rc;

    gzip_move(&g->z, io);
    rc = inflate(&g->z, Z_SYNC_FLUSH);
    gzip_moved(&g->z, io);
    if (rc == Z_STREAM_END) {
        g->is_between = 1;
        rc = inflateReset(&g->z);
    }
    return rc;
}

static enum sl_coded
gunzip_run(void *state, struct sl_coder_io *io, enum sl_coder_op op)
{
    struct gunzip *g = state;
    int rc = Z_OK;

    if (io->n_in == 0 && g->is_between)
        return SL_CODED;
    do {
        if (io->n_in > 0)
            g->is_between = 0;
        rc = gunzip_step(g, io);
    } while (rc == Z_OK && io->n_in > 0 && io->n_out > 0);
    if (rc != Z_OK && rc != Z_BUF_ERROR)
        return SL_CODED_BAD;
    if (io->n_out == 0)
        return SL_CODED_FULL;
    return op == SL_CODER_END && !g->is_between ? SL_CODED_BAD : SL_CODED;
}

static void
gunzip_close(void *state)
{
    struct gunzip *g = state;

    inflateEnd(&g->z);
    free(g);
}

static size_t
gunzip_size(int level)
{
    (void)level;
    return 42000;
}

static const struct sl_coder gzip_decode = {gunzip_open, gunzip_reset, gunzip_run, gunzip_close,
                                            gunzip_size};

/* ---- the module ---- */

static const struct sl_encoder encoder = {"gzip", 1, &gzip_encode, &gzip_decode};

static const char *
level_check(struct sl_cmd *cmd, void **item)
{
    return sl_encoding_level(cmd, item, 1, 9);
}

static int
gzip_init(const struct sl_module *self)
{
    return sl_encoder_register(self, &encoder);
}

static const struct sl_directive directives[] = {
    SL_ENCODING_ROWS("Gzip"),
    {"GzipLevel", SL_SLOT_NUMBER, SL_IN_ANY, SL_AT(struct sl_encoding_conf, level, int64_t), "4",
     "From 1, fast, to 9, small", "N", level_check, NULL, NULL},
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_RESPONSE(sl_encode_response, SL_LATE, SL_DRY_OK),
    SL_HOOKS_END,
};
SL_MODULE(gzip) = {
    .name = "gzip",
    .conf_size = sizeof(struct sl_encoding_conf),
    .directives = directives,
    .hooks = hooks,
    .init = gzip_init,
};
