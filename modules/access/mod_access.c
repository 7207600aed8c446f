/* Allow, Deny and AccessFile are rules of one list: the first that names the client decides.  The
 * list of the innermost scope that has any holds alone, so that what a location says can be read
 * off its own lines. */

/*man
NAME
    mod_access - lets clients in or keeps them out, by address or condition
DESCRIPTION
    The lines Allow, Deny and AccessFile of a scope are asked in the order they are written in,
    whichever they are; the first that names the client decides. Where none does, a scope with
    an Allow (or AccessFile allow) keeps the client out, and one that only denies lets it in.
    The innermost scope that has such lines decides alone: those of the scopes around it are not
    asked. "Allow all" alone lets everybody in again.

    Under "Satisfy any" (sluice-core has it) a client that an Allow names passes without a
    password, and one that is kept out here may still pass with one. Where no line names a client
    and none allows, there is no opinion: the password decides.

    Who is kept out is answered with 403. The line that decided is in the error log (at level
    info) and in what sluice -E prints.

    The client is the peer, or whom a peer in TrustedProxies says it asks for. An IPv4 client of
    an IPv6 socket is an IPv4 client. One that comes by a Unix socket and was not forwarded has
    no address: only the word all names it.

    Networks are kept in radix trees, so lists may be long: one of 100,000 takes 5 MB and some
    0.1 microseconds a request.
DIRECTIVES
  Allow
    Allow NET ... [if=CONDITION]: addresses, networks (10.0.0.0/8, 2001:db8::/32) or all. With
    if= the line is passed over where the condition does not hold (mod_route has the language).
  Deny
    Deny NET ... [if=CONDITION]: the same, for those who are kept out.
  AccessFile
    AccessFile allow|deny FILE [if=CONDITION]: the networks of a file, one a line; what stands
    behind "#" or ";" is comment. A name without a slash in front is relative to the
    configuration file. The file is read again when it changes, also where only root may read
    it; when a line is no network the log says which, and the networks from before are kept. Best
    write a new file and rename it. Lines that name the same file share it.
EXAMPLE
    LoadModule route
    LoadModule access
    Listen 80
    AccessFile deny /etc/sluice/blocked.txt
    <Location "/admin/">
        Allow 10.0.0.0/8 192.168.1.7
        Allow all if="%{req:X-Token} == 's3cret'"
        Deny all
    </Location>
    ProxyPass http://127.0.0.1:3000
*/
#include "access.h"

#include <apr_strings.h>

#include <strings.h>

struct access_conf {
    apr_array_header_t *rules; /* struct rule *; NULL: none */
};

/* One line.  It names whom `networks` or `file` has; everybody where is_all is set. */
struct rule {
    int is_allow, is_all;
    struct access_tree *networks; /* NULL: none */
    struct access_file *file;     /* NULL: none */
    struct sl_cond *condition;    /* NULL: none */
    const char *place;
    const char *text; /* "Allow 10.0.0.0/8" */
};

static const struct sl_cause access_denied = {"ACCESS0010", "access_denied", 403,
                                              "the client may not ask for this"};

/* ---- the lines ---- */

static struct rule *
rule_make(struct sl_cmd *cmd, const char *name)
{
    struct rule *rule = apr_pcalloc(sl_cmd_pool(cmd), sizeof *rule);
    int i;

    rule->place = sl_cmd_place(cmd);
    rule->text = name;
    for (i = 0; i < sl_cmd_argc(cmd); i++)
        rule->text = apr_pstrcat(sl_cmd_pool(cmd), rule->text, " ", sl_cmd_arg(cmd, i), NULL);
    return rule;
}

/* *n: the arguments before if=CONDITION, which is the last one where there is one. */
static const char *
rule_condition(struct sl_cmd *cmd, struct rule *rule, int *n)
{
    int last = sl_cmd_argc(cmd) - 1;
    const char *word = last >= 0 ? sl_cmd_arg(cmd, last) : "", *err;

    *n = last + 1;
    if (strncmp(word, "if=", 3) != 0)
        return NULL;
    *n = last;
    err = sl_cmd_cond(cmd, word + 3, SL_PHASE_ROUTED, &rule->condition);
    return err != NULL ? sl_cmd_error(cmd, "if: %s", err) : NULL;
}

static apr_status_t
networks_end(void *data)
{
    struct rule *rule = data;

    access_tree_free(&rule->networks);
    return APR_SUCCESS;
}

static const char *
networks_none(struct sl_cmd *cmd, const char *word)
{
    if (strcasecmp(word, "from") == 0)
        sl_cmd_cure(cmd, "leave out \"from\": the networks stand right behind the name");
    else if (strncmp(word, "if=", 3) == 0)
        sl_cmd_cure(cmd, "there is one if=CONDITION, at the end of the line, behind networks or all");
    else if (strchr(word, '/') == NULL && strpbrk(word, ":0123456789") == NULL)
        sl_cmd_cure(cmd, "names are not looked up: write the addresses they have");
    return "expected an address, a network such as 10.0.0.0/8, or all";
}

