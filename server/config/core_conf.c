/* The core's own directives.  LoadModule, ModuleDir, Include and Define are rows too, so
 * that -L lists them, but are carried out while the text is read. */
#include "config/core_conf.h"

#include "config/load.h"
#include "config/test_section.h"
#include "http/head.h"
#include "runtime/address.h"
#include "runtime/log.h"
#include "sluice/zone.h"

#include <apr_strings.h>

#include <ctype.h>
#include <stdlib.h>
#include <sys/un.h>

/*man
NAME
    core - the language of the configuration, and what sluice knows without any module
DESCRIPTION
    A line is a directive: its name, and words parted by white space. Names are the same in
    capital and small letters. A line ends without a semicolon; a backslash at its end joins
    the next one. A line whose first letter is # is a comment; elsewhere # is a letter like
    others. Double quotes make one word of what has spaces, and \" is a quote inside them; a
    backslash before another letter stays, and single quotes are letters.

    Sections begin with <NAME ...> and end with </NAME>, each on a line of its own. A directive
    that may stand in <Location> may also stand in the other sections of paths, such as
    <LocationMatch>. Outside all sections it is the default for every host.

    A value holds for its section and those inside it, unless one of them sets another. Lines of
    which there may be several, and lists, add up from the outer section to the inner one; a line
    whose first word is - forgets those of the sections around it. What two directives of
    different names do does not depend on their order.

    SIZE is a number of bytes, with k, m or g for 1024 of them and so on. TIME has a unit: 500ms,
    10s, 5m, 2h, 1d. N is a number. Where it makes sense unlimited or off says that there is no
    limit.

    ${NAME} is replaced when the file is read, by what Define or the environment says. %{NAME}
    is a variable of a request: see below.

    Files of Include are looked for beside the file that includes them, modules in ModuleDir; all
    other relative paths begin at the folder the server was started in. Logs, the pid file and
    the control socket are made by the user who starts the server, before the worker becomes
    User; logs get the mode 0640, and after a rotation -k reopen has them made by that user, too.
SECTIONS
  Test
    <Test "METHOD URL"> says what is expected of a request.  sluice -t tries it, and so do a
    start and a reload, which are refused when something else comes: no request is sent, the
    rules are asked as sluice -E asks them.  The section stands outside all others.
DIRECTIVES
  Backend
    In <Test>: the server that is asked, its address or name as written; of a pool, any of its
    servers.
  Path
    In <Test>: the path the server is asked for.  The query counts where one is written.
  Status
    In <Test>: the status of an answer that needs no server.
  Header
    In <Test>: NAME VALUE, a field of the answer.  Of a server's answer only what is set here
    is known.
  LoadModule
    Loads a module: LoadModule gzip loads mod_gzip.so from the module folder; a second word
    names another file.
  ModuleDir
    Where modules are looked for.
  Include
    Reads other files where it stands; patterns such as sites-*.conf work.
  Define
    Gives ${NAME} a value from here on; names that are not defined come from the
    environment.
  User
    Whom the worker becomes when it was started by root; otherwise it stays who it is.
  Group
    The worker's group; the user's own when it is left out.
  PidFile
    Where the process number of the master is written. A service of systemd has it by default,
    too; under -X otherwise, and for a daemon of another user than root, there is none. A server
    that runs keeps it locked: a second one with the same file does not start.
  ControlSocket
    The socket the running server is spoken to by: sluice -k reload and the like find it by this
    line. Only its owner may use it. By default as with PidFile.
  StateDir
    A folder, by an absolute path, where the master keeps what the operator says at run time
    (sluice ctl server drain), so that it outlives the server: in the file overrides, a line
    each, written anew on every change. It is read at a start, and by -t and -T, which show it
    beside the lines it was said of. A file that is not as it should be is told (SL0270) and left
    alone, and the start goes on without it. The folder is yours to make; only the master writes
    there. Without the line such words hold until the server stops.
  Threads
    How many threads serve; auto, which is the default, takes one for each CPU it may use.
  Listen
    Where clients are accepted: [ADDR:]PORT or unix:/PATH, then the transport (tls), proxy and
    backlog=N.  A client that stays silent is accepted after a second.  With proxy, each
    connection must begin with a header of the PROXY protocol, version 1 or 2, and the client
    is who it names, also for TrustedProxies; a connection without one is closed.  Whoever
    reaches that port can name anybody: it is for the load balancer in front alone.
  ErrorLog
    Where messages go: a file, stderr or syslog. What a daemon writes to stderr once it serves
    is lost. format=json writes one object a line, always valid, with the members time, level,
    id, pid and message, and for a line about a request also request, client, host, method and
    path. The master and the report of a crash write so, too.  In a VirtualHost it is where
    messages about that host's requests go; until the host of a request is known, they go where
    the listener's first host says.
  LogLevel
    The least important message that is written: error, warn, notice (the default), info,
    debug, trace; then MODULE:LEVEL for modules of which more or less is wanted, core for the
    server itself. The module of a message shows in its number. In a VirtualHost it holds for
    messages about that host's requests, in place of the whole line outside; until the host of
    a request is known, what the listener's first host says holds.
  MaxConnections
    How many client connections are held at once; past that no more are accepted until one
    ends.  0: as many as there are descriptors.
  StopTimeout
    How long a stopping server waits for what is under way; off: 30 s for a daemon
    and under systemd, else 3 s.
  DrainIdle
    How long an idle connection that cannot be handed over is kept when the server drains.
  GenerationsMax
    How many generations of the configuration may be alive at once, 2 to 64.
  Timeout
    How long a client may take: for a whole request head, between two reads of a body,
    between two writes of an answer, and between two requests.  Over HTTP/2 it has to take 1 KiB
    of an answer that waits in the time of send=, or all there is.  minrate is the least speed
    of a request body, such as 1k/s, once it was waited for for five seconds.
  KeepaliveRequests
    How many requests a connection may carry.
  Protocols
    Which protocols a listener speaks, the preferred one first; http/1.1 by itself when there is
    no such line.
  LimitLine
    The longest request line.
  LimitHead
    The largest request head, at most 60k.
  LimitFields
    The most header fields of a request, at most 250.
  LimitBody
    The largest request body.
  TrustedProxies
    Peers whose word about the client's address is taken.  Empty by default.
  ProxyForwarded
    How servers learn who asked: on sets X-Forwarded-For, -Proto, -Host and X-Real-IP,
    rfc7239 sets Forwarded, off sets none: what clients say of it reaches servers.
  Satisfy
    Who may pass where several decide, such as Allow and AuthBasic: all, the default, wants each
    of them to grant it; with any one is enough, and the rest is not asked.
  AbortOnClose
    What becomes of a request over HTTP/1 whose client closes its side of the connection while
    its answer is awaited. It cannot be told whether it left or only has no more to say. on, the
    default, takes it as gone: the request ends with 499 and the cause client_gone, its place at
    the server is free again, and a fetch for the cache goes on if others wait for it. off serves
    clients that close their side and read on, such as nc -N; one that left is then noticed when
    something is written to it. A client that resets its connection is gone in any case.
  ServerHeader
    The Server field of answers that bring none of their own; on sends the name sluice, off none.
  ErrorPage
    What the client gets in place of the plain page when the server itself fails a request, for
    a bare Return, and for what ProxyIntercept takes away: statuses between 400 and 599, then a
    file, which is read at start (256k at most; relative to the file the line stands in; its
    suffix gives the content type; file: before an absolute path), or a URL that begins with
    http://, https:// or / and is redirected to (302). Of several lines for a status the last
    holds. Response hooks see the page as any answer.
VARIABLES
    Values in which %{variables} may stand say so in their manual page. One that is not known in
    time is an error when the configuration is read. An absent value is empty, in JSON null.
    Modules bring more: sluice -L lists all.

EXAMPLE
    LoadModule route
    Listen 80
    Listen [::1]:8080
    Timeout header=5s keepalive=30s
    LimitBody 10m
    Redirect 301 /old-page /new-page
    ProxyPass http://127.0.0.1:3000
    <Test "GET http://example.com/old-page">
        Status 301
        Header Location /new-page
    </Test>
*/

