"""The settings file: defaults without one, every wrong line named, nothing ignored."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flyted.contract.errors import InvalidInput
from flyted.daemon.settings import SETTINGS, Settings, read


def written(folder: Path, text: str) -> Path:
    """A settings file."""
    path = folder / "flyted.toml"
    path.write_text(text)
    return path


def test_no_file_means_defaults(tmp_path: Path) -> None:
    """A fresh installation has nothing to configure."""
    assert read(tmp_path / "none") == Settings()


def test_all_settings(tmp_path: Path) -> None:
    """Each row's value is taken."""
    text = """
    [ingress]
    https_port = 8443
    http_port = 8080
    listen = ["0.0.0.0"]
    base_domain = "apps.example.org"
    trusted_proxies = ["192.0.2.1", "2001:db8::/32"]
    proxy_protocol = ["192.0.2.2"]
    access_log = true
    waiting_page = false
    [limits]
    requests_per_s = 2.5
    connections = 20
    body_bytes = "1Mi"
    waiting = 30
    [apps]
    start_timeout = 20
    no_wake_paths = ["/health"]
    [images]
    layer_size = "2Gi"
    registry_secret = "logins"
    mirrors = { "docker.io" = "https://mirror.example.org/hub" }
    [images.environment]
    UV_DEFAULT_INDEX = "https://mirror.example.org/simple"
    [images.secrets]
    UV_INDEX_ACME_PASSWORD = "acme-index"
    """
    assert read(written(tmp_path, text)) == Settings(
        8443, 8080, ("0.0.0.0",), "apps.example.org", 20, {"UV_DEFAULT_INDEX": "https://mirror.example.org/simple"},
        {"UV_INDEX_ACME_PASSWORD": "acme-index"}, mirrors={"docker.io": "https://mirror.example.org/hub"},
        layer_size="2Gi", registry_secret="logins", trusted_proxies=("192.0.2.1/32", "2001:db8::/32"),
        proxy_protocol=("192.0.2.2/32",), access_log=True, requests_per_s=2.5, connections=20, body_bytes=1 << 20,
        waiting=30, no_wake_paths=("/health",), waiting_page=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[ingress]\nhttps_port = 0", "ingress.https_port"),
        ("[ingress]\nhttps_port = true", "ingress.https_port"),
        ("[ingress]\nlisten = ['localhost']", "ingress.listen"),
        ("[ingress]\nlisten = [7]", "ingress.listen"),
        ("[ingress]\nbase_domain = 'localhost'", "ingress.base_domain"),
        ("[ingress]\nbase_domain = 'a b.c'", "ingress.base_domain"),
        ("[ingress]\nurl_domain = 'lan'", "ingress.url_domain"),
        ("[ingress]\nhttps_prot = 1", "https_prot"),
        ("[ingress]\ntrusted_proxies = '10.0.0.1'", "ingress.trusted_proxies"),
        ("[ingress]\ntrusted_proxies = ['cloudflare.com']", "ingress.trusted_proxies"),
        ("[ingress]\ntrusted_proxies = ['10.0.0.1/8']", "10.0.0.1/8 has host bits set"),
        ("[ingress]\nproxy_protocol = [7]", "ingress.proxy_protocol"),
        ("[ingress]\naccess_log = 'yes'", "ingress.access_log"),
        ("[apps]\nno_wake_paths = '/health'", "apps.no_wake_paths"),
        ("[apps]\nno_wake_paths = [7]", "apps.no_wake_paths"),
        ("[apps]\nno_wake_paths = ['/']", "apps.no_wake_paths"),
        ("[limits]\nrequests_per_s = true", "limits.requests_per_s"),
        ("[limits]\nrequests_per_s = 0.01", "limits.requests_per_s"),
        ("[limits]\nrequests_per_s = nan", "limits.requests_per_s"),
        ("[limits]\nconnections = -1", "limits.connections"),
        ("[limits]\nconnections = 1.5", "limits.connections"),
        ("[limits]\nbody_bytes = -1", "limits.body_bytes"),
        ("[limits]\nwaiting = -1", "limits.waiting"),
        ("[limits]\nwaiting = 'many'", "limits.waiting"),
        ("[limits]\nbody_bytes = 'much'", "limits.body_bytes"),
        ("[ingres]\nx = 1", "ingres.x"),
        ("colour = 1", "colour"),
        ("[apps]\nstart_timeout = 0", "apps.start_timeout"),
        ("[apps]\nstart_timeout = 1.5", "apps.start_timeout"),
        ("[apps]\nstart_timeout = '20s'", "apps.start_timeout"),
        ("[images]\nenvironment = {LD_PRELOAD = '/x'}", "LD_PRELOAD"),
        ('[images]\nenvironment = {UV_INDEX = "a\\nb"}', "images.environment"),
        ("[images]\nlayer_size = 7", "images.layer_size"),
        ("[images]\nlayer_size = 'much'", "images.layer_size"),
        ("[images]\nmirrors = {'docker.io' = 'ftp://x'}", "images.mirrors"),
        ("[images]\nmirrors = {'a b' = 'https://x'}", "images.mirrors"),
        ("[images]\nmirrors = 'https://x'", "images.mirrors"),
        ("[images]\nsecrets = {UV_PYTHON = 'x'}", "UV_PYTHON"),
        ("[images]\nsecrets = {TOKEN = 7}", "images.secrets"),
        ("[images]\nsecrets = {TOKEN = '../x'}", "images.secrets"),
        ("not toml", "flyted.toml"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    """File and setting are in the message."""
    with pytest.raises(InvalidInput, match=named) as caught:
        read(written(tmp_path, text))
    assert "flyted.toml" in caught.value.message


def test_the_example_file_has_every_setting_with_its_default(tmp_path: Path) -> None:
    """As it is it changes nothing; each line in it may be taken out of its comment, and is the default."""
    example = (Path(__file__).parents[2] / "examples/flyted.toml").read_text()
    file = tmp_path / "flyted.toml"
    file.write_text(example)
    assert read(file) == Settings()
    file.write_text(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", example))
    assert read(file) == Settings()
    said = set(re.findall(r"(?m)^# ([a-z_]+) = ", example))
    assert said == {row.key for row in SETTINGS} - {"environment", "secrets", "mirrors"}
