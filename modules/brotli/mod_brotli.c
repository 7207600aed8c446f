/* br by libbrotli.  Its states cannot be reset: each body has a new one, made of memory that
 * the last one gave back. */

/*man
NAME
    mod_brotli - compresses responses with brotli
DESCRIPTION
    As mod_gzip(8), whose page says which responses are compressed and what their fields then
    say, with the coding br: smaller than gzip at the same cost, and known to browsers over TLS.

    Memory: a body being compressed takes 0.6 MB at level 1, 2.2 MB at level 4 and 3.8 MB at
    level 6, one being decompressed up to 17 MB, as the server that compressed it chose. The
    window used here is 256 kB. A thread keeps 8 states of all codings together and has no more
    than 256 MB of them in use.
DIRECTIVES
  Brotli
    Compresses responses in this scope.
  BrotliTypes
    Media types to compress, without parameters; one that ends with a star stands for a family
    (text and all behind the slash), a star alone for all.
  BrotliMinSize
    Bodies known to be shorter are sent as they are.
  BrotliLevel
    0 is fast, 6 is small. 7 to 11 of brotli, which take 10 to 35 MB and hold other requests up,
    are for files compressed once.
  BrotliDecode
    Decompresses what a server sent compressed for clients that do not accept br.
  BrotliPrivate
    off leaves responses alone that set cookies or whose Cache-Control says private or
    no-store: see GzipPrivate.
EXAMPLE
    LoadModule route
    LoadModule brotli
    Listen 80
    Brotli on
    ProxyPass http://127.0.0.1:3000
*/

#include "sluice/module.h"

#include <brotli/decode.h>
#include <brotli/encode.h>

#include <stdlib.h>

#define WINDOW 18 /* 256 KiB */
#define BLOCKS 32 /* given back and kept */

/* ---- memory: what one body gave back, the next gets ---- */

struct block {
    size_t n;
    max_align_t bytes[];
};

struct coder_state {
    int level;
    BrotliEncoderState *encoder;
    BrotliDecoderState *decoder;
    struct block *kept[BLOCKS];
    unsigned n_kept;
};

/* The smallest that fits, unless it is more than twice as large. */
static struct block *
block_kept(struct coder_state *s, size_t n)
{
    struct block *found;
    unsigned i, best = BLOCKS;

    for (i = 0; i < s->n_kept; i++)
        if (s->kept[i]->n >= n && s->kept[i]->n <= 2 * n &&
            (best == BLOCKS || s->kept[i]->n < s->kept[best]->n))
            best = i;
    if (best == BLOCKS)
        return NULL;
    found = s->kept[best];
    s->kept[best] = s->kept[--s->n_kept];
    return found;
}

static void *
block_alloc(void *state, size_t n)
{
    struct block *b = block_kept(state, n);

    if (b == NULL && (b = malloc(sizeof *b + n)) != NULL)
        b->n = n;
    return b != NULL ? b->bytes : NULL;
}

static void
block_free(void *state, void *bytes)
{
    struct coder_state *s = state;
    struct block *b;

    if (bytes == NULL)
        return;
    b = (struct block *)(void *)((char *)bytes - offsetof(struct block, bytes));
    if (s->n_kept < BLOCKS)
        s->kept[s->n_kept++] = b;
    else
        free(b);
}

static void *
brotli_open(int level)
{
    struct coder_state *s = calloc(1, sizeof *s);

    if (s != NULL)
        s->level = level;
    return s;
}

static void
brotli_end(struct coder_state *s)
{
    if (s->encoder != NULL)
        BrotliEncoderDestroyInstance(s->encoder);
    if (s->decoder != NULL)
        BrotliDecoderDestroyInstance(s->decoder);
    s->encoder = NULL;
    s->decoder = NULL;
}

static void
brotli_close(void *state)
{
    struct coder_state *s = state;

    brotli_end(s);
    while (s->n_kept > 0)
        free(s->kept[--s->n_kept]);
    free(s);
}

/* ---- the coder ---- */

