/* mod_auth: who asks.
 *
 *   mod_auth.c    rows, hooks, what a request's methods found, its answer when it is denied
 *   basic.c       AuthBasic: names and passwords; basic_field.c how they come
 *   passwords.c   a file of passwords; is this one right?
 *   verify.c      that, on offload threads, each question once, right answers remembered
 *   jwt.c         AuthJWT: tokens; token.c their parts and claims, jwks.c the keys that sign them
 *   forward.c     AuthForward: another server is asked
 *   base64.c      the codings of both
 *   file.c        files that are read again when they change */
#ifndef AUTH_H
#define AUTH_H

#include "sluice/module.h"

#include <jansson.h>
#include <openssl/evp.h>

#include <stdatomic.h>

struct auth_conf {
    const struct basic *basic;     /* NULL or is_off: not asked */
    const struct jwt *jwt;         /* likewise */
    const struct forward *forward; /* likewise */
    apr_array_header_t *require;   /* of const struct requirement * */
};

/* ---- a request ---- */

enum auth_method { AUTH_NONE, AUTH_BASIC, AUTH_JWT, AUTH_FORWARD };

struct auth_req {
    enum auth_method passed; /* the last that found out who asks */
    struct verification *verification; /* NULL: none is waited for */
    struct question *question;         /* NULL: nobody is asked */
    struct sl_span name;               /* of the user whose password is verified */
    const json_t *claims;              /* NULL: no token */
    const char *challenge; /* value of WWW-Authenticate; NULL: the answer has none */
};

struct auth_req *auth_of(struct sl_req *r);
/* A method knows who asks; at NULL: it does not say. */
void auth_passed(struct sl_req *r, enum auth_method method, struct sl_span user);
/* Whether a method need not look any more. */
int auth_is_over(struct sl_req *r);
/* Denies with this cause, and a challenge for its answer (NULL: none).  `why` is for the log. */
enum sl_verdict auth_denied(struct sl_req *r, const struct sl_cause *cause, const char *challenge,
                            const char *why);
/* The first Authorization, and how many there are. */
unsigned auth_credentials(struct sl_req *r, struct sl_span *field);
/* A value in quotes (RFC 9110, 5.6.4); NULL: it cannot stand in a field. */
const char *auth_quoted(apr_pool_t *pool, const char *text);
/* A comma-separated list of field names; NULL and a phrase in *err. */
apr_array_header_t *auth_field_names(struct sl_cmd *cmd, const char *text, const char **err);

extern const struct sl_cause auth_cause_no_credentials, auth_cause_bad_credentials,
    auth_cause_forbidden, auth_cause_busy, auth_cause_bad_token, auth_cause_two_credentials,
    auth_cause_refused, auth_cause_unasked, auth_cause_unclear;

/* ---- files ---- */

#define AUTH_FILE_MAX (4 << 20)
#define AUTH_WHY_MAX 160

/* What a file held when it was read: immutable, counted. */
struct auth_contents {
    atomic_uint n_holders;
    uint64_t version; /* of all contents in this process, no two are the same */
    void *parsed;
    void (*forget)(void *parsed);
};

/* How a kind of file is read: `text` ends with NUL.  NULL, and in `why` what is wrong. */
struct auth_file_kind {
    void *(*parse)(struct sl_span text, char why[AUTH_WHY_MAX]);
    void (*forget)(void *parsed);
};

/* A file a line names: read with it and again when it changes. */
struct auth_file;
const char *auth_file_read(struct sl_cmd *cmd, const char *path, const struct auth_file_kind *kind,
                           struct auth_file **file);
const char *auth_file_path(const struct auth_file *f);
/* The present contents, as this loop's thread knows them: until its hook or its mail returns,
 * unless they are held. */
struct auth_contents *auth_file_contents(const struct auth_file *f, const struct sl_loop *loop);
/* Any thread. */
void auth_contents_hold(struct auth_contents *c);
void auth_contents_drop(struct auth_contents **c);
/* While the worker has its rights and no threads yet: from here on changes are seen. */
void auth_files_watch(struct sl_worker *w);

