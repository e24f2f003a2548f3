"""Decides about GPUs: which app gets which, which app has to sleep for it, and when memory is free again."""
