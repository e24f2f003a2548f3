"""Runs ``flytectl`` as ``python -m flytectl``."""

from flytectl.cli import main

raise SystemExit(main())
