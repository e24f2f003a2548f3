"""Where the ingress listens, and with which certificate."""
