"""REPORT.md for a person and report.json for a program: what was measured, what the graph is made of, and where."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
from bertserve.bundle import GRAPH_DATA_NAME, GRAPH_NAME, TOKENIZER_NAME, FileRecord, Manifest

from bertexport.errors import ExportError
from bertexport.proof.figures import write_cosine, write_share
from bertexport.proof.verification import Band, Verdict

# An attention that is not one fused node, and kernels that are slower than their parts.
FORBIDDEN_OPERATORS = frozenset({"Softmax", "SkipLayerNormalization", "BiasGelu", "EmbedLayerNormalization"})
# How a layer's fused attention may be written: one node, or one for short texts and one for long ones.
ATTENTION_OPERATORS = ("Attention", "MultiHeadAttention")
# A tokenizer in memory, in sizes of its file. Measured with 250,000 pieces.
TOKENIZER_FACTOR = 22
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "numpy")

BAND_COLUMNS = (
    "output",
    "tokens, up to",
    "inputs",
    "largest difference",
    "relative",
    "lowest token cosine",
    "agreement",
    "top five",
)

OperatorCounts = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """Nodes by domain and type, loop bodies included: as exported, and as the session will run them."""

    exported: OperatorCounts
    optimized: OperatorCounts

    def beside_standard(self) -> tuple[str, ...]:
        """Names of the exported operators that are not ONNX's own, in order."""
        return tuple(sorted(name for name in self.exported if "::" in name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """notes: what a reader should know besides the figures, such as tensors that no head reads.

    longest_text_bytes: memory that a run of the longest text takes beside the weights.
    """

    manifest: Manifest
    verdict: Verdict
    operators: Operators
    files: dict[str, FileRecord]
    notes: tuple[str, ...]
    longest_text_bytes: int


def count_operators(path: Path) -> OperatorCounts:
    """Nodes of a graph file by `domain::type`; the standard operators have no domain."""
    graph = onnx.load(path, load_external_data=False).graph
    return dict(sorted(Counter(_operator_names(graph)).items()))


def sum_loaded_bytes(files: dict[str, FileRecord]) -> int:
    """Memory of what a server loads: the graph's files as they are, the tokenizer as a multiple of its file."""
    weights = sum(record.size for name, record in files.items() if name in (GRAPH_NAME, GRAPH_DATA_NAME))
    return weights + TOKENIZER_FACTOR * files[TOKENIZER_NAME].size


def check_operators(operators: Operators, layer_count: int) -> None:
    """Raise ExportError unless the session keeps the fused attention of every layer as the file has it.

    A layer has one Attention, and one MultiHeadAttention beside it if the graph has a way for long texts.
    """
    for stage, counts in (("exported", operators.exported), ("optimized", operators.optimized)):
        by_type: Counter[str] = Counter()
        for name, count in counts.items():
            by_type[name.rsplit("::", 1)[-1]] += count
        attention = [by_type[name] for name in ATTENTION_OPERATORS]
        is_fused = attention in ([layer_count, 0], [layer_count, layer_count])
        if not is_fused or (found := FORBIDDEN_OPERATORS & set(by_type)):
            extra = f", and {', '.join(sorted(found))}" if is_fused else ""
            raise ExportError(
                f"the {stage} graph has {sum(attention)} fused attention nodes for {layer_count} layers{extra}; "
                "this onnxruntime rewrites the graph, use the version in constraints.txt"
            )


def write_report(report: Report, directory: Path) -> None:
    """Write both forms."""
    content = _as_json(report)
    (directory / "report.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / "REPORT.md").write_text("\n".join(_as_markdown(report)) + "\n", encoding="utf-8")


def describe_environment() -> dict[str, str]:
    """Versions and processor: what the figures depend on."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **versions, "system": platform.system(), "processor": _processor()}


def _operator_names(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _operator_names(attribute.g)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "bundle_id": report.manifest.bundle_id,
        "source": report.manifest.source.model_dump(mode="json"),
        "model": report.manifest.model.model_dump(mode="json"),
        "figures": report.verdict.figures,
        "gates": [{**asdict(gate), "value": report.verdict.figures[gate.figure]} for gate in report.verdict.gates],
        "accuracy_loss": list(report.verdict.failures),
        "layers": [asdict(layer) for layer in report.verdict.layers],
        "bands": [asdict(band) for band in report.verdict.bands],
        "operators": asdict(report.operators),
        "memory_bytes": {"loaded": sum_loaded_bytes(report.files), "longest_text": report.longest_text_bytes},
        "file_bytes": {name: record.size for name, record in report.files.items()},
        "environment": describe_environment(),
        "notes": list(report.notes),
    }


def _as_markdown(report: Report) -> Iterator[str]:
    model, source, verdict = report.manifest.model, report.manifest.source, report.verdict
    yield f"# {source.model}"
    yield ""
    yield f"{source.architecture}{f' at {source.revision}' if source.revision else ''}, {model.precision}: "
    yield f"{model.layer_count} layers × {model.hidden_size}, vocabulary {model.vocabulary_size}, "
    yield f"up to {model.max_tokens} tokens; heads: {', '.join(head.value for head in model.heads)}."
    yield ""
    yield f"Bundle id `{report.manifest.bundle_id}`."
    for failure in verdict.failures:
        yield f"\n> **Less accurate than it should be**, as --allow-accuracy-loss lets it: {failure}."
    for note in report.notes:
        yield f"\n> {note}"
    yield "\n## Accuracy\n"
    yield "Against PyTorch, fp32 and eager. Relative: largest difference ÷ max(1, largest reference value).\n"
    gates = {gate.figure: gate for gate in verdict.gates}
    yield from _table(
        ("figure", "value", "gate"),
        ((n, verdict.write(n), str(gates.get(n, ""))) for n, v in verdict.figures.items()),
    )
    yield from _accuracy_tables(verdict)
    yield "\n## Operators\n"
    names = sorted({*report.operators.exported, *report.operators.optimized})
    counts = ((n, report.operators.exported.get(n, 0), report.operators.optimized.get(n, 0)) for n in names)
    yield from _table(("operator", "exported", "as the session runs it"), counts)
    yield "\n## Memory\n"
    yield "A server needs about 100 MB, what is loaded, and the longest text on each of its lanes.\n"
    memory = (("loaded: weights and tokenizer", sum_loaded_bytes(report.files)),
              (f"a text of {model.max_tokens:,} tokens, while it runs", report.longest_text_bytes))  # fmt: skip
    yield from _table(("memory", "bytes, about"), ((name, f"{size:,}") for name, size in memory))
    yield "\n## Files\n"
    yield from _table(("file", "bytes"), ((name, f"{record.size:,}") for name, record in report.files.items()))
    yield "\n## Environment\n"
    yield from _table(("what", "version"), describe_environment().items())


def _accuracy_tables(verdict: Verdict) -> Iterator[str]:
    yield "\n## By layer\n"
    yield "Cosines between hidden states and PyTorch's, 0 the embedding layer; pooled: of their means over tokens.\n"
    columns = ("layer", "token, lowest", "token, first percentile", "pooled, mean", "pooled, lowest")
    yield from _table(
        columns,
        (
            (
                f.layer,
                *map(write_cosine, (f.token_cosine_min, f.token_cosine_p1, f.pooled_cosine_mean, f.pooled_cosine_min)),
            )
            for f in verdict.layers
        ),
    )
    yield "\n## By length\n"
    yield "Agreement: of decisions, where PyTorch's own margin is at least 0.1; top five: of words for masks, shared.\n"
    yield from _table(BAND_COLUMNS, map(_band_row, verdict.bands))


def _band_row(band: Band) -> tuple[str | int, ...]:
    differences = f"{band.max_abs:.2g}", f"{band.relative:.2g}"
    shares = write_share(band.agreement), write_share(band.top5_overlap)
    return (band.output, band.longest, band.inputs, *differences, write_cosine(band.token_cosine_min), *shares)


def _table(columns: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"
