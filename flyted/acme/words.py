"""Defines the words that flyted and the program that runs lego share. It imports nothing of either."""

from __future__ import annotations

OURS = "flyted-acme: "
"""How a line of the program begins."""
CERTIFICATE = "certificate "
"""What comes then in the last lines, which have the certificate and its chain: parts of the PEM, in base64."""
FOLDER = "/run/lego"
"""Where lego writes: in memory, and the unit's alone."""
JOB = "job"
"""The credential with the job, as JSON of the following."""
SERVER = "server"
"""The address of the authority's directory (RFC 8555 7.1.1)."""
SERVER_CA = "server_ca"
"""The certificates by which the authority's server is trusted, as PEM; "": those of the machine."""
EMAIL, ACCOUNT = "email", "account"
"""The account: its address, and its key as PEM (SEC 1, the only form that lego reads)."""
NAME, REQUEST = "name", "request"
"""The name that the certificate is for, and the signing request (PKCS #10) as PEM."""
REVOKE = "revoke"
"""The certificate to revoke, as PEM; "": one is ordered. A revocation needs no request and no DNS provider."""
DNS, VARIABLES = "dns", "variables"
"""lego's name of the DNS provider, or "" to prove the name by HTTP; and the provider's variables, name → value."""
PROPAGATION = "LEGO_DNS_RESOLVERS"
"""A variable of flyted's: the name servers that lego asks whether a record has arrived, as HOST:PORT,HOST:PORT."""
UNCHECKED = "LEGO_DNS_DISABLE_CP"
"""A variable of flyted's: with any value, lego asks none, for zones that look different from this machine."""
OWN_VARIABLES = (PROPAGATION, UNCHECKED)
RECORD = "record"
"""The option, with a host name after it, that has the program tell where the name leads: that needs no job."""
OWN, ELSEWHERE = "this machine is ", "leads elsewhere: "
"""What comes then in its lines: an address of this machine's on the internet, one of the name's that is none of it."""

# Exit statuses; from 64 on those of sysexits.h.
EX_REFUSED = 65  # lego has asked, or has tried to, in vain
EX_NORECORD = 66  # the name has no address
EX_NOLEGO = 69  # lego is not installed
EX_SOFTWARE = 70  # a fault of flyted
EX_NOANSWER = 75  # the resolver does not answer
EX_CONFIG = 78  # the job is not as expected
