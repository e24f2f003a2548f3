"""Announces the names of apps in the local network, by Avahi: those below base domains that end in ``.local``.

Multicast DNS (RFC 6762) has no wildcards, so each app's name is announced by itself, as an alias (CNAME) of the name
that Avahi gives the machine. The names are those of the ingress's tables in ``/run/flyted/ingress``, which the daemon
replaces when they change: so it need not know of this program, which runs while there is such a base domain and Avahi
(``units/flyted-mdns.path``), as a user without rights.
"""
