/* Bodies encoded and decoded on their way out. */
#ifndef HTTP_ENCODE_H
#define HTTP_ENCODE_H

#include "http/request.h"
#include "sluice/encoder.h"

/* encode_filter.c: puts the filter in; `length` is that of what goes in, -1: unknown. */
void encode_filter_add(struct sl_req *r, const struct sl_coder *coder, int level, int64_t length);
void decode_filter_add(struct sl_req *r, const struct sl_coder *coder);

#endif
