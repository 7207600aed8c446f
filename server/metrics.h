/* sluice ctl metrics. */
#ifndef METRICS_H
#define METRICS_H

/* While the worker starts. */
void metrics_register(void);

#endif