/* Bytes written to `to`, which has room for 3/4 of in.n; -1: it does not parse. */
int base64_decode(struct sl_span in, char *to);    /* RFC 4648, 4, padded */
int base64url_decode(struct sl_span in, char *to); /* RFC 4648, 5, not padded (RFC 7515, 2) */

/* ---- passwords ---- */

extern const struct auth_file_kind passwords_kind;
struct passwords;
/* The hash of this user, or of another one, always the same, for a user who is unknown: he
 * costs as much as those.  "" only where the file has no user. */
const char *passwords_hash(const struct passwords *p, struct sl_span user, int *is_known);
/* Whether `password` has this hash.  Takes as long as the hash's method wants: milliseconds. */
int password_is(const char *password, const char *hash);

/* Whether a field's value begins with "Basic ". */
int basic_is_scheme(struct sl_span field);
/* User and password of a field's value "Basic ...", in `pool` (RFC 7617, 2). */
enum basic_parse { BASIC_OK, BASIC_OTHER_SCHEME, BASIC_MALFORMED };
enum basic_parse basic_parse(apr_pool_t *pool, struct sl_span field, struct sl_span *user,
                             struct sl_span *password);

/* ---- verifying ---- */

/* Of a secret, the file it was compared with and that file's version, under a key of this
 * process: says nothing about the secret. */
struct auth_digest {
    uint64_t word[4];
};
struct auth_digest auth_digest(const struct auth_file *f, uint64_t version, struct sl_span a,
                               struct sl_span b);

/* What was found right lately.  Any thread, no lock. */
int auth_cache_has(const struct auth_digest *d, int64_t now_ms);
void auth_cache_add(const struct auth_digest *d, int64_t until_ms);

/* A password being verified for the request, which waits; said when it goes on. */
enum auth_outcome { AUTH_WRONG, AUTH_RIGHT, AUTH_BUSY /* too many wait */ };
struct verification *verification_begin(struct sl_req *r, struct auth_file *file,
                                        struct sl_span user, struct sl_span password,
                                        int64_t keep_ms);
enum auth_outcome verification_outcome(const struct verification *v);
/* `home`: the loop of thread 0, which ends last. */
void verify_open(struct sl_loop *home);
/* When no thread runs any more. */
void verify_close(void);

/* ---- tokens ---- */

/* A compact JWS (RFC 7515, 3.1), decoded into `pool`. */
struct token {
    struct sl_span signed_part; /* the bytes the signature is of */
    struct sl_span signature;
    const char *alg, *kid; /* kid NULL: none */
    json_t *header, *claims;
};
/* NULL, or what is wrong.  Both objects are pool's. */
const char *token_parse(apr_pool_t *pool, struct sl_span text, struct token *t);

struct claims_wanted {
    const char *iss, *aud; /* NULL: any */
    int64_t leeway_ms;
    int needs_exp;
};
/* NULL, or what is wrong. */
const char *claims_check(const json_t *claims, const struct claims_wanted *want, int64_t now_us);
/* Those of a token that was found good. */
const json_t *claims_decode(apr_pool_t *pool, struct sl_span signed_part);
/* The claim of this name, or, with dots, of that path; NULL: none. */
const json_t *claim_find(const json_t *claims, struct sl_span path);

extern const struct auth_file_kind jwks_kind;
struct jwks;
/* NULL, or why the signature is not one of these keys'. */
const char *jwks_verify(const struct jwks *keys, const struct token *t);

/* ---- methods ---- */

sl_parse_f basic_line, jwt_line, forward_line;
int basic_is_on(const struct basic *b);
int jwt_is_on(const struct jwt *j);
int forward_is_on(const struct forward *f);
sl_req_f basic_ask, basic_answered, basic_clean, jwt_access, jwt_clean;
sl_req_f forward_ask, forward_answered;
sl_variable_f jwt_variable;
/* The challenge of a token that does not suffice. */
const char *jwt_insufficient(struct sl_req *r, const struct jwt *j);

#endif
