/* TLSStapling in the configuration, and with FILE the responses that somebody else has fetched. */
#include "staple.h"

#include <apr_strings.h>

#include <errno.h>
#include <time.h>
#include <unistd.h>

struct staple_file {
    const char *path;
    struct tls_stapling *of;
    struct tls_text text;
    struct staple_file *next; /* of the same line */
};

static void
file_give(const struct staple_file *f, struct tls_cert *cert, int *n_taken, const char **why)
{
    const unsigned char *der = (const unsigned char *)f->text.at;
    X509 *issuer = tls_ocsp_issuer(cert->pair);
    struct tls_ocsp_said said;
    enum tls_ocsp what = TLS_OCSP_BAD;

    said.why = "there is no issuer in the certificate's chain";
    if (issuer != NULL)
        what = tls_ocsp_check(der, f->text.n, cert->pair->leaf, issuer, time(NULL), &said);
    if (what == TLS_OCSP_BAD)
        *why = said.why;
    else if (what == TLS_OCSP_REVOKED)
        *why = "the certificate is revoked";
    if (what != TLS_OCSP_GOOD)
        return;
    stapled_set(cert->pair->leaf, der, f->text.n, time(NULL), said.next_s);
    ++*n_taken;
}

/* To the certificates it is about, of the hosts its line holds for. */
static void
file_take(const struct staple_file *f)
{
    const char *why = "no host has a certificate here";
    const struct tls_site *site;
    int n_taken = 0, k;
    unsigned i;

    for (i = 0; (site = tls_site_at(i)) != NULL; i++)
        for (k = 0; site->conf->stapling == f->of && site->conf->certs != NULL &&
                    k < site->conf->certs->nelts; k++)
            file_give(f, APR_ARRAY_IDX(site->conf->certs, k, struct tls_cert *), &n_taken, &why);
    if (n_taken == 0)
        sl_log(SL_WARN, "TLS0055", "TLSStapling %s: %s; nothing of it is stapled", f->path, why);
    else
        sl_log(SL_INFO, "TLS0056", "TLSStapling %s: stapled", f->path);
}

static void
file_changed(int fd, void *ctx)
{
    struct staple_file *f = ctx;
    struct tls_text fresh;
    int rc = tls_text_read(fd, &fresh);

    close(fd);
    if (rc != 0)
        return;
    tls_text_free(&f->text);
    f->text = fresh;
    file_take(f);
}

void
staple_files_open(struct tls_stapling *of)
{
    struct staple_file *f;
    int fd;

    for (f = of->files; f != NULL; f = f->next) {
        fd = sl_file_open(f->path, file_changed, f);
        if (fd >= 0)
            close(fd);
        else
            sl_log(SL_WARN, "TLS0057", "TLSStapling %s: %s; changes will not be seen", f->path,
                   strerror(errno));
        file_take(f);
    }
}

void
staple_files_again(const struct tls_stapling *of)
{
    const struct staple_file *f;

    for (f = of->files; f != NULL; f = f->next)
        file_take(f);
}

static apr_status_t
file_forget(void *data)
{
    tls_text_free(&((struct staple_file *)data)->text);
    return APR_SUCCESS;
}

static const char *
file_parse(struct sl_cmd *cmd, struct tls_stapling *of, const char *word)
{
    struct staple_file *f = apr_pcalloc(sl_cmd_pool(cmd), sizeof *f);

    f->path = sl_cmd_path(cmd, word);
    f->of = of;
    if (tls_text_open(f->path, &f->text) != 0) {
        sl_cmd_cure(cmd, "name files with OCSP responses, or write \"TLSStapling on\" to have them "
                    "fetched");
        return sl_cmd_error(cmd, "expected on, off or files: %s: %s", f->path, strerror(errno));
    }
    apr_pool_cleanup_register(sl_cmd_pool(cmd), f, file_forget, apr_pool_cleanup_null);
    if (!tls_ocsp_is_response((const unsigned char *)f->text.at, f->text.n)) {
        sl_cmd_cure(cmd, "\"openssl ocsp ... -respout FILE\" writes one");
        return sl_cmd_error(cmd, "%s holds no OCSP response in DER form", f->path);
    }
    f->next = of->files;
    of->files = f;
    return NULL;
}

const char *
tls_stapling_parse(struct sl_cmd *cmd, void **item)
{
    struct tls_stapling *s = apr_pcalloc(sl_cmd_pool(cmd), sizeof *s);
    const char *word = sl_cmd_arg(cmd, 0), *err = NULL;
    int i;

    *item = s;
    if (word == NULL)
        return "expected on, off or files with OCSP responses";
    s->is_on = strcmp(word, "off") != 0;
    if (!s->is_on || strcmp(word, "on") == 0)
        return sl_cmd_argc(cmd) == 1 ? NULL : "on and off stand alone";
    for (i = 0; err == NULL && (word = sl_cmd_arg(cmd, i)) != NULL; i++)
        err = file_parse(cmd, s, word);
    return err;
}
