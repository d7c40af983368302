"""NVIDIA's client and perf_analyzer, as they are, against the Open Inference Protocol; each in a process of its own.

What they need is installed once, into a cache beside this environment, whose protobuf they would otherwise replace.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bertapi.oip import inference_pb2 as oip
from servers import PRETRAINING, RunningServer, running_server

pytestmark = pytest.mark.system

TESTS = Path(__file__).parents[1]
README = (TESTS.parent / "README.md").read_text(encoding="utf-8")
STORE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bertserve-triton"
CLIENT = ("tritonclient==2.73.0", "python-rapidjson==1.25")
# The last release for pip that has perf_analyzer in it.
ANALYZER = ("tritonclient==2.41.0", "nvidia-cuda-runtime-cu12==12.9.79")

DUMP = """
import json
from tritonclient.grpc import model_config_pb2, service_pb2
fields = {}
def add(message):
    fields[message.full_name] = {f.name: [f.number, f.type, f.is_repeated] for f in message.fields}
    for nested in message.nested_types:
        add(nested)
for file in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
    for message in file.message_types_by_name.values():
        add(message)
enum = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"]
service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
methods = {m.name: [m.input_type.full_name, m.output_type.full_name] for m in service.methods}
print(json.dumps([fields, methods, {v.name: v.number for v in enum.values}]))
"""


def installed(*packages: str) -> Path:
    """A folder with these packages alone. Skips where they are not to be had."""
    folder = STORE / "+".join(packages)
    if not folder.exists():
        STORE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=STORE) as made:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", "--no-compile", "--no-deps"]
            command = [*pip, "--target", f"{made}/packages", *packages]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
            if ended.returncode:
                pytest.skip(f"cannot install {' '.join(packages)}: {ended.stderr[-500:]}")
            Path(made, "packages").rename(folder)
    return folder


@pytest.fixture(scope="module")
def client() -> dict[str, str]:
    """An environment that finds tritonclient beside all that is installed here."""
    return {**os.environ, "PYTHONPATH": str(installed(*CLIENT))}


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    with running_server("--open-inference") as running:
        yield running


def python(environment: dict[str, str], *arguments: str | Path) -> str:
    """What a Python program prints that must succeed."""
    ended = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_client_of_triton_agrees_with_ours(client: dict[str, str]) -> None:
    """Every method, synchronous and asynchronous; tensors bit for bit; statuses; counts."""
    with running_server(PRETRAINING, "--open-inference") as server:
        python(client, TESTS / "triton_calls.py", server.target)


def test_protocol_is_the_public_one(client: dict[str, str]) -> None:
    """Each message, field, number, type and method of our copy is tritonclient's."""
    fields, methods, data_types = json.loads(python(client, "-c", DUMP))
    for message in oip.DESCRIPTOR.message_types_by_name.values():
        assert_same(message, fields)
    service = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in service.methods:
        assert methods[method.name] == [method.input_type.full_name, method.output_type.full_name]
    assert dict(oip.DataType.items()) == data_types


def assert_same(message: object, fields: dict[str, dict[str, list[object]]]) -> None:
    theirs = fields[message.full_name]  # type: ignore[attr-defined]
    for field in message.fields:  # type: ignore[attr-defined]
        assert theirs[field.name] == [field.number, field.type, field.is_repeated], field.full_name
    for nested in message.nested_types:  # type: ignore[attr-defined]
        assert_same(nested, fields)


def test_example_of_the_readme_prints_what_it_shows(client: dict[str, str], demo: RunningServer) -> None:
    """On the demo model, comments beside the prints being what they print."""
    (script,) = (found for found in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "triton" in found)
    shown = re.findall(r"^print\(.*\)  # (.*)$", script, flags=re.MULTILINE)
    printed = python(client, "-c", script.replace("127.0.0.1:50051", demo.target)).splitlines()
    assert len(shown) == 2
    assert printed == shown


def test_perf_analyzer_measures_the_server(demo: RunningServer) -> None:
    """The README's command, ended by counts rather than by steady figures: no error, and those of client and server."""
    folder = installed(*ANALYZER)
    (command,) = re.findall(r"^    perf_analyzer (.*)$", README, flags=re.MULTILINE)
    libraries = os.pathsep.join([f"{folder}/nvidia/cuda_runtime/lib", os.environ.get("LD_LIBRARY_PATH", "")])
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    program = folder / "bin" / "perf_analyzer"
    if subprocess.run([program, "--version"], env=environment, capture_output=True, check=False).returncode:
        pytest.skip("perf_analyzer does not start here; it is for x86-64 and needs: apt-get install libb64-0d")
    arguments = shlex.split(command.replace("127.0.0.1:50051", demo.target))
    windows = ["--measurement-mode", "count_windows", "--measurement-request-count", "20"]
    quick = [*windows, "--stability-percentage", "1000000", "--max-trials", "3"]
    ended = subprocess.run(
        [program, *arguments, *quick], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"Throughput: [1-9][\d.]* infer/sec", ended.stdout)
    server = ended.stdout[ended.stdout.index("Server:") :]
    for count in ("Inference count", "Execution count", "Successful request count"):
        assert re.search(rf"{count}: [1-9]", server), ended.stdout
    times = r"queue \d+ usec \+ compute input \d+ usec \+ compute infer [1-9]\d* usec \+ compute output \d+ usec"
    assert re.search(times, server), ended.stdout
