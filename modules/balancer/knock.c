/* A server whose rest is over is tried by a connection of its own first, and by a request only when
 * that came about: no client waits for one that is not there. */
#include "balancer.h"

#define KNOCK_MS 5000 /* nobody waits for it */

static void
knock_over(struct sl_conn *c, unsigned what)
{
    struct sl_server *s = *sl_conn_protocol_data(c);
    struct moment at = moment_of(sl_loop_self());

    sl_conn_close(&c);
    if (what & SL_TIMEOUT)
        health_tell(s, HEALTH_PROBE_FAILED, "no connection in time", at);
    else if (what & SL_WRITABLE)
        health_tell(s, HEALTH_PROBE_REACHED, "a connection was made", at);
    else
        health_tell(s, HEALTH_PROBE_FAILED, "the connection is refused or fails", at);
}

void
knock(struct sl_server *s, struct sl_loop *loop)
{
    const char *why;
    struct sl_conn *c = sl_server_open(loop, s, 0, knock_over, s, &why);

    if (c == NULL)
        health_tell(s, HEALTH_PROBE_FAILED, why, moment_of(loop));
    else
        sl_conn_timeout(c, KNOCK_MS);
}
