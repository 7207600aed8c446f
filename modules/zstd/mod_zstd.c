/* zstd by libzstd.  The window is kept small: a browser must have it too, and a state of the
 * server's costs several times as much. */

/*man
NAME
    mod_zstd - compresses responses with zstd
DESCRIPTION
    As mod_gzip(8), whose page says which responses are compressed and what their fields then
    say, with the coding zstd (RFC 8878): fast to compress and faster to decompress.

    Memory: a body being compressed takes 1.1 MB at level 1 and 2.1 MB at the others, one being
    decompressed 0.2 MB and its window, of which 8 MB are accepted (RFC 9659). The window of what
    is compressed is 256 kB. A thread keeps 8 states of all codings together and has no more than
    256 MB of them in use.
DIRECTIVES
  Zstd
    Compresses responses in this scope.
  ZstdTypes
    Media types to compress, without parameters; one that ends with a star stands for a family
    (text and all behind the slash), a star alone for all.
  ZstdMinSize
    Bodies known to be shorter are sent as they are.
  ZstdLevel
    1 is fast, 12 is small. Higher ones of zstd would hold other requests up.
  ZstdDecode
    Decompresses what a server sent compressed for clients that do not accept zstd.
  ZstdPrivate
    off leaves responses alone that set cookies or whose Cache-Control says private or
    no-store: see GzipPrivate.
EXAMPLE
    LoadModule route
    LoadModule zstd
    Listen 80
    Zstd on
    ProxyPass http://127.0.0.1:3000
*/

#include "sluice/module.h"

#include <zstd.h>

#include <stdlib.h>

#define WINDOW 18      /* 256 KiB */
#define TABLES 17      /* 2 to the power of this many words each, from this level on: */
#define LEVEL_TABLES 4
#define WINDOW_READ 23 /* RFC 9659, 3: 8 MiB */

/* ---- the coder ---- */

static void *
zstd_open(int level)
{
    ZSTD_CCtx *z = ZSTD_createCCtx();

    if (z != NULL) {
        ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, level);
        ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, WINDOW);
        if (level >= LEVEL_TABLES) {
            ZSTD_CCtx_setParameter(z, ZSTD_c_hashLog, TABLES);
            ZSTD_CCtx_setParameter(z, ZSTD_c_chainLog, TABLES);
        }
    }
    return z;
}

static int
zstd_reset(void *state, int64_t length)
{
    ZSTD_CCtx *z = state;

    ZSTD_CCtx_reset(z, ZSTD_reset_session_only);
    if (length >= 0)
        ZSTD_CCtx_setPledgedSrcSize(z, (unsigned long long)length);
    return 0;
}

static enum sl_coded
zstd_run(void *state, struct sl_coder_io *io, enum sl_coder_op op)
{
    static const ZSTD_EndDirective directives[] = {ZSTD_e_continue, ZSTD_e_flush, ZSTD_e_end};
    ZSTD_inBuffer in = {io->in, io->n_in, 0};
    ZSTD_outBuffer out = {io->out, io->n_out, 0};
    size_t left = ZSTD_compressStream2(state, &out, &in, directives[op]);

    io->in += in.pos;
    io->n_in -= in.pos;
    io->out += out.pos;
    io->n_out -= out.pos;
    if (ZSTD_isError(left))
        return SL_CODED_BAD;
    return io->n_in > 0 || (op != SL_CODER_GO && left > 0) ? SL_CODED_FULL : SL_CODED;
}

static void
zstd_close(void *state)
{
    ZSTD_freeCCtx(state);
}

static size_t
zstd_size(int level)
{
    return level == 1 ? 1150000 : 2100000;
}

static const struct sl_coder zstd_encode = {zstd_open, zstd_reset, zstd_run, zstd_close, zstd_size};

/* ---- and back ---- */

struct unzstd {
    ZSTD_DCtx *z;
    int is_between; /* frames (RFC 8878, 3.1); the body may end here */
};

static void *
unzstd_open(int level)
{
    struct unzstd *u = calloc(1, sizeof *u);

    (void)level;
    if (u != NULL && (u->z = ZSTD_createDCtx()) == NULL) {
        free(u);
        return NULL;
    }
    if (u != NULL)
        ZSTD_DCtx_setParameter(u->z, ZSTD_d_windowLogMax, WINDOW_READ);
    return u;
}

static int
unzstd_reset(void *state, int64_t length)
{
    struct unzstd *u = state;

    (void)length;
    u->is_between = 1;
    return ZSTD_isError(ZSTD_DCtx_reset(u->z, ZSTD_reset_session_only)) ? -1 : 0;
}

static enum sl_coded
unzstd_run(void *state, struct sl_coder_io *io, enum sl_coder_op op)
{
    struct unzstd *u = state;
    ZSTD_inBuffer in = {io->in, io->n_in, 0};
    ZSTD_outBuffer out = {io->out, io->n_out, 0};
    size_t left;

    if (in.size == 0 && u->is_between)
        return SL_CODED;
    do {
        left = ZSTD_decompressStream(u->z, &out, &in);
        u->is_between = left == 0;
    } while (!ZSTD_isError(left) && in.pos < in.size && out.pos < out.size);
    io->in += in.pos;
    io->n_in -= in.pos;
    io->out += out.pos;
    io->n_out -= out.pos;
    if (ZSTD_isError(left))
        return SL_CODED_BAD;
    if (io->n_out == 0 && !(u->is_between && io->n_in == 0))
        return SL_CODED_FULL;
    return op == SL_CODER_END && !u->is_between ? SL_CODED_BAD : SL_CODED;
}

static void
unzstd_close(void *state)
{
    struct unzstd *u = state;

    ZSTD_freeDCtx(u->z);
    free(u);
}

static size_t
unzstd_size(int level)
{
    (void)level;
    return ((size_t)1 << WINDOW_READ) + 400000;
}

static const struct sl_coder zstd_decode = {unzstd_open, unzstd_reset, unzstd_run, unzstd_close,
                                            unzstd_size};

/* ---- the module ---- */

static const struct sl_encoder encoder = {"zstd", 2, &zstd_encode, &zstd_decode};

static const char *
level_check(struct sl_cmd *cmd, void **item)
{
    return sl_encoding_level(cmd, item, 1, 12);
}

static int
zstd_init(const struct sl_module *self)
{
    return sl_encoder_register(self, &encoder);
}

static const struct sl_directive directives[] = {
    SL_ENCODING_ROWS("Zstd"),
    {"ZstdLevel", SL_SLOT_NUMBER, SL_IN_ANY, SL_AT(struct sl_encoding_conf, level, int64_t), "3",
     "From 1, fast, to 12, small", "N", level_check, NULL, NULL},
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_RESPONSE(sl_encode_response, SL_LATE, SL_DRY_OK),
    SL_HOOKS_END,
};
SL_MODULE(zstd) = {
    .name = "zstd",
    .conf_size = sizeof(struct sl_encoding_conf),
    .directives = directives,
    .hooks = hooks,
    .init = zstd_init,
};
