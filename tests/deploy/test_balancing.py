"""Real replicas under load, through each way to them, by the example configurations: shares, and calls that fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bertbench.balancing.callers import Client, Phase
from bertbench.balancing.names import find_dnsmasq
from bertbench.balancing.proxies import ProxyKind, find_program
from bertbench.balancing.trial import Plan, Trial, try_path
from bertbench.errors import BenchError
from rich.console import Console

from .conftest import DEPLOY

pytestmark = [pytest.mark.system, pytest.mark.export]

# The drain pause is the default's, as it is what health checks have to see a replica drain in, on a busy machine too.
PLAN = Plan(
    examples=DEPLOY / "proxies", seconds=1.0, rounds=1, least=2, callers=3, connection_age=1.5, warmup_seconds=1.0,
    notice_seconds=2.0, patience_seconds=60.0,
)  # fmt: skip


def trial(path: ProxyKind | None, way: Phase) -> Trial:
    """A short one; skips where a program is missing."""
    try:
        find_dnsmasq()
        if path is not None:
            find_program(path)
    except BenchError as error:
        pytest.skip(str(error))
    return try_path(path, replace(PLAN, ways=(Phase.KILLED, way)), Console(stderr=True))


@pytest.mark.parametrize(
    ("path", "way"),
    [
        (None, Phase.DRAINED),
        (ProxyKind.ENVOY, Phase.DRAINED),
        (ProxyKind.HAPROXY, Phase.DRAINED),
        # It sees no replica drain, so it has to be told first.
        (ProxyKind.NGINX, Phase.RETIRED),
    ],
    ids=["client", "envoy", "haproxy", "nginx"],
)
def test_replicas_share_the_load_and_no_client_notices_their_going(path: ProxyKind | None, way: Phase) -> None:
    """With the published service config. Without it, Envoy alone hides everything."""
    found = trial(path, way)
    assert found.joined_seconds is not None
    for shares in (found.shares, found.shares_after):
        assert min(shares) > 0.4 / len(shares)
    assert found.failed(Client.PUBLISHED) == 0, found.outcomes
    assert all(found.outcomes[client][phase]["OK"] for client in Client for phase in (Phase.KILLED, way))
    if path is ProxyKind.ENVOY:
        assert found.failed(Client.PLAIN) == 0, found.outcomes
