"""The rules of the house: which room may know which, and how large a room may be."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "bertserve": ROOT / "service" / "bertserve",
    "bertapi": ROOT / "proto" / "bertapi",
    "bertexport": ROOT / "export" / "bertexport",
    "bertbench": ROOT / "benchmarks" / "bertbench",
}

# Rooms of the server from the edge inwards: a room imports rooms that stand after it, and leaves, and nothing else.
LAYERS = (
    ("__main__",),
    ("server",),
    ("listening",),
    ("unserved",),
    ("interceptors", "servicer", "oip", "health", "reflection", "probes"),
    ("statuses", "calls"),
    ("tasks", "loading", "supervision", "tuning"),
    ("models",),
    ("tokenizer", "batching"),
    ("engine",),
    ("bundle",),
)
LEAVES = {
    "settings",
    "errors",
    "deadlines",
    "metrics",
    "logs",
    "streams",
    "bundle",
    "manifest",
    "plain_files",
    "descriptors",
    "pages",
    "cgroups",
    "cores",
    "memory",
    "reloading",
    "tls",
    "tokens",
}
# Values that cross the seam between tokenizer and engine are defined by the engine, which stands further in.
TRANSPORT = {
    "servicer",
    "oip",
    "health",
    "reflection",
    "interceptors",
    "statuses",
    "calls",
    "listening",
    "unserved",
    "server",
}


def sources(package: str) -> dict[str, Path]:
    """Module name → file, generated code left out."""
    folder = PACKAGES[package]
    return {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts): path
        for path in sorted(folder.rglob("*.py"))
        if "_pb2" not in path.name
    }


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def rank(name: str) -> int:
    return next(place for place, rooms in enumerate(LAYERS) if name in rooms)


SERVER = sources("bertserve")


def test_every_room_has_its_place() -> None:
    """A new room of the server is named in the layers or the leaves."""
    placed = {name for rooms in LAYERS for name in rooms} | LEAVES | {"__init__"}
    assert {room(module) for module in SERVER} <= placed


@pytest.mark.parametrize("module", SERVER)
def test_arrows_point_one_way(module: str) -> None:
    """A room imports only rooms further in, and leaves; a leaf imports no room but a leaf."""
    own = room(module)
    if own == "__init__":
        return
    for target in {room(name) for name in imports(SERVER[module]) if name.startswith("bertserve.")} - {own}:
        if target in LEAVES:
            continue
        assert own not in LEAVES, f"the leaf {own} imports {target}"
        assert rank(target) > rank(own), f"{own} imports {target}"


def test_only_the_edge_knows_the_transport() -> None:
    """grpc and bertapi are imported by the services, interceptors, what they share, and server alone."""
    users = {room(m) for m, path in SERVER.items() if {n.split(".")[0] for n in imports(path)} & {"grpc", "bertapi"}}
    assert users == TRANSPORT


@pytest.mark.parametrize(("library", "owner"), [("onnxruntime", "engine"), ("tokenizers", "tokenizer")])
def test_one_room_owns_each_library(library: str, owner: str) -> None:
    """Only the engine knows onnxruntime, only the tokenizer knows tokenizers."""
    assert {room(m) for m, path in SERVER.items() if library in {n.split(".")[0] for n in imports(path)}} == {owner}


@pytest.mark.parametrize("package", ["bertserve", "bertapi"])
def test_server_and_client_know_nothing_of_the_export(package: str) -> None:
    """No torch, transformers or onnx, and not bertexport."""
    forbidden = {"torch", "transformers", "onnx", "bertexport", "safetensors"}
    for path in sources(package).values():
        assert not {name.split(".")[0] for name in imports(path)} & forbidden, path


@pytest.mark.parametrize("package", ["bertserve", "bertapi", "bertexport"])
def test_nothing_knows_the_benchmarks(package: str) -> None:
    """What is measured does not import what measures it."""
    for path in sources(package).values():
        assert "bertbench" not in {name.split(".")[0] for name in imports(path)}, path


def test_the_graph_is_measured_as_it_is_served() -> None:
    """bertbench.graph imports of bertserve the bundle, the engine and the policy of batching, and nothing above."""
    used = {n for m, path in sources("bertbench").items() if room(m) == "graph" for n in imports(path)}
    assert {room(name) for name in used if name.startswith("bertserve.")} <= {"bundle", "engine", "batching"}


def test_export_uses_of_the_server_what_it_verifies_with() -> None:
    """bertexport imports of bertserve the bundle, tokenizer, engine, cores and streams, and nothing above them."""
    used = {room(n) for path in sources("bertexport").values() for n in imports(path) if n.startswith("bertserve.")}
    assert used <= {"bundle", "tokenizer", "engine", "cores", "streams"}


@pytest.mark.parametrize("module", ["batching.policy", "batching.admission", "supervision.verdict"])
def test_decisions_have_no_clock_thread_or_loop(module: str) -> None:
    """They are pure functions."""
    known = {name.split(".")[0] for name in imports(SERVER[f"bertserve.{module}"])}
    assert known <= {"__future__", "collections", "dataclasses", "enum", "itertools"}


def test_environment_is_read_in_settings_only() -> None:
    """No other room looks at os.environ or getenv."""
    readers = {m for m, path in SERVER.items() if {"environ", "getenv"} & names(path)}
    assert readers <= {"bertserve.settings"}


def names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} | {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name)
    }


ALL = {module: path for package in PACKAGES for module, path in sources(package).items()}


def test_no_file_imports_what_imports_it() -> None:
    """For types' sake neither: a circle is one thing in two files, or two things that want a third."""
    TopologicalSorter({module: imports(path) - {module} for module, path in ALL.items()}).prepare()


@pytest.mark.parametrize("module", ALL)
def test_rooms_stay_small(module: str) -> None:
    """No file above 300 lines, no function above 40: past that, ask what two things it is."""
    source = ALL[module].read_text(encoding="utf-8")
    assert source.count("\n") <= 300
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 40, f"{node.name} is {node.end_lineno - node.lineno + 1} lines long"


@pytest.mark.parametrize("module", ALL)
def test_every_module_says_what_it_owns(module: str) -> None:
    """A docstring opens every file."""
    assert ast.get_docstring(ast.parse(ALL[module].read_text(encoding="utf-8")))


@pytest.mark.parametrize("folder", ["proto", "service", "export", "benchmarks"])
def test_component_folders_are_no_packages(folder: str) -> None:
    """Each holds one import package; the folder itself is none."""
    assert not (ROOT / folder / "__init__.py").exists()