static int
brotli_reset(void *state, int64_t length)
{
    struct coder_state *s = state;

    brotli_end(s);
    s->encoder = BrotliEncoderCreateInstance(block_alloc, block_free, s);
    if (s->encoder == NULL)
        return -1;
    BrotliEncoderSetParameter(s->encoder, BROTLI_PARAM_QUALITY, (uint32_t)s->level);
    BrotliEncoderSetParameter(s->encoder, BROTLI_PARAM_LGWIN, WINDOW);
    if (length > 0 && length < UINT32_MAX)
        BrotliEncoderSetParameter(s->encoder, BROTLI_PARAM_SIZE_HINT, (uint32_t)length);
    return 0;
}

static enum sl_coded
brotli_run(void *state, struct sl_coder_io *io, enum sl_coder_op op)
{
    static const BrotliEncoderOperation operations[] = {
        BROTLI_OPERATION_PROCESS, BROTLI_OPERATION_FLUSH, BROTLI_OPERATION_FINISH};
    struct coder_state *s = state;
    const uint8_t *in = (const uint8_t *)io->in;
    uint8_t *out = (uint8_t *)io->out;
    BROTLI_BOOL ok = BrotliEncoderCompressStream(s->encoder, operations[op], &io->n_in, &in,
                                                 &io->n_out, &out, NULL);

    io->in = (const char *)in;
    io->out = (char *)out;
    if (!ok)
        return SL_CODED_BAD;
    if (io->n_in > 0 || BrotliEncoderHasMoreOutput(s->encoder))
        return SL_CODED_FULL;
    if (op == SL_CODER_END)
        return BrotliEncoderIsFinished(s->encoder) ? SL_CODED : SL_CODED_FULL;
    return SL_CODED;
}

static size_t
brotli_size(int level)
{
    return level < 2 ? 600000 : level < 4 ? 1100000 : level < 6 ? 2800000 : 3800000;
}

static const struct sl_coder brotli_encode = {brotli_open, brotli_reset, brotli_run, brotli_close,
                                              brotli_size};

/* ---- and back ---- */

static int
unbrotli_reset(void *state, int64_t length)
{
    struct coder_state *s = state;

    (void)length;
    brotli_end(s);
    s->decoder = BrotliDecoderCreateInstance(block_alloc, block_free, s);
    return s->decoder != NULL ? 0 : -1;
}

static enum sl_coded
unbrotli_run(void *state, struct sl_coder_io *io, enum sl_coder_op op)
{
    struct coder_state *s = state;
    const uint8_t *in = (const uint8_t *)io->in;
    uint8_t *out = (uint8_t *)io->out;
    BrotliDecoderResult rc =
        BrotliDecoderDecompressStream(s->decoder, &io->n_in, &in, &io->n_out, &out, NULL);

    io->in = (const char *)in;
    io->out = (char *)out;
    switch (rc) {
    case BROTLI_DECODER_RESULT_ERROR:
        return SL_CODED_BAD;
    case BROTLI_DECODER_RESULT_SUCCESS:
        return io->n_in == 0 ? SL_CODED : SL_CODED_BAD;
    case BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT:
        return SL_CODED_FULL;
    case BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT:
        break;
    }
    return op == SL_CODER_END ? SL_CODED_BAD : SL_CODED;
}

static size_t
unbrotli_size(int level)
{
    (void)level;
    return 17000000;
}

static const struct sl_coder brotli_decode = {brotli_open, unbrotli_reset, unbrotli_run,
                                              brotli_close, unbrotli_size};

/* ---- the module ---- */

static const struct sl_encoder encoder = {"br", 3, &brotli_encode, &brotli_decode};

static const char *
level_check(struct sl_cmd *cmd, void **item)
{
    return sl_encoding_level(cmd, item, 0, 6);
}

static int
brotli_init(const struct sl_module *self)
{
    return sl_encoder_register(self, &encoder);
}

static const struct sl_directive directives[] = {
    SL_ENCODING_ROWS("Brotli"),
    {"BrotliLevel", SL_SLOT_NUMBER, SL_IN_ANY, SL_AT(struct sl_encoding_conf, level, int64_t), "4",
     "From 0, fast, to 6, small", "N", level_check, NULL, NULL},
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_RESPONSE(sl_encode_response, SL_LATE, SL_DRY_OK),
    SL_HOOKS_END,
};
SL_MODULE(brotli) = {
    .name = "brotli",
    .conf_size = sizeof(struct sl_encoding_conf),
    .directives = directives,
    .hooks = hooks,
    .init = brotli_init,
};
