"""Fixtures of every suite."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from scripted_server import ScriptedServer, running_scripted_server
from servers import CLASSIFIER, PLAIN, PRETRAINING, TAGGER, RunningServer, running_server

# A shell starts background jobs with SIGINT ignored, and what they start inherits that: no test could interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing is timed here: an example, and its making, takes what the machine's other work leaves it.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """A server of four tiny bundles: `pretraining` is the default one, the others go by name."""
    with running_server(PRETRAINING, CLASSIFIER, PLAIN, TAGGER) as running:
        yield running


@pytest.fixture(scope="session")
def demo_server() -> Iterator[RunningServer]:
    """A server of the demo model inside the package."""
    with running_server() as running:
        yield running


@pytest.fixture
def stub(server: RunningServer) -> Iterator[pb_grpc.BertServiceStub]:
    """The generated stub, without the client's comforts."""
    with grpc.insecure_channel(server.target, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield pb_grpc.BertServiceStub(channel)


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    """A server that answers by script, where a test needs failures that a sound server does not produce."""
    with running_scripted_server() as scripted:
        yield scripted
