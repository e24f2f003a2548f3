"""Finds the images of apps, builds them in units of their own, and deletes them when nothing needs them."""
