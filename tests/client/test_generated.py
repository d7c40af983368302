"""The generated code beside the .proto and the floors of what runs it. `make proto-check` compares every line."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from bertapi.oip import inference_pb2
from bertapi.v1 import bert_service_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).parent / "buf"
GENERATED = sorted((ROOT / "proto" / "bertapi").glob("*/*_pb2*.py"))


@pytest.mark.skipif(not BUF.exists(), reason="buf-bin (the [dev] extra) is not installed")
@pytest.mark.parametrize("module", [bert_service_pb2, inference_pb2], ids=lambda module: module.__name__)
def test_the_messages_are_those_of_the_proto(module) -> None:
    """A .proto that was changed without `make proto` is found here too."""
    command = [BUF, "build", "--exclude-source-info", "--as-file-descriptor-set", "-o", "-"]
    described = FileDescriptorSet.FromString(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    generated = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(generated)
    (written,) = [file for file in described.file if file.name == generated.name]
    for message in iterate_messages(written):
        for field in message.field:
            field.ClearField("json_name")
    assert generated == written


def test_the_generated_code_runs_at_the_floors() -> None:
    """Both kinds of code refuse a runtime that is older than the tools that made them."""
    project = tomllib.loads((ROOT / "proto" / "pyproject.toml").read_text())["project"]
    floors = dict(requirement.split(">=") for requirement in project["dependencies"])
    needed = {"protobuf": set(), "grpcio": set()}
    for path in GENERATED:
        text = path.read_text()
        needed["protobuf"] |= set(re.findall(r"^# Protobuf Python Version: (.*)$", text, flags=re.MULTILINE))
        needed["grpcio"] |= set(re.findall(r"^GRPC_GENERATED_VERSION = '(.*)'$", text, flags=re.MULTILINE))
    assert {name: sorted(map(version_of, versions)) for name, versions in needed.items()} == {
        name: [version_of(floors[name])] for name in needed
    }


def version_of(text: str) -> tuple[int, ...]:
    """The version as three numbers, so that 1.76 is 1.76.0."""
    return (*map(int, text.split(".")), 0)[:3]


def iterate_messages(file: FileDescriptorProto):
    waiting = list(file.message_type)
    while waiting:
        message = waiting.pop()
        waiting += message.nested_type
        yield message
