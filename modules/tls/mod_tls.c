/* TLS: the transport of clients' and servers' connections, and what goes with it.  This file has
 * the rows; tls.h says who does what. */

/*man
NAME
    mod_tls - TLS towards clients and servers
DESCRIPTION
    Listen 443 tls speaks TLS 1.2 and 1.3 with the certificates of TLSCertificate, and
    https:// in ProxyPass or Server speaks it with servers. What is safe needs no directive:
    modern ciphers in the server's order, no renegotiation, no compression, servers
    verified.

    A client's name (SNI) chooses first the VirtualHost, as routing does, then among that
    host's certificates the one that has the name, exactly or as *.suffix; else the host's
    first. Of certificates with the same name and different keys (RSA and ECDSA) the one the
    client can use is shown. A client that sends no name gets the listener's default host,
    its first.

    Certificates are read while the server has its rights, and again when their files
    change: a new pair is used without a reload once it has been checked. The log warns when
    one has 30, 14, 7 and 1 days left; sluice ctl cert [--json] lists them all with their days
    and OCSP responses, sluice ctl metrics has the days as tls_certificate_expiry_days. A client
    that speaks HTTP in clear is answered with 400.

    Handshakes of clients that fail are in the log at level info with their cause: one line a
    minute for each client, then how many more there were.
DIRECTIVES
  TLSCertificate
    TLSCertificate CHAIN [KEY]: a file in PEM form with the certificate and those of its
    issuers, and that of its key, where it is not in the same. Names of files that are read, here
    and in the other directives, are counted from the folder of the configuration file they
    stand in.
    Several lines add up; those of a VirtualHost come behind the ones outside.
    "TLSCertificate -" forgets those.
  TLSProfile
    intermediate, the default, speaks TLS 1.2 and 1.3; modern TLS 1.3 alone.
  TLSProtocols
    The versions, where the profile's are not wanted: TLSv1.2, TLSv1.3 or both.
  TLSCiphers
    The ciphers in order, as OpenSSL names them, with colons between; those that begin with
    TLS_ are for TLS 1.3.
  TLSTickets
    TLSTickets on|off|FILE [rotate=TIME]: session tickets, so that clients come back with a
    shorter handshake. Their keys are the same for all threads, outlive reloads and crashes,
    and are renewed every 8 hours; a ticket is good for two more of these. Where clients show
    certificates none are given, so that each is verified each time.

    Machines that share a FILE of keys take each other's tickets. It holds up to eight keys of
    80 bytes, or up to four of 48, one behind the other, each in the form of nginx's
    ssl_session_ticket_key, of which every file has one: "openssl rand 80" makes one. The first
    writes tickets, all of them read. A changed file is used without a reload; one that holds no
    keys is complained about, and those from before stay. So a key is replaced without a ticket
    lost in two steps, each on all machines: the new one behind the old, then before it. Who has
    the file can read what was said in sessions of TLS 1.2 and as early data: keep it as secret as
    a certificate's key. rotate= says how often its first key is replaced.
  TLSSessionCache
    Sessions of clients that speak TLS 1.2 and take no tickets, or get none (TLSTickets off), so
    that these come back with a shorter handshake, too. They are kept in memory that all
    threads share, over reloads and crashes, for as long as tickets are good, at most a day;
    never in a file. A megabyte has room for some 3,000; where it is full, older ones make place.
    Clients with tickets, all of TLS 1.3 among them, take no room, and memory that is not used
    is not taken. Where clients show certificates none are kept. sluice ctl counters has how
    many were kept (tls_sessions_stored), resumed and missed, and how many had to go early
    (evicted). It is a machine's own: TLSTickets FILE is for several. off keeps none.
  TLSEarlyData
    Takes the request that a client which comes back sends with its first bytes (TLS 1.3,
    0-RTT): its answer is there a round trip sooner. Anybody on the way can send a copy of such
    bytes again, so GET, HEAD and OPTIONS without a body go on at once, with Early-Data: 1 for
    the server, which may answer 425 (Too Early; that is passed on, and no other server is
    tried); all else waits for the end of the handshake, which a copy cannot bring about. Copies
    are known by a memory of hellos that all threads and generations share, and are no early
    data then. It is each machine's own: of several that share a file of keys (TLSTickets) each
    may take a copy once, and for 20 s after its start takes no early data. There is none
    without tickets, or where clients show certificates. %{tls_early_data} tells which requests
    went on early.
  TLSStapling
    on staples an OCSP response to each certificate: the CA's word that it is not revoked, so
    that clients need not ask. It is fetched in the background from the responder that the
    certificate names, at the start and then when half its time is over; a connection
    never waits for it. What cannot be fetched is asked for again, at last every hour, and the
    last good response serves until it ends. It is kept over reloads and crashes. A response
    must be signed for the issuer, which has to be in the chain. Of a revoked certificate
    nothing is stapled, and the log says so. TLSStapling FILE ... takes responses (DER) that
    something else fetches, each for the certificate it is about, and again when a file
    changes.
  TLSClientVerify
    Whether clients must show a certificate: off, optional (one that is shown must be good)
    or require.
  TLSClientCA
    A file with the certificates that may have signed clients' ones, in PEM form. Like that of
    TLSClientCRL it is read again when it changes, and used for connections from then on once
    both fit together; those that are there stay.
  TLSClientCRL
    A file with the lists of certificates that were revoked, in PEM form, of every CA in the
    chain. When one has ended, its CA's clients are refused, and the log says so.
  TLSClientDepth
    How many CAs may stand between a client's certificate and one of TLSClientCA.
  TLSStrictSNI
    Refuses clients that ask for no name, or one that no certificate of the host has.
  TLSPlaceholder
    Starts with a self-signed certificate, and an error in the log, where one of
    TLSCertificate cannot be read; without it that is an error of the configuration.
  TLSOffload
    TLSOffload off|N: N threads of their own make the signatures of handshakes by RSA
    certificates, each of which takes as long as dozens of requests do, so that a storm of such
    handshakes keeps nobody waiting who is connected. Hosts that have an ECDSA certificate, too,
    need no such threads, nor do clients that resume a session. Throughput of handshakes is
    then that of these threads: give as many as there are processors for it.
  TLSKeyLog
    Writes the secrets of every connection to a file, for Wireshark. Whoever has the file
    reads everything: the log says so at each start.
  ProxyTLS
    ProxyTLS [TARGET] [OPTION ...]: how the servers of a target (https://HOST[:PORT], as in
    ProxyPass) are spoken to; without a target, all that have no line of their own. In a
    Balancer the same options stand behind ServerTLS. verify=off takes anybody for the
    server, and the log says so at each start. ca=FILE names who may have signed its
    certificate, instead of the system's CAs. sni=NAME is the name to ask for and to verify,
    instead of the host in the target. cert=FILE and key=FILE are shown to servers that ask.
  HTTPSRedirect
    HTTPSRedirect on|off [port=N]: sends clients that come in clear to the same host and
    path by https, with 301, or 308 where the method is not GET or HEAD.
  HSTS
    HSTS on|off|TIME [subdomains] [preload]: the field Strict-Transport-Security in answers
    over TLS; on is a year.
EXAMPLE
    LoadModule route
    LoadModule tls
    Listen 80
    Listen 443 tls
    TLSCertificate /etc/ssl/site.pem /etc/ssl/site.key
    HTTPSRedirect on
    HSTS on
    ProxyPass https://backend.example.com
    ProxyTLS https://backend.example.com ca=/etc/ssl/own-ca.pem
*/
#include "tls.h"

