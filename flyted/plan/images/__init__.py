"""Images: what Flyte's ImageSpec asks for, what a venv can honour, and the units that build and remove one."""
