/* From an accepted socket to the protocol that speaks on it: who connects, where a PROXY header
 * says so; the transport's handshake; which protocol, by ALPN or the first bytes. */
#include "net/greeting.h"

#include "http/request.h"
#include "net/proxy_header.h"
#include "runtime/counter.h"

#include <errno.h>

/* 1: *protocol is the one the first bytes tell; 0: the last, none of the others knows them; -1:
 * too few to tell. */
static int
conn_protocol_of(const struct sl_conn *c, const struct sl_buf *buf,
                 const struct sl_protocol **protocol)
{
    const struct listener *l = c->listener;
    unsigned i;
    int answer = 0;

    for (i = 0; i < l->n_protocols && answer == 0; i++) {
        *protocol = l->protocols[i];
        if (l->protocols[i]->sniff != NULL)
            answer = l->protocols[i]->sniff(buf->bytes, buf->end);
    }
    return answer;
}

/* Several protocols on one listener: the first bytes tell which, and are handed on. */
static void
conn_sniff(struct sl_conn *c, unsigned what)
{
    const struct sl_protocol *protocol = NULL;
    struct sl_buf *buf;
    int answer;
    ssize_t k;

    if (what & SL_TIMEOUT) {
        sl_conn_close(&c);
        return;
    }
    if (c->protocol_data == NULL)
        c->protocol_data = buf_take(c->loop, BUF_SMALL);
    buf = c->protocol_data;
    do { /* a transport may hold more than it hands out at once */
        k = sl_conn_read(c, buf->bytes + buf->end, buf_room(buf));
        if (k == SL_IO_AGAIN)
            return;
        if (k <= 0) {
            sl_conn_close(&c);
            return;
        }
        buf->end += (unsigned)k;
        answer = conn_protocol_of(c, buf, &protocol);
    } while (answer < 0 && buf_room(buf) > 0);
    c->protocol_data = NULL;
    c->protocol = protocol;
    c->on_ready = protocol->ready;
    protocol->open(c, (struct sl_data){buf->bytes, buf->end, buf});
    sl_buf_drop(&buf);
}

/* The protocol agreed on, or the only one; else it stays NULL: the first bytes will tell. */
static void
conn_agree(struct sl_conn *c)
{
    struct listener *l = c->listener;
    const char *alpn = c->transport != NULL && c->transport->alpn != NULL ? c->transport->alpn(c)
                                                                          : NULL;
    unsigned i;

    for (i = 0; i < l->n_protocols && c->protocol == NULL; i++)
        if (l->n_protocols == 1 || (alpn != NULL && strcmp(l->protocols[i]->name, alpn) == 0))
            c->protocol = l->protocols[i];
}

static void
conn_begin(struct sl_conn *c)
{
    conn_agree(c);
    if (c->protocol == NULL) {
        c->on_ready = conn_sniff;
        return;
    }
    c->on_ready = c->protocol->ready;
    c->protocol->open(c, (struct sl_data){NULL, 0, NULL});
}

/* The protocol has begun before the handshake was over, which goes on with each event. */
static void
conn_is_early(struct sl_conn *c, unsigned what)
{
    int rc = what & SL_TIMEOUT ? 0 : c->transport->handshake(c);

    if (rc < 0) {
        sl_conn_close(&c);
        return;
    }
    if (rc == 1)
        c->on_ready = c->protocol->ready;
    c->protocol->ready(c, what);
}

/* The transport's turn before the protocol's; what came behind the handshake is read at once. */
static void
conn_shakes_hands(struct sl_conn *c, unsigned what)
{
    int rc = what & SL_TIMEOUT ? -1 : c->transport->handshake(c);

    if (what & SL_TIMEOUT && sl_conn_failure_has_line(c, "no handshake within Timeout header"))
        sl_log(SL_INFO, "SL0216", "client %.*s: Listen %s %s: no handshake within Timeout header",
               (int)conn_peer_text(c).n, conn_peer_text(c).at, c->listener->conf->text,
               c->transport->name);
    if (rc < 0)
        sl_conn_close(&c);
    if (rc <= 0)
        return;
    if (rc == SL_HANDSHAKE_EARLY) {
        conn_agree(c);
        if (c->protocol == NULL)
            return;
    }
    conn_begin(c);
    if (rc == SL_HANDSHAKE_EARLY)
        c->on_ready = conn_is_early;
    if (!c->io.is_dead && conn_may_read(c))
        c->on_ready(c, SL_READABLE);
}

