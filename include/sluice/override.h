/* What the operator said at run time in place of what is configured, kept beyond the server's end:
 * the master writes it to the file "overrides" in StateDir.
 *
 * An override belongs to the command it was said by (its owner), has a key among that command's,
 * and says what it was said of: whether it still stands for what is configured now is for the
 * module to decide.  What holds while the server runs is the module's, too, in a zone mostly; the
 * file is for the next start. */
#ifndef SLUICE_OVERRIDE_H
#define SLUICE_OVERRIDE_H

#include "sluice/base.h"

struct sl_override {
    const char *owner; /* a word: "server" */
    const char *key;   /* "web/a" */
    const char *says;  /* in the owner's words: "drain weight=5" */
    const char *of;    /* what was configured then, likewise */
    int64_t at;        /* seconds since the epoch */
};

/* Those the file had when it was read, once, for this configuration, and what this generation has
 * kept and forgotten since; NULL past the last.  From check_config on, under -t, too; thread 0.
 * Good until the next answer of sl_override_keep(). */
const struct sl_override *sl_override_kept(struct sl_worker *w, unsigned i);
/* check_config, for -T: the line it stands for; holds 0: but that line is not what it was. */
void sl_override_claim(struct sl_worker *w, const struct sl_override *o, const char *place,
                       int holds);

enum sl_kept {
    SL_KEPT,         /* it is on the disk */
    SL_KEPT_NOWHERE, /* there is no StateDir, or no master: why says which */
    SL_KEPT_FAILED,  /* why it could not be written */
};
typedef void sl_kept_f(void *data, enum sl_kept how, const char *why);

/* Thread 0, of the generation that serves: keeps it in place of what was kept under the key, or
 * with says NULL forgets that.  The texts are copied.  done, which may be NULL, is called once on
 * this thread, perhaps before this returns. */
void sl_override_keep(const char *owner, const char *key, const char *says, const char *of,
                      sl_kept_f *done, void *data);

#endif
