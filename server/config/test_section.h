/* <Test "METHOD URL">: what the operator expects of a request.  Read here, run by tests.c. */
#ifndef CONFIG_TEST_SECTION_H
#define CONFIG_TEST_SECTION_H

#include "sluice/module.h"

/* One line of the section. */
struct test_expect {
    const char *place;
    const char *name;  /* of Header */
    const char *value; /* as written */
};

struct test_section {
    const char *place;
    const char *ask; /* METHOD URL */
    struct test_expect *backend, *path, *status; /* NULL: anything will do */
    apr_array_header_t *fields;                  /* of struct test_expect *; NULL: none */
};

extern const struct sl_section test_sections[];

#endif