static const char *
rule_networks(struct sl_cmd *cmd, struct rule *rule, int n)
{
    struct access_network *nets =
        apr_pcalloc(sl_cmd_pool(cmd), (size_t)(n + 1) * sizeof *nets);
    size_t n_nets = 0;
    int i;

    for (i = 0; i < n; i++) {
        const char *word = sl_cmd_arg(cmd, i);

        if (strcmp(word, "all") == 0)
            rule->is_all = 1;
        else if (!access_network_parse(sl_span(word), &nets[n_nets++]))
            return networks_none(cmd, word);
    }
    if (n_nets == 0)
        return NULL;
    if ((rule->networks = access_tree_make(nets, n_nets)) == NULL)
        return "there is no memory for its networks";
    apr_pool_cleanup_register(sl_cmd_pool(cmd), rule, networks_end, apr_pool_cleanup_null);
    return NULL;
}

static const char *
networks_parse(struct sl_cmd *cmd, const char *name, int is_allow, void **item)
{
    struct rule *rule = rule_make(cmd, name);
    const char *err;
    int n;

    rule->is_allow = is_allow;
    *item = rule;
    if ((err = rule_condition(cmd, rule, &n)) != NULL)
        return err;
    if (n == 0)
        return "expected an address, a network such as 10.0.0.0/8, or all";
    return rule_networks(cmd, rule, n);
}

static const char *
allow_parse(struct sl_cmd *cmd, void **item)
{
    return networks_parse(cmd, "Allow", 1, item);
}

static const char *
deny_parse(struct sl_cmd *cmd, void **item)
{
    return networks_parse(cmd, "Deny", 0, item);
}

static const char *
file_parse(struct sl_cmd *cmd, void **item)
{
    struct rule *rule = rule_make(cmd, "AccessFile");
    const char *word, *err;
    int n;

    *item = rule;
    if ((err = rule_condition(cmd, rule, &n)) != NULL)
        return err;
    word = n > 0 ? sl_cmd_arg(cmd, 0) : "";
    rule->is_allow = strcmp(word, "allow") == 0;
    if (n != 2 || (!rule->is_allow && strcmp(word, "deny") != 0))
        return "expected allow or deny, and a file";
    return access_file_get(cmd, sl_cmd_arg(cmd, 1), &rule->file);
}

/* ---- requests ---- */

/* addr NULL: the client has none. */
static int
rule_names(const struct rule *rule, const struct access_address *addr)
{
    if (rule->is_all || addr == NULL)
        return rule->is_all;
    return rule->file != NULL ? access_file_has(rule->file, addr)
                              : access_tree_has(rule->networks, addr);
}

/* 1 or 0; -1: the condition cannot be decided. */
static int
rule_holds(struct sl_req *r, const struct rule *rule, const struct access_address *addr)
{
    int holds = rule_names(rule, addr);
    const char *why = holds ? "names the client" : "does not name the client";

    if (holds && rule->condition != NULL) {
        holds = sl_cond_holds(rule->condition, r);
        why = holds ? why : "the condition does not hold";
    }
    sl_note(r, "%s %s: %s", rule->place, rule->text, why);
    return holds;
}

/* ctx: the rule that denies. */
static enum sl_verdict
deny_named(struct sl_req *r, void *ctx)
{
    const struct rule *rule = ctx;

    return sl_req_fail(r, 0, &access_denied, "%s %s", rule->place, rule->text);
}

/* ctx: the last rule of a list in which none named the client. */
static enum sl_verdict
deny_unnamed(struct sl_req *r, void *ctx)
{
    const struct rule *last = ctx;

    return sl_req_fail(r, 0, &access_denied, "no line up to %s names the client", last->place);
}

static enum sl_verdict
access_decide(struct sl_req *r, const void *confp)
{
    const struct access_conf *conf = confp;
    struct rule *rule = NULL;
    struct access_address addr;
    int has = access_address_of(sl_req_client(r), &addr), holds, allows = 0, i;

    for (i = 0; conf->rules != NULL && i < conf->rules->nelts; i++) {
        rule = APR_ARRAY_IDX(conf->rules, i, struct rule *);
        allows |= rule->is_allow;
        holds = rule_holds(r, rule, has ? &addr : NULL);
        if (holds < 0)
            return sl_req_fail(r, 0, &sl_cause_condition_limit, "%s", rule->place);
        if (holds)
            return rule->is_allow ? sl_access_granted(r) : sl_access_denied(r, deny_named, rule);
    }
    if (!allows)
        return SL_NEXT;
    sl_note(r, "no line names the client, and there are some that allow: denied");
    return sl_access_denied(r, deny_unnamed, rule);
}

static const struct sl_directive directives[] = {
    SL_RULES("Allow", struct access_conf, rules, allow_parse, SL_IN_ANY,
             "NET ...|all [if=CONDITION]", "Lets these clients in"),
    SL_RULES("Deny", struct access_conf, rules, deny_parse, SL_IN_ANY,
             "NET ...|all [if=CONDITION]", "Keeps these clients out"),
    SL_RULES("AccessFile", struct access_conf, rules, file_parse, SL_IN_ANY,
             "allow|deny FILE [if=CONDITION]", "Lets in or keeps out the networks of a file"),
    SL_DIRECTIVES_END,
};

/* In the middle: a preflight of CORS, which carries nothing to decide by, is answered before. */
static const struct sl_hook hooks[] = {
    SL_ON_POST_CONFIG(access_files_watch),
    SL_ON_ACCESS(access_decide, SL_MIDDLE, SL_DRY_OK),
    SL_HOOKS_END,
};

SL_MODULE(access) = {
    .name = "access",
    .conf_size = sizeof(struct access_conf),
    .data_size = sizeof(struct access_data),
    .directives = directives,
    .hooks = hooks,
};
