"""Methods that are not served, with the private names of grpcio that their answers need, and without them."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.doors.grpc.unserved import missing_names
from servers import PRETRAINING, running_server

BARE_SERVER = """
from grpc._cython import cygrpc
from bertserve.doors.grpc import unserved
from bertserve.__main__ import main

unserved._NEEDED = (*unserved._NEEDED, (cygrpc, "AioServer._is_missing"))
main()
"""
WARNING = "gRPC's own server answers methods that are not served"


@pytest.fixture
def bare_server(tmp_path: Path) -> Path:
    """A program that serves as if grpcio lacked a private name."""
    program = tmp_path / "bare_server.py"
    program.write_text(BARE_SERVER)
    return program


def outcome_of_unserved(channel: grpc.Channel) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/a.Service/Method")(b"", timeout=60)
    return caught.value.code()


def test_a_method_that_is_not_served_is_unimplemented_without_the_private_names(bare_server: Path) -> None:
    """gRPC's own server answers it, and served methods are answered as ever."""
    with running_server(PRETRAINING, program=bare_server) as server, grpc.insecure_channel(server.target) as channel:
        assert outcome_of_unserved(channel) is grpc.StatusCode.UNIMPLEMENTED
        request = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat")])
        assert pb_grpc.BertServiceStub(channel).Embed(request, timeout=60).embeddings
        assert server.stop() == 0


def test_a_missing_private_name_is_said_once(bare_server: Path) -> None:
    """The warning names it, and which grpcio lacks it."""
    with running_server(PRETRAINING, program=bare_server) as server:
        assert server.stop() == 0
        wait_for_line(server.log, WARNING)
    (line,) = [line for line in server.log if WARNING in line]
    assert f"grpcio {grpc.__version__} lacks " in line
    assert "AioServer._is_missing" in line


@pytest.mark.skipif(bool(missing_names()), reason=f"this grpcio lacks {missing_names()}")
def test_nothing_is_said_if_all_private_names_are_there() -> None:
    with running_server(PRETRAINING) as server, grpc.insecure_channel(server.target) as channel:
        assert outcome_of_unserved(channel) is grpc.StatusCode.UNIMPLEMENTED
        assert server.stop() == 0
    assert not [line for line in server.log if WARNING in line]


def wait_for_line(log: list[str], text: str) -> None:
    """Wait until the thread that reads the log has come to a line."""
    ends = time.monotonic() + 60
    while not any(text in line for line in log):
        assert time.monotonic() < ends, log
        time.sleep(0.01)
