"""The generated code beside the .proto."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROTO_ROOT = Path(__file__).parents[2] / "proto"
PROTOS = ("bertapi/v1/bert_service.proto", "bertapi/oip/inference.proto")
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("grpc_tools", "mypy_protobuf")),
    reason="grpcio-tools and mypy-protobuf (the [dev] extra) are not installed",
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A folder with what `make proto` would write."""
    folder = tmp_path_factory.mktemp("generated")
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO_ROOT}", *outputs, *PROTOS]
    # The plugins of mypy-protobuf are programs beside the interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": path})
    return folder


@pytest.mark.parametrize("ending", GENERATED)
@pytest.mark.parametrize("proto", PROTOS)
def test_generated_code_is_fresh(generated, proto, ending):
    """The committed code is what the .proto gives; `make proto` writes it anew."""
    name = proto.replace(".proto", ending)
    assert (generated / name).read_text() == (PROTO_ROOT / name).read_text()


def test_nothing_else_is_generated(generated):
    """No generated file is left uncommitted."""
    expected = {Path(proto).stem + ending for proto in PROTOS for ending in GENERATED}
    assert {path.name for path in generated.rglob("*.py*")} == expected
