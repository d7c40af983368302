"""`bertbench serving`: what its figures count, and a small real run of each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bertbench.errors import BenchError
from bertbench.load.requests import prepare_one
from bertbench.load.scrape import Sample, parse_metrics
from bertbench.serving.neighbours import mingle
from bertbench.serving.offline import fill_batches
from bertbench.serving.overload import bound_refusals
from bertbench.serving.server_process import serving
from bertbench.serving.workload import Workload, open_bundle
from bertserve.engine.items import Item, Wanted
from hypothesis import given
from hypothesis import strategies as st
from servers import PRETRAINING

pytestmark = pytest.mark.export


def item(number: int, length: int) -> Item:
    ids = np.full(length, number, dtype=np.int64)
    return Item(input_ids=ids, token_type_ids=np.zeros_like(ids), wanted=Wanted())


@given(lengths=st.lists(st.integers(1, 300), max_size=60), budget=st.integers(1, 256))
def test_batches_hold_every_item_once_within_the_budget(lengths: list[int], budget: int) -> None:
    """Only an item that is itself longer exceeds the budget, and it is alone."""
    batches = fill_batches([item(number, length) for number, length in enumerate(lengths)], budget)
    assert sorted(int(one.input_ids[0]) for batch in batches for one in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(one.length for one in batch) <= budget


def page(handled: dict[str, int], waited: dict[str, int]) -> Sample:
    series = {
        'grpc_server_handling_seconds_bucket{grpc_method="Embed",le="%s"}': handled,
        'bertserve_stage_seconds_bucket{stage="queue",le="%s"}': waited,
    }
    lines = [f"{name % bound} {count}" for name, counts in series.items() for bound, count in counts.items()]
    return parse_metrics("\n".join(lines) + "\n")


NOTHING = {"0.01": 0, "0.1": 0, "1.0": 0, "+Inf": 0}


@pytest.mark.parametrize(
    ("handled", "waited", "bound"),
    [
        # A hundred refusals within 10 ms; fifty answers that waited for longer.
        ({"0.01": 100, "0.1": 100, "1.0": 150, "+Inf": 150}, NOTHING | {"1.0": 50, "+Inf": 50}, 0.01),
        # Ten of those that were quick may be answers: as many waited no longer than 10 ms.
        ({"0.01": 100, "0.1": 110, "1.0": 150, "+Inf": 150}, {"0.01": 10, "0.1": 10, "1.0": 50, "+Inf": 50}, 0.1),
        ({"0.01": 0, "0.1": 0, "1.0": 20, "+Inf": 150}, NOTHING | {"+Inf": 50}, None),
    ],
    ids=["all quick", "some may be answers", "beyond the histogram"],
)
def test_refusals_are_bounded_without_counting_answers(
    handled: dict[str, int], waited: dict[str, int], bound: float | None
) -> None:
    """What is said of refusals holds whichever calls the answered ones were."""
    assert bound_refusals(page(NOTHING, NOTHING), page(handled, waited), 100, 0.99) == bound


def test_kinds_are_mingled_by_their_rates() -> None:
    """Nine short requests for a long one."""
    kinds = [(prepare_one("embed", ["a"], kind=kind),) for kind in ("short", "long")]
    mingled = mingle(kinds, (90.0, 10.0), np.random.default_rng(0))
    assert np.mean([request.kind == "long" for request in mingled]) == pytest.approx(0.1, rel=0.2)


def test_texts_have_the_tokens_asked_by_the_bundles_tokenizer() -> None:
    """As the engine will see them."""
    workload = Workload(open_bundle(PRETRAINING), None)
    lengths = [3, 17, 32, 128]
    assert [one.length for one in workload.items(workload.texts(lengths))] == lengths


def test_a_directory_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    """In the words of the bundle's own check."""
    with pytest.raises(BenchError, match="a bundle is a directory written by bertexport"):
        open_bundle(tmp_path)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """Its last words are in the message."""
    with pytest.raises(BenchError, match=r"ended with status 1.*cannot be read"), serving(tmp_path):
        pass


def test_a_server_that_has_ended_is_told_from_a_page_that_cannot_be_read() -> None:
    """How it ended is in the message."""
    with serving(PRETRAINING) as server:
        assert server.sample().series
        os.kill(server.process_id, signal.SIGKILL)
        os.waitid(os.P_PID, server.process_id, os.WEXITED | os.WNOWAIT)
        with pytest.raises(BenchError, match="ended with status -9: without a word"):
            server.sample()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "options", "keys"),
    [
        ("saturation", ["--seconds", "1", "--rounds", "1"], {"arrangements"}),
        ("overload", ["--seconds", "1"], {"refused", "lost", "refusal_p99_at_most"}),
        ("neighbours", ["--seconds", "2"], {"short_alone", "together"}),
        ("cancellations", ["--seconds", "2"], {"run_tokens", "answered_tokens"}),
        ("memory", ["--first", "50", "--requests", "200"], {"load_peak_bytes", "idle_cores"}),
        ("startup", ["--rounds", "1"], {"ready", "load"}),
    ],
)
def test_each_figure_comes_from_one_command(figure: str, options: list[str], keys: set[str], tmp_path: Path) -> None:
    """A table, and JSON that says on what machine it was measured."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bertbench", "serving", figure, str(PRETRAINING), *options, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "┃" in done.stdout
    figures = json.loads(file.read_text())
    assert keys <= set(figures)
    assert figures["machine"]["cores"] >= 1