/* Who connects is known. */
static void
conn_greet(struct sl_conn *c)
{
    if (c->listener->conf->transport != NULL) {
        c->transport = c->listener->conf->transport;
        if (c->transport->open(c, 1) != 0) {
            sl_conn_close(&c);
            return;
        }
    }
    if (hooks_run_conn(c, SL_HOOK_PRE_CONNECTION) == SL_FAIL) {
        sl_conn_close(&c);
        return;
    }
    if (c->transport != NULL && c->transport->handshake != NULL)
        c->on_ready = conn_shakes_hands;
    else
        conn_begin(c);
}

/* ---- the PROXY header ---- */

static void
proxy_refused(struct sl_conn **c, const char *why)
{
    if (sl_conn_failure_has_line(*c, why))
        sl_log(SL_INFO, "SL0217", "peer %.*s: Listen %s proxy: %s", (int)conn_peer_text(*c).n,
               conn_peer_text(*c).at, (*c)->listener->conf->text, why);
    sl_conn_close(c);
}

/* Looked at until it is whole, then taken off the socket: what follows is the transport's. */
static enum parse
proxy_look(struct sl_conn *c, struct sl_sockaddr *from, size_t *size)
{
    char bytes[PROXY_HEADER_MAX];
    ssize_t n = recv(c->io.fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    enum parse parse;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        c->io.ready &= (uint8_t)~SL_READABLE;
        return PARSE_MORE;
    }
    if (n <= 0)
        return PARSE_BAD;
    parse = proxy_header_parse(bytes, (size_t)n, from, size);
    if (parse == PARSE_OK && recv(c->io.fd, bytes, *size, MSG_DONTWAIT) != (ssize_t)*size)
        return PARSE_BAD;
    return parse;
}

static void
conn_hears_proxy(struct sl_conn *c, unsigned what)
{
    struct sl_sockaddr from;
    size_t size;

    if (what & SL_TIMEOUT) {
        proxy_refused(&c, "no PROXY header within Timeout header");
        return;
    }
    switch (proxy_look(c, &from, &size)) {
    case PARSE_MORE:
        return;
    case PARSE_BAD:
        proxy_refused(&c, "no PROXY header where one is expected");
        return;
    case PARSE_OK:
        break;
    }
    if (from.len > 0) {
        c->peer = from;
        c->has_peer_text = 0;
    }
    conn_greet(c);
    if (!c->io.is_dead && conn_may_read(c))
        c->on_ready(c, SL_READABLE);
}

void
conn_accepted(struct sl_loop *loop, struct listener *listener, int fd,
              const struct sl_sockaddr *peer)
{
    struct sl_conn *c = conn_make(loop, fd, 1);

    if (c == NULL)
        return;
    atomic_fetch_add_explicit(&loop->n_conns, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&loop->worker->n_conns, 1, memory_order_relaxed);
    sl_count(loop, COUNT_CONNECTIONS, 1);
    c->listener = listener;
    c->peer = *peer;
    c->io.ready = SL_WRITABLE;
    conn_due(c, listener->scope->core->header_ms);
    if (listener->conf->wants_proxy_header)
        c->on_ready = conn_hears_proxy;
    else
        conn_greet(c);
}

void
greeting_forget(struct sl_conn *c)
{
    if (c->on_ready == conn_sniff && c->protocol_data != NULL)
        sl_buf_drop((struct sl_buf **)&c->protocol_data);
}
