"""Translates between Flyte's messages and flyted's own values."""
