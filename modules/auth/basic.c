/* AuthBasic: names and passwords (RFC 7617), compared with a file. */
#include "auth.h"

#include <apr_strings.h>

#include <openssl/crypto.h>

struct basic {
    int is_off;
    const char *realm, *place, *challenge;
    struct auth_file *file;
    int64_t keep_ms;
    int passes;
};

static const struct sl_option options[] = {
    {"cache", SL_SLOT_DURATION, offsetof(struct basic, keep_ms), "5m", NULL,
     "how long a password that was right is not verified again; off: each time"},
    {"pass", SL_SLOT_FLAG, offsetof(struct basic, passes), "off", NULL,
     "whether the server gets Authorization, too"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

int
basic_is_on(const struct basic *b)
{
    return b != NULL && !b->is_off;
}

const char *
basic_line(struct sl_cmd *cmd, void **item)
{
    struct basic *b = apr_pcalloc(sl_cmd_pool(cmd), sizeof *b);
    const char *err;

    *item = b;
    b->place = sl_cmd_place(cmd);
    b->realm = sl_cmd_arg(cmd, 0);
    b->is_off = sl_cmd_argc(cmd) == 1 && strcmp(b->realm, "off") == 0;
    if (b->is_off)
        return NULL;
    if (sl_cmd_argc(cmd) < 2) {
        sl_cmd_cure(cmd, "make the file with \"htpasswd -cB FILE USER\"");
        return "expected a realm and a file of passwords, or off";
    }
    b->challenge = auth_quoted(sl_cmd_pool(cmd), b->realm);
    if (b->challenge == NULL)
        return "expected a realm without control characters";
    b->challenge = apr_pstrcat(sl_cmd_pool(cmd), "Basic realm=", b->challenge,
                               ", charset=\"UTF-8\"", NULL); /* RFC 7617, 2.1 */
    b->keep_ms = 300 * 1000;
    if ((err = sl_cmd_options(cmd, 2, options, b)) != NULL)
        return err;
    return auth_file_read(cmd, sl_cmd_arg(cmd, 1), &passwords_kind, &b->file);
}

/* ---- the hooks ---- */

static enum sl_verdict
ask_again(struct sl_req *r, const struct basic *b, const struct sl_cause *cause, const char *why)
{
    return auth_denied(r, cause, b->challenge,
                       apr_psprintf(sl_req_pool(r), "AuthBasic \"%s\" (%s): %s", b->realm,
                                    b->place, why));
}

static enum sl_verdict
verify(struct sl_req *r, const struct basic *b, struct sl_span user, struct sl_span password)
{
    struct auth_digest d;
    struct auth_req *a = auth_of(r);

    if (sl_req_is_dry(r)) {
        sl_note(r, "AuthBasic \"%s\" (%s) would verify the password of %.*s with %s, and let him "
                "pass if it is right", b->realm, b->place, (int)user.n, user.at,
                auth_file_path(b->file));
        auth_passed(r, AUTH_BASIC, user);
        return SL_NEXT;
    }
    d = auth_digest(b->file, auth_file_contents(b->file, sl_req_loop(r))->version, user, password);
    if (auth_cache_has(&d, sl_loop_now(sl_req_loop(r)))) {
        auth_passed(r, AUTH_BASIC, user);
        return SL_NEXT;
    }
    a->name = user;
    a->verification = verification_begin(r, b->file, user, password, b->keep_ms);
    return SL_WAIT;
}

enum sl_verdict
basic_ask(struct sl_req *r, const void *confp)
{
    const struct basic *b = ((const struct auth_conf *)confp)->basic;
    struct sl_span field, user, password;
    enum sl_verdict v = SL_NEXT;
    unsigned n;

    if (!basic_is_on(b) || auth_is_over(r))
        return SL_NEXT;
    n = auth_credentials(r, &field);
    if (n != 1)
        return ask_again(r, b, n == 0 ? &auth_cause_no_credentials : &auth_cause_bad_credentials,
                         n == 0 ? "no Authorization came" : "there is more than one Authorization");
    switch (basic_parse(sl_req_pool(r), field, &user, &password)) {
    case BASIC_OTHER_SCHEME:
        return ask_again(r, b, &auth_cause_no_credentials, "Authorization has another scheme");
    case BASIC_MALFORMED:
        return ask_again(r, b, &auth_cause_bad_credentials, "Authorization does not parse");
    case BASIC_OK:
        v = verify(r, b, user, password);
        OPENSSL_cleanse((char *)(uintptr_t)password.at, password.n);
    }
    return v;
}

enum sl_verdict
basic_answered(struct sl_req *r, const void *confp)
{
    const struct basic *b = ((const struct auth_conf *)confp)->basic;
    struct auth_req *a = auth_of(r);
    struct verification *v = a->verification;

    if (!basic_is_on(b) || v == NULL)
        return SL_NEXT;
    a->verification = NULL;
    switch (verification_outcome(v)) {
    case AUTH_RIGHT:
        auth_passed(r, AUTH_BASIC, a->name);
        break;
    case AUTH_WRONG:
        return ask_again(r, b, &auth_cause_bad_credentials, "user or password is wrong");
    case AUTH_BUSY:
        return auth_denied(r, &auth_cause_busy, NULL, b->place);
    }
    return SL_NEXT;
}

/* What was meant for this server is not for the one behind it. */
enum sl_verdict
basic_clean(struct sl_req *r, const void *confp)
{
    const struct basic *b = ((const struct auth_conf *)confp)->basic;
    struct sl_span field;

    if (basic_is_on(b) && !b->passes && auth_credentials(r, &field) > 0 &&
        basic_is_scheme(field))
        sl_fields_unset(sl_req_head(r), "Authorization");
    return SL_NEXT;
}
