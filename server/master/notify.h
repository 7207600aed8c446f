/* Telling systemd how far we are (sd_notify(3)'s protocol: a datagram to $NOTIFY_SOCKET). */
#ifndef NOTIFY_H
#define NOTIFY_H

/* state: "READY=1", "RELOADING=1", "STOPPING=1".  Nothing happens without the variable. */
void notify_systemd(const char *state);

#endif
