"""One bundle's graph, loaded: the only place that calls onnxruntime."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bertserve.bundle import Bundle, BundleError
from bertserve.engine.contract import Engine, RunStop
from bertserve.engine.items import Item, ItemOutputs
from bertserve.engine.ort.private_memory import detach
from bertserve.engine.ort.run_memory import FEW_MASKS, estimate_largest_run_bytes, estimate_run_bytes
from bertserve.engine.packing import PackedBatch, pack, unpack

# Since 1.29 its Linux builds report every session to their maker, unless this is set before they are loaded.
os.putenv("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

# Into kernels that are slower than their parts: scalar loops in SkipLayerNormalization, extra passes in BiasGelu.
SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasSkipLayerNormFusion", "BiasGeluFusion", "EmbedLayerNormFusion"]

# A processor that has one of these adds up products of u8 × s8 in 32 bits. Others do it in 16, which overflow.
WIDE_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
PROCESSOR_INFO = Path("/proc/cpuinfo")

# Errors only: ONNX Runtime's warnings about shapes that vary are not for an operator's eyes.
LOG_SEVERITY_ERROR = 3

# _SC_LEVEL2_CACHE_SIZE of glibc, which ONNX Runtime asks for. Python has no name for it.
LEVEL_2_CACHE_SIZE = 191

# Memory of a longer run is given back when it ends. Taking it anew costs little beside a run of that many tokens.
KEPT_RUN_TOKENS = 2048


class _GraphFile:
    """A path that ONNX Runtime gets as bytes. As text it refuses what is not UTF-8, or is read in an ASCII locale."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self._path)


class OrtEngine(Engine):
    """A bundle in a session of ONNX Runtime. All runs share its weights."""

    def __init__(self, bundle: Bundle, threads: int, optimized_graph_path: Path | None = None) -> None:
        """Load the graph. threads: of one run. optimized_graph_path: write there what will really run."""
        self.bundle = bundle
        self._position_offset = bundle.model.position_offset
        options = session_options(threads)
        if optimized_graph_path is not None:
            options.optimized_model_filepath = str(optimized_graph_path)
            # Beside it, for a protobuf file ends at 2 GiB.
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", f"{optimized_graph_path.name}.data"
            )
        try:
            self._session = ort.InferenceSession(
                _GraphFile(bundle.graph_path),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=SLOW_FUSIONS,
            )
            # Or whoever writes over the file changes the weights, or ends the process.
            detach(bundle.graph_data_path)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BundleError(
                f"{bundle.graph_path}: ONNX Runtime cannot load it ({reason}); export it again"
            ) from error
        self._inputs = frozenset(node.name for node in self._session.get_inputs())
        self._has_long_texts = "wanted_layers" in self._inputs
        self._has_few_masks = FEW_MASKS in self._session.get_modelmeta().custom_metadata_map

    def pack(self, items: Sequence[Item]) -> PackedBatch:
        return pack(items, self._position_offset)

    def run(self, batch: PackedBatch, stop: RunStop | None = None) -> list[ItemOutputs]:
        """Run a batch. A stop ends it at the graph's next node; a kernel under way is not interrupted."""
        feeds = {name: array for name, array in batch.feeds.items() if name in self._inputs}
        options = ort.RunOptions()
        if stop is not None:
            stop.on_request(partial(setattr, options, "terminate", True))
        if batch.token_count > KEPT_RUN_TOKENS:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        outputs: list[NDArray[Any]] = self._session.run(list(batch.fetches), feeds, options)
        return unpack(batch, dict(zip(batch.fetches, outputs, strict=True)))

    def estimate_run_bytes(self, tokens: int) -> int:
        return estimate_run_bytes(self.bundle.model, tokens, **self._run_traits())

    def estimate_largest_run_bytes(self, longest_text: int, batch_tokens: int) -> int:
        return estimate_largest_run_bytes(self.bundle.model, longest_text, batch_tokens, **self._run_traits())

    def _run_traits(self) -> dict[str, bool]:
        return {"has_flash": self._has_long_texts and knows_cache_size(), "few_masks": self._has_few_masks}


def overflows(flags: frozenset[str]) -> bool:
    """Whether int8 products come out wrong on an x86 processor with these flags (onnxruntime issues 6004, 14642)."""
    return "avx2" in flags and not flags & WIDE_PRODUCTS


def read_processor_flags(info: Path) -> frozenset[str]:
    """What the processor can do, in Linux's words; nothing where that is not said."""
    try:
        lines = info.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def knows_cache_size() -> bool:
    """Whether ONNX Runtime can size the blocks of flash attention. It holds all scores of a text otherwise."""
    try:
        return sys.platform == "linux" and os.sysconf(LEVEL_2_CACHE_SIZE) > 0
    except (OSError, ValueError):
        return False


def session_options(threads: int) -> ort.SessionOptions:
    """How every session runs, those of the benchmarks included. threads: of one run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_SEVERITY_ERROR
    # Every batch has another length: patterns would be computed for each and never used again.
    options.enable_mem_pattern = False
    # Without a bound, idle workers spin through the CPU quota between batches.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    if overflows(read_processor_flags(PROCESSOR_INFO)):
        # Exact, by products of u8 × u8. Only here, for on other processors they take more than twice the time.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options