static const struct sl_option timeout_options[] = {
    {"header", SL_SLOT_DURATION, offsetof(struct core_conf, header_ms), "10s", NULL,
     "for the whole request head"},
    {"body", SL_SLOT_DURATION, offsetof(struct core_conf, body_ms), "30s", NULL,
     "between two reads of a request body"},
    {"send", SL_SLOT_DURATION, offsetof(struct core_conf, send_ms), "60s", NULL,
     "between two writes of an answer"},
    {"keepalive", SL_SLOT_DURATION, offsetof(struct core_conf, keepalive_ms), "75s", NULL,
     "between two requests"},
    {"minrate", SL_SLOT_RATE, offsetof(struct core_conf, min_rate), "0", NULL,
     "the least speed of a request body, such as 1k/s"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};
static const char *const forwarded_words[] = {"on", "off", "rfc7239", NULL};
static const char *const satisfy_words[] = {"all", "any", NULL};

static const char *
none_parse(struct sl_cmd *cmd, void **item)
{
    (void)cmd;
    *item = NULL;
    return NULL;
}

/* An address without a port is the likeliest slip. */
static const char *
listen_address_refused(struct sl_cmd *cmd, const char *text)
{
    struct sl_sockaddr addr;
    int is_bare = strchr(text, ':') == NULL || text[strlen(text) - 1] == ']';

    if (is_bare && address_parse_host(sl_span(text), &addr))
        sl_cmd_cure(cmd, "write \"Listen %s:80\"", text);
    return "expected a port, ADDRESS:PORT, [V6ADDRESS]:PORT or unix:/PATH";
}

/* "80", ":80", "*:80", "127.0.0.1:80", "[::1]:80": without an address all of them, in both
 * families. */
static const char *
listen_address(struct sl_cmd *cmd, struct listen_conf *l, const char *text)
{
    const char *colon = strrchr(text, ':'), *port = colon != NULL ? colon + 1 : text;
    size_t n = colon != NULL ? (size_t)(colon - text) : 0;
    char *end;
    long number = strtol(port, &end, 10);

    if (!isdigit((unsigned char)*port) || *end != '\0' || number < 1 || number > 65535)
        return listen_address_refused(cmd, text);
    l->port = (int)number;
    if (n == 0 || (n == 1 && *text == '*')) {
        l->family = AF_INET6;
        l->addr.u.in6.sin6_family = AF_INET6;
        l->addr.len = sizeof l->addr.u.in6;
    } else if ((memchr(text, ':', n) != NULL && *text != '[') ||
               !address_parse_host((struct sl_span){text, n}, &l->addr))
        return listen_address_refused(cmd, text);
    l->family = l->addr.u.sa.sa_family;
    if (l->family == AF_INET)
        l->addr.u.in.sin_port = htons((uint16_t)number);
    else
        l->addr.u.in6.sin6_port = htons((uint16_t)number);
    return NULL;
}

static const char *
listen_word(struct sl_cmd *cmd, struct listen_conf *l, const char *word)
{
    if (strncmp(word, "backlog=", 8) == 0) {
        l->backlog = atoi(word + 8);
        return l->backlog > 0 ? NULL : "expected backlog=N with N above 0";
    }
    if (strcmp(word, "proxy") == 0) {
        l->wants_proxy_header = 1;
        return NULL;
    }
    l->transport = sl_provider_find("transport", word);
    if (l->transport != NULL)
        return NULL;
    if (strcmp(word, "tls") == 0)
        sl_cmd_cure(cmd, "write \"LoadModule tls\"");
    else if (strcmp(word, "ssl") == 0 || strcmp(word, "https") == 0)
        sl_cmd_cure(cmd, "it is called tls, and needs LoadModule tls");
    else if (strcmp(word, "http2") == 0 || strcmp(word, "h2") == 0)
        sl_cmd_cure(cmd, "write \"Protocols h2 http/1.1\" on a line of its own");
    else
        sl_cmd_cure(cmd, "write \"LoadModule %s\" if a module of that name brings it", word);
    return sl_cmd_error(cmd, "expected proxy, backlog=N or a transport, found \"%s\", which no loaded "
                        "module brings", word);
}

static const char *
listen_parse(struct sl_cmd *cmd, void **item)
{
    struct listen_conf *l = apr_pcalloc(sl_cmd_pool(cmd), sizeof *l);
    const char *err = NULL, *text = sl_cmd_arg(cmd, 0);
    int i;

    if (text == NULL)
        return "expected [ADDR:]PORT or unix:/PATH";
    l->text = text;
    l->place = sl_cmd_place(cmd);
    l->backlog = 4096;
    if (strncmp(text, "unix:", 5) == 0) {
        l->family = AF_UNIX;
        l->path = text + 5;
        if (l->path[0] != '/' || strlen(l->path) >= sizeof((struct sockaddr_un *)0)->sun_path)
            err = "expected unix: and an absolute path shorter than 108 bytes";
    } else
        err = listen_address(cmd, l, text);
    for (i = 1; i < sl_cmd_argc(cmd) && err == NULL; i++)
        err = listen_word(cmd, l, sl_cmd_arg(cmd, i));
    *item = l;
    return err;
}

static const char *
threads_parse(struct sl_cmd *cmd, void **item)
{
    const char *word = sl_cmd_arg(cmd, 0);
    int n = word != NULL ? atoi(word) : -1;

    *item = NULL;
    if (word == NULL || sl_cmd_argc(cmd) != 1)
        return "expected auto or a number";
    if (strcmp(word, "auto") == 0)
        return NULL;
    *item = (void *)(intptr_t)n;
    return n >= 1 && n <= 256 ? NULL : "expected auto or a number from 1 to 256";
}

static const char *
server_header_parse(struct sl_cmd *cmd, void **item)
{
    const char *word = sl_cmd_arg(cmd, 0);

    if (word == NULL || sl_cmd_argc(cmd) != 1)
        return "expected on, off or a text";
    *item = NULL;
    if (strcmp(word, "off") != 0)
        *item = apr_pstrdup(sl_cmd_pool(cmd), strcmp(word, "on") == 0 ? "sluice" : word);
    return is_field_value(sl_span(word)) ? NULL : "expected a text without control bytes";
}

/* Scalars' parse functions check the value that was just stored. */
static const char *
head_size_check(struct sl_cmd *cmd, void **slot)
{
    (void)cmd;
    return *(int64_t *)(void *)slot >= 1 && *(int64_t *)(void *)slot <= 60 << 10
               ? NULL : "expected a size of at most 60k";
}

static const char *
fields_check(struct sl_cmd *cmd, void **slot)
{
    (void)cmd;
    return *(int64_t *)(void *)slot >= 1 && *(int64_t *)(void *)slot <= 250
               ? NULL : "expected a number from 1 to 250";
}

static const char *
keepalive_check(struct sl_cmd *cmd, void **slot)
{
    (void)cmd;
    return *(int64_t *)(void *)slot != 0 ? NULL : "expected a number of 1 or more, or unlimited";
}

static const char *
generations_check(struct sl_cmd *cmd, void **slot)
{
    (void)cmd;
    return *(int64_t *)(void *)slot >= 2 && *(int64_t *)(void *)slot <= SL_PLACES
               ? NULL : "expected a number from 2 to 64";
}

#define G SL_IN_GLOBAL
#define GH (SL_IN_GLOBAL | SL_IN_HOST)

static const struct sl_directive directives[] = {
    SL_LINES("LoadModule", struct core_conf, unused, none_parse, G, "NAME [FILE]",
             "Loads a module"),
    SL_LINES("ModuleDir", struct core_conf, unused, none_parse, G, "PATH",
             "Where modules are looked for; by default $SLUICE_MODULES, else where they are "
             "installed"),
    SL_LINES("Include", struct core_conf, unused, none_parse, SL_IN_ANY, "GLOB",
             "Reads other files here"),
    SL_LINES("Define", struct core_conf, unused, none_parse, SL_IN_ANY, "NAME VALUE",
             "Gives ${NAME} a value"),
    {"User", SL_SLOT_STRING, G, offsetof(struct core_conf, user), NULL,
     "Whom the worker becomes when root starts the server; by default www-data, else "
     "nobody",
     "NAME", NULL, NULL, NULL},
    {"Group", SL_SLOT_STRING, G, offsetof(struct core_conf, group), NULL,
     "The worker's group; by default that of the user",
     "NAME", NULL, NULL, NULL},
    {"PidFile", SL_SLOT_STRING, G, offsetof(struct core_conf, pid_file), NULL,
     "Where the master's number is written; by default /run/sluice.pid for a daemon "
     "of root",
     "FILE", NULL, NULL, NULL},
    {"ControlSocket", SL_SLOT_STRING, G, offsetof(struct core_conf, control_socket), NULL,
     "The socket the running server is spoken to by; by default /run/sluice.sock for "
     "a daemon of root",
     "FILE", NULL, NULL, NULL},
    {"StateDir", SL_SLOT_STRING, G, offsetof(struct core_conf, state_dir), NULL,
     "Where what is said at run time is kept, to outlive the server; by default nowhere",
     "FOLDER", NULL, NULL, NULL},
    {"Threads", SL_SLOT_PARSED, G, offsetof(struct core_conf, threads), "auto",
     "How many threads serve", "auto|N", threads_parse, NULL, NULL},
    SL_LINES("Listen", struct core_conf, listen, listen_parse, G,
             "[ADDR:]PORT|unix:/PATH [TRANSPORT] [proxy] [backlog=N]", "Where clients are accepted"),
    {"ErrorLog", SL_SLOT_PARSED, GH, offsetof(struct core_conf, error_log), "stderr",
     "Where messages go, and how", "FILE|stderr|syslog [format=text|json]", error_log_parse, NULL,
     NULL},
    {"LogLevel", SL_SLOT_PARSED, GH, offsetof(struct core_conf, log_levels), "notice",
     "The least important message written", "LEVEL [MODULE:LEVEL ...]", log_level_parse, NULL,
     NULL},
    SL_NUMBER("MaxConnections", struct core_conf, max_connections, "0", G,
              "How many client connections are held at once; 0: as many as there are descriptors "
              "for"),
    SL_DURATION("StopTimeout", struct core_conf, stop_timeout, "off", G,
                "How long a stopping server waits for what is under way; off: 30s for a daemon and "
                "under systemd, else 3s"),
    SL_DURATION("DrainIdle", struct core_conf, drain_idle, "10s", G,
                "How long idle connections are kept when draining"),
    {"GenerationsMax", SL_SLOT_NUMBER, G, offsetof(struct core_conf, generations_max), "16",
     "How many generations may be alive at once, 2 to 64", "N", generations_check, NULL, NULL},
    SL_OPTIONS("Timeout", timeout_options, GH, "[header=] [body=] [send=] [keepalive=] [minrate=]",
               "How long a client may take"),
    {"KeepaliveRequests", SL_SLOT_NUMBER, GH, offsetof(struct core_conf, keepalive_requests),
     "unlimited", "How many requests a connection may carry", "N|unlimited", keepalive_check, NULL,
     NULL},
    SL_LIST("Protocols", struct core_conf, protocols, NULL, GH,
            "Which protocols are spoken; by default http/1.1"),
    {"LimitLine", SL_SLOT_SIZE, SL_IN_ANY, offsetof(struct core_conf, limit_line), "8k",
     "The longest request line", "SIZE", head_size_check, NULL, NULL},
    {"LimitHead", SL_SLOT_SIZE, SL_IN_ANY, offsetof(struct core_conf, limit_head), "32k",
     "The largest request head, at most 60k", "SIZE", head_size_check, NULL, NULL},
    {"LimitFields", SL_SLOT_NUMBER, SL_IN_ANY, offsetof(struct core_conf, limit_fields), "100",
     "The most header fields, at most 250", "N", fields_check, NULL, NULL},
    SL_SIZE("LimitBody", struct core_conf, limit_body, "unlimited", SL_IN_ANY,
            "The largest request body"),
    SL_NETS("TrustedProxies", struct core_conf, trusted, "", SL_IN_ANY,
            "Peers whose word about the client is taken; by default none"),
    SL_ENUM("ProxyForwarded", struct core_conf, forwarded, "on", SL_IN_ANY, forwarded_words,
            "on|off|rfc7239", "How servers learn who asked"),
    SL_ENUM("Satisfy", struct core_conf, satisfy, "all", SL_IN_ANY, satisfy_words, "all|any",
            "Whether all who decide on access must grant it, or any"),
    SL_FLAG("AbortOnClose", struct core_conf, abort_on_close, "on", SL_IN_ANY,
            "Gives up what a client waits for when it closes its side of the connection"),
    {"ServerHeader", SL_SLOT_PARSED, SL_IN_ANY, offsetof(struct core_conf, server_header), "off",
     "The Server field of answers without one", "on|off|TEXT", server_header_parse, NULL, NULL},
    SL_LINES("ErrorPage", struct core_conf, error_pages, error_page_parse, SL_IN_ANY,
             "STATUS ... FILE|URL", "What a failure shows to the client"),
    SL_DIRECTIVES_END,
};

const struct sl_module core_module = {
    .name = "core",
    .flags = SL_MODULE_ALWAYS,
    .conf_size = sizeof(struct core_conf),
    .directives = directives,
    .sections = test_sections,
};
