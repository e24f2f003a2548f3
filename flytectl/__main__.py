"""Runs ``flytectl`` as ``python -m flytectl``."""

from flytectl.cli import leave, main

leave(main())
