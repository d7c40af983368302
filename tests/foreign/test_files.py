"""The files beside the clients that say what theirs is built on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2, status_pb2

from .conftest import EXAMPLES, ROOT, tool

BUF = Path(sys.executable).parent / "buf"
THEIRS = {
    "Status": status_pb2.Status,
    "BadRequest": error_details_pb2.BadRequest,
    "BadRequest.FieldViolation": error_details_pb2.BadRequest.FieldViolation,
    "RetryInfo": error_details_pb2.RetryInfo,
}


@pytest.mark.skipif(not BUF.exists(), reason="buf-bin (the [dev] extra) is not installed")
def test_error_details_are_a_part_of_googles() -> None:
    """Every field of error_details.proto has the number and type that it has in google.rpc."""
    command = [BUF, "build", EXAMPLES / "error_details.proto", "--as-file-descriptor-set", "-o", "-"]
    compiled = subprocess.run(command, check=True, capture_output=True).stdout
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    for name, theirs in THEIRS.items():
        ours = pool.FindMessageTypeByName(f"google.rpc.{name}")
        assert fields_of(ours).items() <= fields_of(theirs.DESCRIPTOR).items()
        assert fields_of(ours)


@pytest.mark.system
@pytest.mark.parametrize("language", ["cpp", "csharp", "java", "kotlin", "objc", "php", "ruby"])
def test_the_contract_generates_code_for(language: str, tmp_path: Path) -> None:
    """Debian's protoc, older than ours, has nothing to complain of."""
    protoc = tool("protoc", "apt-get install protobuf-compiler")
    command = [protoc, f"-I{ROOT / 'proto'}", f"--{language}_out={tmp_path}", "bertapi/v1/bert_service.proto"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert any(path.is_file() for path in tmp_path.rglob("*"))


def test_npm_packages_are_pinned() -> None:
    """To the version, in package.json itself: a lock file would name the registry that wrote it."""
    versions = json.loads((EXAMPLES / "package.json").read_text())["dependencies"].values()
    assert versions
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert not list(EXAMPLES.glob("*lock*"))


def fields_of(message: Descriptor) -> dict[str, tuple[int, int, bool, str]]:
    """Name → number, type, repeated or not, and the message that it holds."""
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type else "",
        )
        for field in message.fields
    }
