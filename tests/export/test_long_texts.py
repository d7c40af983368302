"""Texts longer than 512 tokens: flash attention, outputs on demand, and words for masks a few at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import transformers
from bertexport.export import export_checkpoint
from bertexport.proof.golden_cases import choose_golden
from bertexport.proof.report import count_operators
from bertexport.request import ExportRequest
from bertserve.bundle import Bundle, read_bundle
from bertserve.engine.contract import Engine
from bertserve.engine.golden import comparable_outputs, read_golden
from bertserve.engine.items import Item, Wanted
from bertserve.engine.opening import open_engine
from bertserve.engine.ort.run_memory import FEW_MASKS, LOGITS_BYTES, LONG_TEXT_TOKENS, estimate_run_bytes
from bertserve.engine.ort.session import knows_cache_size
from checkpoints import TINY, write_checkpoint
from servers import running_server

from .conftest import ALL_HEADS, SilentSteps
from .test_graph import all_nodes, write_graph
from .test_invariance import assert_same

pytestmark = pytest.mark.export

LAYERS = TINY["num_hidden_layers"]
LONGEST = 1100
# So many pieces that the logits of LONGEST masks do not fit at once.
PIECES = 20_000
ROWS_AT_ONCE = LOGITS_BYTES // (4 * PIECES)

SCORES_OF_LONGEST_MIB = 16 * 8192**2 * 4 // 1024**2
GROWTH_PROGRAM = Path(__file__).parents[1] / "run_growth.py"
LIMIT_BYTES = 400 * 2**20
PROGRAM = """
import os, sys
with open("{folder}/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
from bertserve.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def memory_cgroup() -> Iterator[Path]:
    """An empty cgroup of version 1; needs root and a system that has it."""
    folder = Path(f"/sys/fs/cgroup/memory/bertserve-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield folder
    folder.rmdir()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every head, 1,100 positions, and many pieces."""
    directory = tmp_path_factory.mktemp("long") / "checkpoint"
    write_checkpoint(directory, ALL_HEADS, max_position_embeddings=LONGEST, vocab_size=PIECES)
    settings = directory / "tokenizer_config.json"
    stated = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({**stated, "model_max_length": LONGEST}), encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, brief_texts: Path) -> Bundle:
    output = checkpoint.with_name("bundle")
    export_checkpoint(ExportRequest(model=str(checkpoint), output=output, verify=brief_texts), SilentSteps())
    return read_bundle(output)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, threads=1)


def draw_item(length: int, seed: int = 0, masks: int = 2, layers: tuple[int, ...] = (0, 1, 2)) -> Item:
    rng = np.random.default_rng(seed)
    wanted = Wanted(
        layers=layers,
        pooler=True,
        mask_positions=tuple(sorted(rng.choice(length, size=masks, replace=False).tolist())),
        top_k=3,
        target_ids=(5, 4000, PIECES - 1),
        classify=True,
    )
    return Item(input_ids=rng.integers(5, PIECES, length), token_type_ids=np.zeros(length, np.int64), wanted=wanted)


@pytest.mark.parametrize("length", [LONG_TEXT_TOKENS, LONG_TEXT_TOKENS + 1, LONGEST])
def test_a_long_text_agrees_with_pytorch(length: int, engine: Engine, checkpoint: Path) -> None:
    """On both sides of the length from which flash attention runs, and for the longest text."""
    item = draw_item(length)
    model = transformers.AutoModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    with torch.inference_mode():
        states = model(torch.from_numpy(item.input_ids)[None], output_hidden_states=True).hidden_states
    layers = engine.run_items([item])[0].layers
    for layer, state in enumerate(states):
        np.testing.assert_allclose(layers[layer], state[0].numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("length", [3, LONG_TEXT_TOKENS, LONG_TEXT_TOKENS + 1, 700])
def test_neighbours_of_any_length_never_change_a_result(length: int, engine: Engine) -> None:
    """A text's own length decides about its operator, so its bits are those that it has alone."""
    before = [draw_item(700, 1), draw_item(12, 2)]
    after = [draw_item(LONG_TEXT_TOKENS + 1, 3), draw_item(LONG_TEXT_TOKENS, 4), draw_item(3, 5)]
    assert_same(engine, draw_item(length, 6), before, after)


def test_neighbours_never_change_a_long_result_in_int8(checkpoint: Path, tmp_path: Path) -> None:
    """The same where query, key and value come apart."""
    output = tmp_path / "bundle"
    request = ExportRequest(model=str(checkpoint), output=output, precision="int8", allow_accuracy_loss=True)
    export_checkpoint(request, SilentSteps())
    engine = open_engine(read_bundle(output), threads=1)
    assert_same(engine, draw_item(600, 6), [draw_item(700, 1)], [draw_item(600, 2), draw_item(9, 3)])


def test_each_layer_has_an_operator_for_short_and_one_for_long_texts(bundle: Bundle) -> None:
    """One fused node each, of which a text takes one; shorter models have no such choice."""
    counts = count_operators(bundle.graph_path)
    assert (counts["Attention"], counts["com.microsoft::MultiHeadAttention"]) == (LAYERS, LAYERS)


@pytest.mark.parametrize(("positions", "choices"), [(LONG_TEXT_TOKENS, 0), (LONG_TEXT_TOKENS + 1, 1)])
def test_only_graphs_with_long_texts_choose(positions: int, choices: int, tmp_path: Path) -> None:
    """A model of 512 positions has the attention that it always had."""
    path = write_checkpoint(tmp_path / "checkpoint", max_position_embeddings=positions, num_hidden_layers=1)
    write_graph(path, tmp_path)
    counts = Counter(node.op_type for node in all_nodes(onnx.load(tmp_path / "model.onnx").graph))
    assert (counts["MultiHeadAttention"], counts["If"] > 0) == (choices, bool(choices))


@pytest.mark.parametrize(("pieces", "says"), [(TINY["vocab_size"], False), (40_000, True)])
def test_a_graph_says_whether_it_takes_a_few_masks_at_a_time(pieces: int, says: bool, tmp_path: Path) -> None:
    """The server counts its memory by that; 512 masks of 40,000 pieces would not fit at once."""
    shape = {"vocab_size": pieces, "num_hidden_layers": 1, "max_position_embeddings": LONG_TEXT_TOKENS}
    write_graph(write_checkpoint(tmp_path / "checkpoint", ["masked_lm"], **shape), tmp_path)
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert (FEW_MASKS in session.get_modelmeta().custom_metadata_map) == says


def test_a_layer_that_is_not_wanted_has_no_rows(engine: Engine) -> None:
    """ONNX Runtime keeps all outputs to the end of a run, so those not wanted must be empty."""
    batch = engine.pack([draw_item(9, layers=(2,))])
    feeds = {name: value for name, value in batch.feeds.items() if name in engine._inputs}
    shapes = {f"hidden_{layer}": (9 if layer == 2 else 0, TINY["hidden_size"]) for layer in range(LAYERS + 1)}
    outputs = engine._session.run(list(shapes), feeds)
    assert {name: output.shape for name, output in zip(shapes, outputs, strict=True)} == shapes


def test_a_run_of_the_longest_text_never_holds_its_scores(tmp_path: Path) -> None:
    """8,192 tokens and 16 heads have 4 GB of scores; the process grows by a twentieth of that at most."""
    shape = {"num_attention_heads": 16, "num_hidden_layers": 1}
    path = write_checkpoint(tmp_path / "checkpoint", (), max_position_embeddings=8192, **shape)
    write_graph(path, tmp_path)
    assert measure_growth_mib(tmp_path, 8192, layer=1) < SCORES_OF_LONGEST_MIB / 20


def test_a_run_holds_the_rows_of_no_layer_but_those_it_needs(tmp_path: Path) -> None:
    """8 layers of 4,096 rows take no more than 2 do: the rows of a layer are let go when the next one has them."""
    grown_mib = []
    for layers in (2, 8):
        shape = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": layers}
        folder = tmp_path / f"{layers}"
        write_graph(write_checkpoint(folder, (), max_position_embeddings=4096, **shape), folder)
        grown_mib.append(measure_growth_mib(folder, 4096, layer=layers))
    rows_mib = 4096 * 256 * 4 // 1024**2
    assert grown_mib[1] - grown_mib[0] < 3 * rows_mib


def measure_growth_mib(folder: Path, tokens: int, layer: int) -> int:
    command = [sys.executable, str(GROWTH_PROGRAM), str(folder), str(tokens), str(layer)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("masks", [0, 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1])
def test_words_are_the_same_however_many_masks_there_are(masks: int, engine: Engine) -> None:
    """A loop over a few masks at a time gives each mask what it gets alone."""
    item = draw_item(LONGEST, masks=masks)
    together = engine.run_items([item])[0]
    assert (0 if together.mask_top_ids is None else len(together.mask_top_ids)) == masks
    for place in {0, masks // 2, masks - 1} if masks else ():
        wanted = Wanted(mask_positions=(item.wanted.mask_positions[place],), top_k=3, target_ids=item.wanted.target_ids)
        alone = comparable_outputs(
            engine.run_items([Item(input_ids=item.input_ids, token_type_ids=item.token_type_ids, wanted=wanted)])[0]
        )
        for name, values in alone.items():
            np.testing.assert_array_equal(comparable_outputs(together)[name][place : place + 1], values)


def test_masks_of_many_texts_keep_their_words(engine: Engine) -> None:
    """Targets and predictions find their masks across the loop's chunks, whatever text a mask belongs to."""
    items = [draw_item(length, length, masks=length // 2) for length in (400, 300, 500)]
    for item, together in zip(items, engine.run_items(items), strict=True):
        alone = comparable_outputs(engine.run_items([item])[0])
        for name, values in comparable_outputs(together).items():
            np.testing.assert_array_equal(values, alone[name])


def test_the_golden_outputs_prove_a_long_text(bundle: Bundle) -> None:
    """A server that computes long texts otherwise than the exporter notices it at load."""
    lengths = [case.item.length for case in read_golden(bundle.golden_path)]
    assert sum(length > LONG_TEXT_TOKENS for length in lengths) == 1


def test_a_memory_limit_below_the_need_is_said_at_load(bundle: Bundle, tmp_path: Path, memory_cgroup: Path) -> None:
    """The line names the limit, the need and the remedies; the server starts all the same."""
    (memory_cgroup / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES), encoding="ascii")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(folder=str(memory_cgroup)), encoding="utf-8")
    with running_server(bundle.path, program=program, environment={"BERTSERVE_LANES": "2"}) as server:
        assert server.stop() == 0
    said = [json.loads(line) for line in server.log if "memory limit" in line]
    assert [(line["level"], line["limit_bytes"]) for line in said] == [("warning", LIMIT_BYTES)]
    assert said[0]["needed_bytes"] > LIMIT_BYTES
    assert "--queue-tokens" in said[0]["message"]


def test_the_report_says_what_memory_a_bundle_needs(bundle: Bundle) -> None:
    """The weights, and the longest text beside them."""
    report = json.loads((bundle.path / "report.json").read_text(encoding="utf-8"))
    memory = report["memory_bytes"]
    assert memory["longest_text"] == estimate_run_bytes(
        bundle.model, LONGEST, has_flash=knows_cache_size(), few_masks=True
    )
    assert memory["loaded"] > bundle.graph_path.stat().st_size
    assert f"{memory['longest_text']:,}" in (bundle.path / "REPORT.md").read_text(encoding="utf-8")


def test_models_of_short_texts_have_short_golden_inputs() -> None:
    """512 tokens are no long text."""
    items = [draw_item(length) for length in (9, 30, LONG_TEXT_TOKENS)]
    assert max(item.length for item in choose_golden(items)) == 30
