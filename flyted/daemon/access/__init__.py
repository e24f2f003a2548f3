"""Tokens: who has which, what HAProxy knows of them, and how a browser gets one."""
