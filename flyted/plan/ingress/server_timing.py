"""Holds the ingress's rule that adds the duration of a wake to the answer, as ``Server-Timing``. Pure.

A browser's developer tools show it. The duration is that from the request to the first byte of the answer, so the time
that the app itself took is part of it. A request that comes just after a start, before flyted has seen its end, gets
the header too, with the few milliseconds that it took.

Sources: W3C's Server Timing (``dur`` is in milliseconds); HAProxy's configuration.txt (``date``).
"""

from __future__ import annotations

RULES = r"""    # the answer for which an app was woken says how long that took; what the app says stays
    http-request set-var(txn.asked_at) date(0,ms) if { var(txn.server) -m found } !awake !own_pages
    http-response add-header Server-Timing wake;dur=%[date(0,ms),sub(txn.asked_at)] if { var(txn.asked_at) -m found }
"""
"""What a frontend has behind the rules of no_wake.py, which say what is ``awake``."""
