"""The rules of the structure: which package may import which, and how large a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
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

# Packages of the server from the edge inwards: a package imports packages that stand after it, and leaves, and nothing
# else. A dotted name is a package of its own: the longest name that a module begins with is the one it belongs to.
LAYERS = (
    ("__main__",),
    ("server",),
    ("doors.grpc.door", "doors.http"),
    ("doors.grpc.port",),
    ("doors.grpc.chain", "doors.grpc.bert", "doors.grpc.oip"),
    ("doors.grpc.unserved", "doors.grpc.health", "doors.grpc.reflection", "doors.grpc.intake"),
    ("doors.grpc.refusal",),
    ("doors.grpc.handlers",),
    ("doors.grpc.statuses", "doors.grpc.calls", "doors.grpc.sizes"),
    ("doors",),
    ("serving",),
    ("tasks", "loading", "supervision", "tuning", "drain"),
    ("engine.opening",),
    ("engine.ort",),
    ("models",),
    ("tokenizer", "batching"),
    ("engine",),
    ("heads",),
    ("engine.items",),
    ("bundle",),
)
LEAVES = {"settings", "errors", "axes", "deadlines", "observe", "process", "bundle", "manifest", "plain_files"}
ENGINE = {"engine", "engine.items", "engine.opening", "engine.ort"}
PLACED = sorted({name for names in LAYERS for name in names} | LEAVES, key=len, reverse=True)


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
    """The package of the layers or the leaves that a module of the server is in; empty for none."""
    inner = module.removeprefix("bertserve.")
    return next((name for name in PLACED if inner == name or inner.startswith(f"{name}.")), "")


def rank(name: str) -> int:
    return next(place for place, names in enumerate(LAYERS) if name in names)


SERVER = sources("bertserve")


def test_every_package_has_its_place() -> None:
    """A new package of the server is named in the layers or the leaves."""
    assert [module for module in SERVER if not room(module)] == ["bertserve.__init__"]


def test_arrows_point_one_way() -> None:
    """A package imports only packages further in, and leaves; a leaf imports no package but a leaf."""
    assert [arrow for module in SERVER for arrow in wrong_arrows(module)] == []


def wrong_arrows(module: str) -> Iterator[str]:
    own = room(module)
    for name in sorted(SERVER.keys() & imports(SERVER[module])):
        target = room(name)
        if own and target not in {own, *LEAVES} and (own in LEAVES or rank(target) <= rank(own)):
            yield f"{module} imports {name}"


def users(library: str) -> set[str]:
    """Modules of the server that import a library."""
    return {module for module, path in SERVER.items() if library in {name.split(".")[0] for name in imports(path)}}


def test_only_its_door_knows_grpc() -> None:
    """grpc and bertapi are imported by the gRPC door alone, and `server` opens it without them."""
    known = users("grpc") | users("bertapi")
    assert {name for name in known if not name.startswith("bertserve.doors.grpc.")} == set()


def test_a_serving_knows_no_transport() -> None:
    """Everything from `serving` inwards is free of gRPC, of HTTP, and of doors."""
    inner = [module for module in SERVER if room(module) and not room(module).startswith("doors")]
    inner = [module for module in inner if room(module) not in {"__main__", "server"}]
    transports = {"grpc", "bertapi", "google", "grpc_health", "http", "socketserver", "socket"}
    assert [module for module in inner if {name.split(".")[0] for name in imports(SERVER[module])} & transports] == []


@pytest.mark.parametrize(
    ("library", "owner"), [("onnxruntime", "bertserve.engine.ort."), ("tokenizers", "bertserve.tokenizer")]
)
def test_one_package_owns_each_library(library: str, owner: str) -> None:
    """Only engine.ort knows onnxruntime, only the tokenizer knows tokenizers."""
    assert users(library)
    assert {name for name in users(library) if not name.startswith(owner)} == set()


def test_one_file_names_the_engines() -> None:
    """Batching, supervision and tasks go by the contract; an engine is opened where a bundle is loaded or measured."""

    def users_of(inner: str) -> set[str]:
        return {room(m) for m in SERVER if any(room(name) == inner for name in SERVER.keys() & imports(SERVER[m]))}

    assert users_of("engine.ort") - {"engine.ort"} == {"engine.opening"}
    assert users_of("engine.opening") == {"loading", "tuning"}


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
    measuring = {m: path for m, path in sources("bertbench").items() if m.startswith("bertbench.graph.")}
    used = {name for path in measuring.values() for name in imports(path)} & SERVER.keys()
    assert {room(name) for name in used} <= {"bundle", "batching", *ENGINE}


def test_export_uses_of_the_server_what_it_verifies_with() -> None:
    """bertexport imports of bertserve axes, bundle, heads, tokenizer, engine and process, and nothing above them."""
    used = {name for path in sources("bertexport").values() for name in imports(path)} & SERVER.keys()
    assert {room(name) for name in used} <= {"axes", "bundle", "heads", "tokenizer", "process", *ENGINE}


@pytest.mark.parametrize("module", ["batching.policy", "batching.admission", "supervision.verdict"])
def test_decisions_have_no_clock_thread_or_loop(module: str) -> None:
    """They are pure functions."""
    known = {name.split(".")[0] for name in imports(SERVER[f"bertserve.{module}"])}
    assert known <= {"__future__", "collections", "dataclasses", "enum", "itertools", "typing"}


def test_environment_is_read_in_settings_only() -> None:
    """No other module looks at os.environ or getenv."""
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


def test_files_and_functions_stay_small() -> None:
    """No file above 300 lines, no function above 40: past that, ask what two things it is."""
    assert [module for module, path in ALL.items() if path.read_text(encoding="utf-8").count("\n") > 300] == []
    long_functions = [
        f"{module}.{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for module, path in ALL.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 40
    ]
    assert long_functions == []


def test_every_module_says_what_it_owns() -> None:
    """A docstring opens every file."""
    silent = [m for m, path in ALL.items() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


@pytest.mark.parametrize("folder", ["proto", "service", "export", "benchmarks"])
def test_component_folders_are_no_packages(folder: str) -> None:
    """Each holds one import package; the folder itself is none."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_no_test_forks_its_own_process() -> None:
    """gRPC's threads of other tests would hang or crash: a fork belongs into a program of its own."""
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (
            ast.unparse(node.func) in {"os.fork", "pty.fork"} or any(word.arg == "preexec_fn" for word in node.keywords)
        )
    ]
    assert not calls, f"these fork: {', '.join(calls)}"
