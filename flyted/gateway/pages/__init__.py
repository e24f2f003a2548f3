"""Serves pages for browsers, and their login."""
