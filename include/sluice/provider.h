/* Providers: exchangeable parts by group and name.  Registered while modules load (from
 * sl_module.init), looked up from then on; never removed while the process runs.
 *
 *   group                vtable                        example
 *   transport            struct sl_transport           tls
 *   protocol             struct sl_protocol            h2
 *   upstream_protocol    struct sl_upstream_protocol   h2c
 *   target               struct sl_target_provider     balancer
 *   hosts                struct sl_host_lookup         route
 *   balance              struct sl_balance_method      leastconn
 *   encoder              struct sl_encoder             gzip
 *   control              struct sl_control_command     limit
 *   gauge                struct sl_gauge               tls_certificate_expiry_days
 *   resolver             struct sl_resolver            dns
 *   (modules name groups of their own as MODULE/GROUP) */
#ifndef SLUICE_PROVIDER_H
#define SLUICE_PROVIDER_H

/* 0, or -1 when the name is taken. */
int sl_provider_register(const char *group, const char *name, const void *vtable);
const void *sl_provider_find(const char *group, const char *name); /* NULL: none */
/* The i-th name of a group, NULL past the last: for error messages. */
const char *sl_provider_name(const char *group, unsigned i);

#endif
