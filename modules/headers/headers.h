/* The parts of mod_headers: each file has its directive's parse function and what its hooks do. */
#ifndef MOD_HEADERS_H
#define MOD_HEADERS_H

#include "sluice/module.h"

struct headers_conf {
    apr_array_header_t *request, *response; /* of struct edit * */
    int security;                           /* enum security */
    void *cors;                             /* struct cors *; NULL: never said */
    apr_array_header_t *cookies;            /* of struct cookie_flags * */
};

/* security.c */
enum security { SECURITY_OFF, SECURITY_BASIC, SECURITY_STRICT };
extern const char *const security_words[];
/* What the response has of itself stays; what tells of the server behind goes. */
void security_apply(struct sl_req *r, enum security level);

/* cors.c */
struct cors;
const char *cors_parse(struct sl_cmd *cmd, void **item);
/* Answers a preflight: SL_DONE; SL_NEXT for all else. */
enum sl_verdict cors_preflight(struct sl_req *r, const struct cors *cors);
void cors_response(struct sl_req *r, const struct cors *cors);

/* cookies.c */
const char *cookie_flags_parse(struct sl_cmd *cmd, void **item);
void cookie_flags_apply(struct sl_req *r, const apr_array_header_t *lines);

#endif
