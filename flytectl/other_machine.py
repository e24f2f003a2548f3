"""Writes the script that sets up Flyte's command and SDK on another machine: its configuration, a token, our CA.

It is a script, because the configuration contains paths below the home folder there, and the token has to be in a file
that nobody else can read. With ssh it is one line: ``flytectl config init --for-other-machine NAME | ssh NAME sh``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from flyted.contract.answers.domains import DomainStatus
from flyted.contract.errors import InvalidInput, NotFound
from flyted.contract.names import AppKey
from flyted.contract.token import valid_shape

MARK = "# Flyte's command and SDK talk to flyted on another machine. Written by: flytectl config init"

_SCRIPT = """\
#!/bin/sh
# Sets up flyte, for the user who runs it, to talk to flyted at @HOST@. It contains a token: keep it secret.
set -eu
umask 077
folder=$HOME/.flyte
config=$folder/config.yaml
if [ -e "$config" ] && ! head -n 1 "$config" | grep -q "^@MARK@"; then
    echo "$config exists, and was not written by flytectl: move it away, and run this again" >&2
    exit 1
fi
mkdir -p "$folder"
quoted=$(printf %s "$folder" | sed 's/[\\\\"]/\\\\&/g')
cat >"$folder/flyted.token" <<'end'
@TOKEN@
end
@AUTHORITY@cat >"$config.new" <<end
@MARK@
admin:
  endpoint: @ENDPOINT@
@CA@  authType: ExternalCommand
  command: ["cat", "$quoted/flyted.token"]
  disableKeyring: true
task:
  org: local
  project: @PROJECT@
  domain: @DOMAIN@
image:
  builder: remote
# for flyted's companion of the SDK only
flyted:
  host: @API@
end
mv "$config.new" "$config"
echo "flyte talks to flyted at https://@HOST@ now" >&2
@TRUST@"""
_AUTHORITY = """\
cat >"$folder/flyted-ca.pem" <<'end'
@PEM@
end
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    [ ! -r "$bundle" ] || { cat "$bundle" "$folder/flyted-ca.pem" >"$folder/flyted-bundle.pem"; break; }
done
"""
_TRUST = """\
echo "flyte sends files only with this in its environment: export SSL_CERT_FILE=$folder/flyted-bundle.pem" >&2
"""


def serving(domains: Iterable[DomainStatus], wanted: str = "") -> DomainStatus:
    """Return the base domain at which another machine finds flyted's API: ``wanted``, or else the first that has one.

    Raise :class:`NotFound` if there is none, with what to type.
    """
    found = [each for each in domains if each.api]
    for each in found:
        if wanted in ("", each.domain):
            return each
    raise NotFound(
        f"flyted's API is not served at {wanted}" if wanted else "flyted's API is served on this machine alone",
        hint=f"sudo flytectl domain set {wanted or 'DOMAIN'} --api",
    )


def script(found: DomainStatus, token: str, project: str, domain: str) -> str:
    """Return the script. ``token`` is a text that a shell takes for itself, as every flyted token is.

    Raise :class:`InvalidInput` for a name that Flyte or flyted refuses.
    """
    AppKey(project, domain, "app")
    if not valid_shape(token):
        raise InvalidInput("this is not a flyted token")
    port = f":{found.https_port}" if found.https_port != 443 else ""
    own = bool(found.authority_pem)
    parts = {
        "@AUTHORITY@": _AUTHORITY if own else "",
        "@CA@": '  caCertFilePath: "$quoted/flyted-ca.pem"\n' if own else "",
        "@TRUST@": _TRUST if own else "",
        "@MARK@": MARK,
        "@API@": json.dumps(found.api),
        "@HOST@": found.api + port,
        "@ENDPOINT@": json.dumps(f"dns:///{found.api}{port}"),
        "@PEM@": found.authority_pem.strip(),
        "@PROJECT@": json.dumps(project),
        "@DOMAIN@": json.dumps(domain),
        "@TOKEN@": token,
    }
    text = _SCRIPT
    for name, value in parts.items():
        text = text.replace(name, value)
    return text
