"""Writes the script that sets up Flyte's command and SDK on another machine: its configuration, a token, our CA.

It is a script, because the configuration contains paths below the home folder there, and the token has to be in a file
that nobody else can read. With ssh it is one line: ``flytectl config init --for-other-machine NAME | ssh NAME sh``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from flytectl.domain_name import domain_name
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

replaced() {  # FILE: put what comes in the place of a file
    rm -f "$1.new"
    cat >"$1.new"
    mv "$1.new" "$1"
}

main() {
    folder=$HOME/.flyte
    config=$folder/config.yaml
    if [ -L "$config" ] || { [ -e "$config" ] && ! head -n 1 "$config" | grep -q "^@MARK@"; }; then
        echo "$config is another configuration: move it away, and run this script again." >&2
        echo "To make a new one, on flyted's machine: flytectl config init --for-other-machine @NAME@ --force" >&2
        exit 1
    fi
    mkdir -p "$folder"
    quoted=$(printf %s "$folder" | sed 's/[\\\\"]/\\\\&/g')
    replaced "$folder/flyted.token" <<'end'
@TOKEN@
end
@AUTHORITY@    replaced "$config" <<end
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
    echo "flyte talks to flyted at https://@HOST@ now" >&2
@TRUST@}

main  # the last line: a script that comes in part does nothing
"""
_AUTHORITY = """\
    replaced "$folder/flyted-ca.pem" <<'end'
@PEM@
end
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \\
        /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem /dev/null; do
        [ ! -r "$bundle" ] || { cat "$folder/flyted-ca.pem" "$bundle" | replaced "$folder/flyted-bundle.pem"; break; }
    done
"""
_TRUST = """\
    echo "flyte sends files only with this in its environment: export SSL_CERT_FILE='$folder/flyted-bundle.pem'" >&2
"""


def serving(domains: Iterable[DomainStatus], at: str = "") -> DomainStatus:
    """Return the base domain at which another machine finds flyted's API, by default the first that has one.

    ``at``: the domain, with ``:PORT`` if a router forwards another port than the ingress's. Raise :class:`NotFound` if
    there is none, with what to type, or :class:`InvalidInput` for a text that is none.
    """
    text, _, port = at.partition(":")
    wanted = domain_name(text) if text else ""
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InvalidInput(f"{port!r} is not a port", hint="--at DOMAIN:PORT")
    for each in domains:
        if each.api and wanted in ("", each.domain):
            return replace(each, https_port=int(port)) if port else each
    raise NotFound(
        f"flyted's API is not served at {wanted}" if wanted else "flyted's API is served on this machine alone",
        hint=f"sudo flytectl domain set {wanted or 'DOMAIN'} --api (with --own-ca or --email ADDRESS if it is new)",
    )


def script(found: DomainStatus, name: str, token: str, project: str, domain: str) -> str:
    """Return the script. ``name`` and ``token`` are texts that a shell takes for themselves, as flyted's are.

    Raise :class:`InvalidInput` for a name that Flyte or flyted refuses.
    """
    AppKey(project, domain, "app")
    if not valid_shape(token):
        raise InvalidInput("this is not a flyted token")
    own = bool(found.authority_pem)
    parts = {
        "@AUTHORITY@": _AUTHORITY if own else "",
        "@CA@": '  caCertFilePath: "$quoted/flyted-ca.pem"\n' if own else "",
        "@TRUST@": _TRUST if own else "",
        "@MARK@": MARK,
        "@API@": json.dumps(found.api),
        "@HOST@": found.api + found.port,
        "@ENDPOINT@": json.dumps(f"dns:///{found.api}{found.port}"),
        "@PEM@": found.authority_pem.strip(),
        "@PROJECT@": json.dumps(project),
        "@DOMAIN@": json.dumps(domain),
        "@TOKEN@": token,
        "@NAME@": name,
    }
    text = _SCRIPT
    for mark, value in parts.items():
        text = text.replace(mark, value)
    return text
