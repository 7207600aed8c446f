/* Gauges: what is so now, part of the metrics beside the counters (zone.h), which say what has
 * happened.  Nobody keeps them: when somebody wants the metrics (sluice ctl metrics), each gauge is
 * asked, in the generation that serves. */
#ifndef SLUICE_GAUGE_H
#define SLUICE_GAUGE_H

#include <stdint.h>

struct sl_label {
    const char *name, *value; /* name NULL: the last */
};

/* Where values go. */
struct sl_gauge_sink;

/* Provider group "gauge", registered under its name ("tls_certificate_expiry_days"). */
struct sl_gauge {
    const char *help; /* one line */
    /* Says each of its values.  On thread 0. */
    void (*read)(struct sl_gauge_sink *to);
};

/* Values of one gauge differ in their labels; NULL: it has one, and no labels. */
void sl_gauge_say(struct sl_gauge_sink *to, int64_t value, const struct sl_label *labels);

#endif
