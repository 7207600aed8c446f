/* Encoders: content codings (RFC 9110, 8.4.1) as exchangeable parts.
 *
 * A module registers an encoder for its coding, has the rows of SL_ENCODING_ROWS() and one of its
 * own for the level, and one response hook, sl_encode_response().  One negotiation holds for all:
 * of the encoders that are on in the scope, the first speaks for the others, and the best the
 * client accepts is used.
 *
 * A coder turns bytes into others.  A state of it serves one body at a time, on one thread at a
 * time; the core keeps those that were used for the next body. */
#ifndef SLUICE_ENCODER_H
#define SLUICE_ENCODER_H

#include "sluice/conf.h"

/* Moved on by run(): what is left to read, and the room left to write. */
struct sl_coder_io {
    const char *in;
    size_t n_in;
    char *out;
    size_t n_out;
};

enum sl_coder_op {
    SL_CODER_GO,    /* more will follow */
    SL_CODER_FLUSH, /* what was given must be readable at the other end */
    SL_CODER_END,   /* nothing follows */
};

enum sl_coded {
    SL_CODED,      /* all input is taken and the operation done */
    SL_CODED_FULL, /* no room in `out`: call again, with the same operation */
    SL_CODED_BAD,  /* the input does not decode, or memory is short */
};

struct sl_coder {
    void *(*open)(int level); /* NULL without memory */
    /* Before each body, the first too; its length if known, else -1.  0 or -1. */
    int (*reset)(void *state, int64_t length);
    enum sl_coded (*run)(void *state, struct sl_coder_io *io, enum sl_coder_op op);
    void (*close)(void *state);
    size_t (*size)(int level); /* bytes a state takes at most */
};

/* What is configured for an encoder in a scope: the module's conf struct, whole. */
struct sl_encoding_conf {
    int is_on;
    int decodes;      /* for clients that do not accept what the server sent */
    int with_private; /* also responses that set cookies or are private */
    apr_array_header_t *types; /* of const char *; "text" + "/" + "*" and "*" are known */
    int64_t min;               /* bytes; where the length is known */
    int64_t level;
};

#define SL_ENCODING_TYPES                                                                    \
    "text/html text/css text/plain text/xml text/javascript text/csv text/markdown "         \
    "application/javascript application/json application/manifest+json "                     \
    "application/ld+json application/problem+json application/xml application/xhtml+xml "    \
    "application/rss+xml application/atom+xml application/wasm image/svg+xml"

/* The rows all encoders have, "Gzip", "GzipTypes" and so on.  build/mkrows.awk reads them here. */
#define SL_ENCODING_ROWS(prefix)                                                             \
    SL_FLAG(prefix "", struct sl_encoding_conf, is_on, "off", SL_IN_ANY,                     \
            "Compresses responses in this scope"),                                           \
    SL_LIST(prefix "Types", struct sl_encoding_conf, types, SL_ENCODING_TYPES, SL_IN_ANY,    \
            "Media types to compress"),                                                      \
    SL_SIZE(prefix "MinSize", struct sl_encoding_conf, min, "1k", SL_IN_ANY,                 \
            "Bodies known to be shorter are sent as they are"),                              \
    SL_FLAG(prefix "Decode", struct sl_encoding_conf, decodes, "off", SL_IN_ANY,             \
            "Decompresses for clients that do not accept the coding"),                       \
    SL_FLAG(prefix "Private", struct sl_encoding_conf, with_private, "on", SL_IN_ANY,        \
            "Whether responses are compressed that set cookies or are private")

/* For the parse function of the level's row. */
const char *sl_encoding_level(struct sl_cmd *cmd, void **item, int least, int most);

struct sl_encoder {
    const char *coding; /* the token of Content-Encoding */
    unsigned rank;      /* of codings a client likes equally, the highest is used */
    const struct sl_coder *encode, *decode;
};

/* While modules load, from sl_module.init of the module whose conf struct is a struct
 * sl_encoding_conf; also a provider "encoder" under its coding.  0, or -1 when the coding is
 * taken. */
int sl_encoder_register(const struct sl_module *self, const struct sl_encoder *encoder);
/* The response hook of an encoder's module, late: decodes or encodes, or leaves alone. */
enum sl_verdict sl_encode_response(struct sl_req *r, const void *conf);

/* ---- bodies that are there in a coding already ----
 *
 * Who answers with a body that he has encoded, too, offers it, and sl_encode_response() takes it
 * where it would have encoded on the way with the same coding and level.  So who gets what, and
 * what the fields say, is decided in one place. */
struct sl_encoded {
    const struct sl_encoder *encoder;
    int level;
    int64_t length;
    struct sl_span body; /* of an answer by sl_respond(); at NULL: its source will give it */
    int is_taken;        /* the core's: the answer has this body, and not the other */
    uint64_t facts;      /* the core's: what sl_encoding_expect() went by */
};
/* With what an answer of this status and length, with the fields that r's has so far, will be
 * encoded unless later hooks change it: sets encoder and level, or encoder NULL where it leaves as
 * it is. */
void sl_encoding_expect(struct sl_req *r, int status, int64_t length, struct sl_encoded *e);
/* What was expected is there.  Before sl_respond() or sl_respond_from() with the body as it is;
 * `e` lives as long as r. */
void sl_encoding_offer(struct sl_req *r, struct sl_encoded *e);

/* How much a client likes a coding by its Accept-Encoding (RFC 9110, 12.5.3), 0 to 1000; 0:
 * not at all.  `field` at NULL: there is none, and only "identity" is liked.  The coding
 * "identity" is liked a little (1) unless the field says otherwise. */
unsigned sl_encoding_quality(struct sl_span field, struct sl_span coding);

#endif