#include <apr_strings.h>

#include <errno.h>
#include <unistd.h>

static int key_log_fd = -1;

/* ---- settings ---- */

static const char *
protocols_parse(struct sl_cmd *cmd, void **item)
{
    struct tls_protocols *p = apr_pcalloc(sl_cmd_pool(cmd), sizeof *p);
    const char *word;
    int i, version;

    if (sl_cmd_argc(cmd) == 0)
        return "expected TLSv1.2, TLSv1.3 or both";
    for (i = 0; (word = sl_cmd_arg(cmd, i)) != NULL; i++) {
        version = strcasecmp(word, "TLSv1.2") == 0   ? TLS1_2_VERSION
                  : strcasecmp(word, "TLSv1.3") == 0 ? TLS1_3_VERSION
                                                     : 0;
        if (version == 0)
            return sl_cmd_error(cmd, "expected TLSv1.2 or TLSv1.3, found \"%s\"", word);
        p->min = p->min == 0 || version < p->min ? version : p->min;
        p->max = version > p->max ? version : p->max;
    }
    *item = p;
    return NULL;
}

static const char *
ciphers_parse(struct sl_cmd *cmd, void **item)
{
    struct tls_ciphers *c = apr_pcalloc(sl_cmd_pool(cmd), sizeof *c);
    char *text, *name, *last = NULL;

    *item = c;
    if (sl_cmd_argc(cmd) != 1)
        return "expected one word, names with colons between";
    text = apr_pstrdup(sl_cmd_pool(cmd), sl_cmd_arg(cmd, 0));
    for (name = apr_strtok(text, ":", &last); name != NULL; name = apr_strtok(NULL, ":", &last)) {
        const char **to = strncmp(name, "TLS_", 4) == 0 ? &c->suites : &c->list;

        *to = *to == NULL ? name : apr_pstrcat(sl_cmd_pool(cmd), *to, ":", name, NULL);
    }
    return tls_context_check(cmd, c);
}

