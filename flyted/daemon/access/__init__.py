"""Issues and revokes tokens, updates HAProxy's table of them, and logs browsers in.

A token's digest is stored in the database and, with expiry, app and user, in the ingress's ``tokens.map``: first in
the file, then in the running HAProxy. Calls of Flyte's API go to the gateway, which passes the token on with each
verb on the api socket: there the peer has no rights, only the token's owner has. A browser logs in with a one-time
code (``flytectl login``), gets a cookie for the gateway's pages, and with further codes one cookie for each app, on
that app's host. HAProxy keeps the time of a token's last use in memory, in a table by digest; flyted reads it when it
checks the tokens, and stores the day. It checks when a token expires, when a file that defines users or groups
changes, when the clock is set, and once an hour while there are tokens; once a minute if users come from other
sources (sssd, LDAP).
"""
