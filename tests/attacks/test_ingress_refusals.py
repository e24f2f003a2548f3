"""A request that is refused gets its answer, whole, also when its body is still on the way. Against a real HAProxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flyted.plan.ingress.paths import keys
from flyted.plan.ingress.state import IngressState
from tests.attacks import http2
from tests.host.haproxy import A, B, Machine, apply, machine, needs_haproxy

pytestmark = [pytest.mark.slow, needs_haproxy]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """An ingress with an app that is restricted and one that asks for a token."""
    with machine(tmp_path_factory.mktemp("refusals")) as running:
        apps = {f"{name}-r1-0": running.app(f"{name}-r1-0") for name in "ab"}
        state = IngressState(
            servers={name: running.server(name) for name in apps}, hosts={A: "a-r1-0", B: "b-r1-0"},
            restricted={A: "a"}, open_paths=keys(A, ["/v1"]), guarded={B: "b"},
        )  # fmt: skip
        apply(running, state)
        yield running


@pytest.mark.parametrize("host", [A, B])
def test_the_answer_comes_after_the_body(box: Machine, host: str) -> None:
    """RFC 9113 8.1: a stream that is reset is no answer to some (curl: 92), though one was sent before."""
    with http2.connected(box, host) as connection:
        fields = http2.request(b"/invocations", host.encode(), b"POST")
        connection.sendall(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.packed(fields)))
        early = http2.frames(connection, 0.3, {(http2.HEADERS, 1), (http2.RST_STREAM, 1)})
        connection.sendall(http2.frame(http2.DATA, http2.END_STREAM, 1, b"{}"))
        late = http2.frames(connection, 20, {(http2.DATA, 1), (http2.RST_STREAM, 1)})
    told = {http2.HEADERS, http2.DATA, http2.RST_STREAM}
    assert [kind for kind, _, _ in early if kind in told] == []
    assert [kind for kind, _, _ in late if kind in told] == [http2.HEADERS, http2.DATA]
