"""Chooses the ingress's ports, and issues its certificate."""
