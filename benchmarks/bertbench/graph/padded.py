"""Padded baselines: what anybody gets from PyTorch and ONNX Runtime in an afternoon, with the bundle's shapes.

The optimized graph is made by ONNX Runtime's own tool for transformers, in the one way in which it really fuses
attention: eager attention, the TorchScript exporter, opset 17. Weights are random; there is no pooler. Every batch is
padded to its longest text, and only real tokens are counted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bertserve.bundle import ModelFacts
from bertserve.engine.items import Int64s
from bertserve.engine.ort.session import LOG_SEVERITY_ERROR

# After the engine, which switches its telemetry off.
import onnxruntime as ort  # isort: skip
import torch
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from transformers import AutoModel, BertConfig

from bertbench.graph.runners import Contestant, Kind, Runner

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17
SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedGraph:
    """An optimized graph on disk. fused: attention nodes; attention of other layers was left in parts."""

    path: Path
    fused: int


class PaddedGraphRunner:
    """The optimized graph with ONNX Runtime's default settings."""

    def __init__(self, path: Path, vocabulary_size: int, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = LOG_SEVERITY_ERROR
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name: node.type for node in self._session.get_inputs()}
        self._vocabulary_size = vocabulary_size

    def prepare(self, lengths: Sequence[int]) -> Callable[[], object]:
        # The optimizer turns what it can to int32.
        feeds = {
            name: array.astype(np.int32 if self._inputs[name] == "tensor(int32)" else np.int64)
            for name, array in pad(lengths, self._vocabulary_size).items()
        }
        return lambda: self._session.run(None, feeds)


class PaddedTorchRunner:
    """The model in PyTorch, as transformers runs it unless told otherwise."""

    def __init__(self, model: torch.nn.Module, vocabulary_size: int, threads: int) -> None:
        self._model = model
        self._vocabulary_size = vocabulary_size
        self._threads = threads

    def prepare(self, lengths: Sequence[int]) -> Callable[[], object]:
        feeds = {name: torch.from_numpy(array) for name, array in pad(lengths, self._vocabulary_size).items()}

        def run() -> object:
            # Holds for the calling thread, which is a lane.
            torch.set_num_threads(self._threads)
            with torch.inference_mode():
                return self._model(**feeds)

        return run


def pad(lengths: Sequence[int], vocabulary_size: int) -> dict[str, Int64s]:
    """Random texts as [texts, longest], padded on the right with 0; the mask is 1 on real tokens."""
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.random.default_rng(SEED).integers(0, vocabulary_size, mask.shape, dtype=np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}


def padded_contestants(facts: ModelFacts, quantize: bool, directory: Path) -> tuple[list[Contestant], list[str]]:
    """Eager PyTorch and the optimized graph, in int8 as well if asked; and what to know about them."""
    graph = export_padded(make_model(facts, "eager"), facts, directory)
    notes = []
    if graph.fused != facts.layer_count:
        notes.append(
            f"padded graph: the optimizer fused attention in {graph.fused} of {facts.layer_count} layers, so this "
            "baseline is slower than it could be"
        )
    paths = {"fp32": graph.path}
    if quantize:
        paths["int8"] = quantize_padded(graph.path)
    contestants = [
        Contestant(
            name=f"padded graph {precision}",
            kind=Kind.BASELINE,
            precision=precision,
            load=_graph_loader(path, facts.vocabulary_size),
        )
        for precision, path in paths.items()
    ]
    model = make_model(facts, "sdpa")
    torch_contestant = Contestant(
        name="PyTorch fp32",
        kind=Kind.BASELINE,
        precision="fp32",
        load=lambda threads: PaddedTorchRunner(model, facts.vocabulary_size, threads),
    )
    return [*contestants, torch_contestant], notes


def make_model(facts: ModelFacts, attention: str) -> torch.nn.Module:
    """A BertModel of these shapes with random weights, without pooler."""
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=facts.vocabulary_size,
        hidden_size=facts.hidden_size,
        num_hidden_layers=facts.layer_count,
        num_attention_heads=facts.attention_heads,
        intermediate_size=facts.intermediate_size,
        hidden_act=facts.activation,
        max_position_embeddings=facts.position_limit,
        type_vocab_size=facts.segment_count,
        layer_norm_eps=facts.layer_norm_epsilon,
    )
    model: torch.nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation=attention, add_pooling_layer=False
    )
    return model.eval()


def export_padded(model: torch.nn.Module, facts: ModelFacts, directory: Path) -> PaddedGraph:
    """Export and optimize a model with eager attention; files go to `directory`."""
    raw, path = directory / "exported.onnx", directory / "padded.onnx"
    sample = {name: torch.from_numpy(array) for name, array in pad((8, 5), facts.vocabulary_size).items()}
    axes = {name: {0: "texts", 1: "length"} for name in (*INPUTS, "hidden")}
    with warnings.catch_warnings():
        # It is deprecated, and warns of shapes that it takes for constants; nothing newer fuses.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _HiddenStates(model),
            tuple(sample[name] for name in INPUTS),
            raw,
            input_names=list(INPUTS),
            output_names=["hidden"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    optimized = optimize_model(
        str(raw),
        model_type="bert",
        num_heads=facts.attention_heads,
        hidden_size=facts.hidden_size,
        optimization_options=FusionOptions("bert"),
        opt_level=0,
    )
    optimized.save_model_to_file(str(path))
    return PaddedGraph(path=path, fused=optimized.get_fused_operator_statistics()["Attention"])


def quantize_padded(path: Path) -> Path:
    """Its int8 form by ONNX Runtime's dynamic quantization, whose results depend on the whole batch."""
    quantized = path.with_name("padded-int8.onnx")
    # The fused nodes hide the types of their outputs, which the tool would look up.
    options = {"DefaultTensorType": TensorProto.FLOAT}
    quantize_dynamic(path, quantized, per_channel=True, weight_type=QuantType.QInt8, extra_options=options)
    return quantized


def _graph_loader(path: Path, vocabulary_size: int) -> Callable[[int], Runner]:
    return lambda threads: PaddedGraphRunner(path, vocabulary_size, threads)


class _HiddenStates(torch.nn.Module):
    """The model with its inputs by position and one output, as the exporter wants it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        outputs = self._model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return outputs.last_hidden_state
