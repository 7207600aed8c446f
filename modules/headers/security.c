/* SecurityHeaders: one word for the fields that keep browsers from helping an attacker, and
 * without those that tell him what runs behind. */
#include "headers.h"

const char *const security_words[] = {"off", "basic", "strict", NULL};

static const struct {
    const char *name;
    const char *basic, *strict; /* NULL: not set */
} security_fields[] = {
    {"X-Content-Type-Options", "nosniff", "nosniff"},
    {"X-Frame-Options", "SAMEORIGIN", "DENY"},
    {"Referrer-Policy", "strict-origin-when-cross-origin", "no-referrer"},
    {"Permissions-Policy", NULL, "camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
    {"Cross-Origin-Opener-Policy", NULL, "same-origin"},
    {"Cross-Origin-Resource-Policy", NULL, "same-origin"},
    {"Content-Security-Policy", NULL,
     "default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; "
     "object-src 'none'"},
};

static const char *const telling_fields[] = {
    "Server", "X-Powered-By", "X-AspNet-Version", "X-AspNetMvc-Version", "X-Generator", "X-Runtime",
};

void
security_apply(struct sl_req *r, enum security level)
{
    struct sl_fields *f = sl_req_response(r);
    size_t i;

    for (i = 0; i < sizeof telling_fields / sizeof telling_fields[0]; i++)
        sl_fields_unset(f, telling_fields[i]);
    for (i = 0; i < sizeof security_fields / sizeof security_fields[0]; i++) {
        const char *name = security_fields[i].name, *value = security_fields[i].basic;

        if (level == SECURITY_STRICT)
            value = security_fields[i].strict;
        if (value != NULL && sl_fields_get(f, name).at == NULL)
            sl_fields_set(f, name, sl_span(value));
    }
    sl_note(r, "SecurityHeaders %s", security_words[level]);
}
