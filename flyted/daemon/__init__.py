"""The daemon ``flyted``: it runs as root without capabilities, and connects ``plan`` to ``host``.

There is one loop, and one planner. Whatever may change the plan (a unit's signal, a verb, a GPU's answer, time, a
clock that was set) requests a pass, by the event that ``__main__.py`` passes to all parts; parts that need the
decisions of passes listen (``loop.Loop.heard``). That builds and removals never run at the same time is the planner's
decision, and no lock's.

The daemon imports only Python packages of the distribution, so that the distribution patches them. The Flyte SDK, uv
and whatever else the distribution lacks are vendored, pinned by hash, and never imported by the daemon.
"""
