"""The ingress: what HAProxy shall serve, in HAProxy's language, and what its answers mean."""