static const struct sl_option ticket_options[] = {
    {"rotate", SL_SLOT_DURATION, offsetof(struct tls_tickets, rotate_ms), "8h", NULL,
     "how often there is a new key"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
tickets_parse(struct sl_cmd *cmd, void **item)
{
    struct tls_tickets *t = apr_pcalloc(sl_cmd_pool(cmd), sizeof *t);
    const char *word = sl_cmd_arg(cmd, 0), *err;

    t->rotate_ms = (int64_t)8 * 3600 * 1000;
    *item = t;
    if (word == NULL)
        return "expected on, off or the file of the keys";
    t->is_on = strcmp(word, "off") != 0;
    if (t->is_on && strcmp(word, "on") != 0 && (err = tls_ticket_file_parse(cmd, word, t)) != NULL)
        return err;
    if ((err = sl_cmd_options(cmd, 1, ticket_options, t)) != NULL)
        return err;
    return t->rotate_ms >= 1000 ? NULL : "expected rotate= of a second or more";
}

static const char *
depth_check(struct sl_cmd *cmd, void **slot)
{
    (void)cmd;
    return *(int64_t *)(void *)slot >= 0 && *(int64_t *)(void *)slot <= 100
               ? NULL : "expected a number from 0 to 100";
}

static const char *
offload_check(struct sl_cmd *cmd, void **slot)
{
    (void)cmd;
    return *(int64_t *)(void *)slot != 0 && *(int64_t *)(void *)slot <= 64
               ? NULL : "expected off or a number of threads from 1 to 64";
}

/* ---- requests ---- */

/* A host that verifies clients is reached by those who were verified for it, whatever name they
 * shook hands under (RFC 9110, 7.4). */
static enum sl_verdict
host_access(struct sl_req *r, const struct tls_conf *conf, const struct tls *t)
{
    if (conf->client_verify == TLS_VERIFY_OFF || tls_asks_the_same(tls_site_in_use(t)->conf, conf))
        return SL_NEXT;
    return sl_req_fail(r, 0, &sl_cause_no_host, "this host verifies clients, and the connection "
                       "was made for another");
}

static enum sl_verdict
tls_access(struct sl_req *r, const void *confp)
{
    const struct tls_conf *conf = confp;
    struct tls *t = tls_of_req(r);
    enum sl_verdict v = SL_NEXT;

    if (t != NULL) {
        v = host_access(r, conf, t);
        return v == SL_NEXT && !t->is_done ? tls_early_access(r, conf, t) : v;
    }
    if (conf->redirect != NULL)
        v = tls_redirect(r, conf->redirect);
    if (v == SL_NEXT && conf->client_verify == TLS_VERIFY_REQUIRE)
        return sl_req_fail(r, 0, &sl_cause_no_host, "this host verifies clients, and the request "
                           "came in clear");
    return v;
}

/* ---- the process ---- */

void
tls_key_log(const SSL *ssl, const char *line)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s\n", line);

    (void)ssl;
    if (key_log_fd >= 0 && n > 0 && (size_t)n < sizeof text && write(key_log_fd, text, (size_t)n) != n)
        sl_log(SL_ERROR, "TLS0041", "TLSKeyLog: %s", strerror(errno));
}

static const struct tls_conf *
global_conf(struct sl_worker *w)
{
    return sl_scope_conf(sl_worker_global(w), &sl_module_record);
}

static int
tls_check(struct sl_worker *w)
{
    tls_sites_check(w);
    return tls_servers_check(w);
}

static int
tls_begin(struct sl_worker *w)
{
    if (tls_threads_make(w) != 0 || tls_tickets_open(sl_worker_pool(w), global_conf(w)->tickets) != 0 ||
        tls_sessions_open(sl_worker_pool(w), global_conf(w)->session_cache) != 0 ||
        tls_offload_open(w, global_conf(w)->offload) != 0 ||
        (tls_sites_want_early_data() && tls_early_open() != 0) ||
        tls_staples_open(w) != 0 || tls_sites_build() != 0)
        return -1;
    tls_certs_watch(w);
    tls_clients_watch();
    tls_certs_look();
    tls_servers_warn();
    return 0;
}

static int
tls_open_logs(struct sl_worker *w)
{
    const char *path = global_conf(w)->key_log;

    if (path == NULL)
        return 0;
    key_log_fd = sl_log_file(path);
    if (key_log_fd < 0) {
        sl_log(SL_ERROR, "TLS0040", "TLSKeyLog %s: %s", path, strerror(errno));
        return -1;
    }
    sl_log(SL_WARN, "TLS0042", "TLSKeyLog %s: who has this file can read all that is said over TLS", path);
    return 0;
}

static int
tls_ready(struct sl_worker *w)
{
    tls_staples_ready();
    tls_certs_ready(w);
    return tls_tickets_ready(w);
}

static int
tls_drain(struct sl_worker *w)
{
    (void)w;
    tls_staples_drain();
    tls_certs_drain();
    return tls_tickets_drain();
}

static int
tls_exit(struct sl_worker *w)
{
    (void)w;
    tls_tickets_close();
    tls_offload_close();
    tls_staples_close();
    tls_certs_unwatch();
    tls_certs_close();
    if (key_log_fd >= 0)
        close(key_log_fd);
    key_log_fd = -1;
    return 0;
}

static int
tls_init(const struct sl_module *self)
{
    (void)self;
    tls_sessions_register();
    if (sl_provider_register("control", "cert", &tls_cert_command) != 0 ||
        sl_provider_register("gauge", "tls_certificate_expiry_days", &tls_cert_gauge) != 0)
        return -1;
    return sl_provider_register("transport", "tls", &tls_transport);
}

static const char *const profile_words[] = {"modern", "intermediate", NULL};
static const char *const verify_words[] = {"off", "optional", "require", NULL};

#define GH (SL_IN_GLOBAL | SL_IN_HOST)

static const struct sl_directive directives[] = {
    SL_LINES("TLSCertificate", struct tls_conf, certs, tls_cert_parse, GH, "CHAIN [KEY]",
             "A certificate with its chain, and its key"),
    SL_ENUM("TLSProfile", struct tls_conf, profile, "intermediate", GH, profile_words,
            "modern|intermediate", "Which protocols and ciphers are spoken"),
    SL_PARSED("TLSProtocols", struct tls_conf, protocols, protocols_parse, GH, "TLSv1.2 TLSv1.3",
              "Which versions of TLS are spoken"),
    SL_PARSED("TLSCiphers", struct tls_conf, ciphers, ciphers_parse, GH, "NAME:NAME...",
              "Which ciphers are spoken, the preferred one first"),
    SL_PARSED("TLSTickets", struct tls_conf, tickets, tickets_parse, SL_IN_GLOBAL,
              "on|off|FILE [rotate=TIME]", "Whether clients may resume their sessions"),
    {"TLSSessionCache", SL_SLOT_SIZE, SL_IN_GLOBAL, offsetof(struct tls_conf, session_cache), "4m",
     "How much memory sessions have that are resumed without a ticket", "SIZE|off", tls_sessions_check, NULL,
     NULL},
    SL_FLAG("TLSEarlyData", struct tls_conf, early_data, "off", GH,
            "Takes requests of clients that come back before the handshake is over"),
    {"TLSStapling", SL_SLOT_PARSED, GH, offsetof(struct tls_conf, stapling), "off",
     "Whether clients get the CA's word that a certificate is not revoked", "on|off|FILE ...",
     tls_stapling_parse, NULL, NULL},
    SL_ENUM("TLSClientVerify", struct tls_conf, client_verify, "off", GH, verify_words,
            "off|optional|require", "Whether clients show a certificate"),
    SL_PARSED("TLSClientCA", struct tls_conf, client_ca, tls_client_ca_parse, GH, "FILE",
              "Who may have signed clients' certificates"),
    SL_PARSED("TLSClientCRL", struct tls_conf, client_crl, tls_client_crl_parse, GH, "FILE",
              "Which certificates of clients are revoked"),
    {"TLSClientDepth", SL_SLOT_NUMBER, GH, offsetof(struct tls_conf, client_depth), "3",
     "How many CAs may stand between, 0 to 100", "N", depth_check, NULL, NULL},
    SL_FLAG("TLSStrictSNI", struct tls_conf, strict_sni, "off", GH,
            "Refuses clients that ask for a name no certificate has"),
    SL_FLAG("TLSPlaceholder", struct tls_conf, placeholder, "off", SL_IN_GLOBAL,
            "Starts without a certificate that cannot be read"),
    {"TLSOffload", SL_SLOT_NUMBER, SL_IN_GLOBAL, offsetof(struct tls_conf, offload), "off",
     "Threads that sign for RSA certificates", "off|N", offload_check, NULL, NULL},
    {"TLSKeyLog", SL_SLOT_STRING, SL_IN_GLOBAL, offsetof(struct tls_conf, key_log), NULL,
     "Writes the secrets of connections to a file", "FILE", NULL, NULL, NULL},
    SL_LINES("ProxyTLS", struct tls_conf, proxy, tls_proxy_parse, SL_IN_GLOBAL,
             "[TARGET] [verify=] [ca=] [sni=] [cert=] [key=]", "How https:// servers are spoken to"),
    SL_PARSED("HTTPSRedirect", struct tls_conf, redirect, tls_redirect_parse, SL_IN_ANY,
              "on|off [port=N]", "Sends clients that come in clear to https"),
    SL_PARSED("HSTS", struct tls_conf, hsts, tls_hsts_parse, SL_IN_ANY,
              "on|off|TIME [subdomains] [preload]", "Tells clients to stay with https"),
    SL_DIRECTIVES_END,
};

static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(tls_check),
    SL_ON_POST_CONFIG(tls_begin),
    SL_ON_OPEN_LOGS(tls_open_logs),
    SL_ON_READY(tls_ready),
    SL_ON_DRAIN(tls_drain),
    SL_ON_WORKER_EXIT(tls_exit),
    SL_ON_ACCESS(tls_access, SL_EARLY, SL_DRY_OK),
    SL_ON_RESPONSE(tls_hsts_response, SL_MIDDLE, SL_DRY_OK),
    SL_HOOKS_END,
};

SL_MODULE(tls) = {
    .name = "tls",
    .conf_size = sizeof(struct tls_conf),
    .directives = directives,
    .hooks = hooks,
    .variables = tls_variables,
    .init = tls_init,
};
