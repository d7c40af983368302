"""What the load generator decides before anything is sent: schedules, shares, texts, requests."""

from __future__ import annotations

import numpy as np
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertbench.errors import BenchError
from bertbench.load.arrivals import Arrivals, schedule
from bertbench.load.plan import ClosedLoop, OpenLoop, Plan, deal
from bertbench.load.requests import prepare, prepare_one, read_mix, read_sizes
from bertbench.load.texts import draw_lengths, fit_texts, read_texts
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.export

REQUESTS = prepare(read_texts(None), {"embed": 1}, {1: 1}, np.random.default_rng(0), count=97)


@given(rate=st.floats(0.5, 2000), start=st.floats(-5, 0), seconds=st.floats(0.01, 20), seed=st.integers(0, 99))
@pytest.mark.parametrize("arrivals", Arrivals)
def test_schedules_ascend_within_their_bounds(
    arrivals: Arrivals, rate: float, start: float, seconds: float, seed: int
) -> None:
    """Every moment lies in the run, none before the one ahead of it."""
    moments = schedule(arrivals, rate, start, start + seconds, np.random.default_rng(seed))
    assert np.all(np.diff(moments) >= 0)
    assert np.all((moments >= start) & (moments < start + seconds + 1e-9))


def test_constant_arrivals_keep_their_distance() -> None:
    """A hundred a second are a hundredth of a second apart."""
    moments = schedule(Arrivals.CONSTANT, 100, -1, 2, np.random.default_rng(0))
    assert moments == pytest.approx(np.linspace(-1, 2, 301)[:-1])


def test_poisson_arrivals_have_exponential_gaps() -> None:
    """Mean and standard deviation of the gaps are both one over the rate, and the count is right within 5 sigma."""
    moments = schedule(Arrivals.POISSON, 50, 0, 2000, np.random.default_rng(1))
    gaps = np.diff(moments)
    assert abs(len(moments) - 100_000) < 5 * 100_000**0.5
    assert gaps.mean() == pytest.approx(0.02, rel=0.03)
    assert gaps.std() == pytest.approx(0.02, rel=0.03)


@given(processes=st.integers(1, 8), rate=st.floats(1, 300), seed=st.integers(0, 99), cancelled=st.floats(0, 1))
def test_no_call_is_lost_or_sent_twice(processes: int, rate: float, seed: int, cancelled: float) -> None:
    """The parts of all processes together are the part of one."""
    loop = OpenLoop(rate=rate)
    whole, parts = (
        deal(Plan(target="", loop=loop, seconds=3, cancelled=cancelled, processes=count, seed=seed), REQUESTS)
        for count in (1, processes)
    )
    assert np.array_equal(np.sort(np.concatenate([p.moments for p in parts])), whole[0].moments)  # type: ignore[arg-type]
    assert sorted(r.message for p in parts for r in p.requests) == sorted(r.message for r in REQUESTS)
    assert all(len(part.requests) == len(part.cancel_after) for part in parts)


@given(processes=st.integers(1, 8), callers=st.integers(1, 40))
def test_callers_are_shared_out(processes: int, callers: int) -> None:
    """All of them, as evenly as can be."""
    parts = deal(Plan(target="", loop=ClosedLoop(callers=callers), seconds=1, processes=processes), REQUESTS)
    shares = [part.callers for part in parts]
    assert sum(shares) == callers
    assert max(shares) - min(shares) <= 1


@given(
    lengths=st.lists(st.integers(3, 60), min_size=1, max_size=20),
    words=st.lists(st.integers(1, 6), min_size=1, max_size=30),
)
def test_fitted_texts_have_the_tokens_asked(lengths: list[int], words: list[int]) -> None:
    """Never more; and exactly as many wherever there is a word of one token."""
    tokens = {f"w{index}": count for index, count in enumerate(words)}
    fitted = fit_texts([" ".join(tokens)], lengths, tokens.__getitem__, special_tokens=2)
    found = [2 + sum(tokens[word] for word in text.split()) for text in fitted]
    assert all(count <= length for count, length in zip(found, lengths, strict=True))
    if 1 in words:
        assert found == lengths


def test_drawn_lengths_have_the_mean_asked() -> None:
    """Within a few percent, and inside the bounds."""
    lengths = draw_lengths(30, 20_000, (4, 128), np.random.default_rng(0))
    assert lengths.mean() == pytest.approx(30, rel=0.03)
    assert (lengths.min(), lengths.max()) >= (4, 30)
    assert lengths.max() <= 128


def test_a_mix_is_drawn_by_weight() -> None:
    """Three embeds for a fill, and sizes likewise; every request holds as many texts as it says."""
    texts = [f"text number {number}" for number in range(10)]
    requests = prepare(texts, {"embed": 3, "fill": 1}, {1: 9, 16: 1}, np.random.default_rng(0), count=4000)
    assert sum(r.task == "embed" for r in requests) == pytest.approx(3000, rel=0.05)
    assert sum(r.texts == 16 for r in requests) == pytest.approx(400, rel=0.2)
    for request in requests[:50]:
        message = {"embed": pb.EmbedRequest, "fill": pb.FillMaskRequest}[request.task].FromString(request.message)
        assert len(message.inputs) == request.texts


def test_a_filled_text_has_one_mask() -> None:
    """In place of its middle word."""
    message = pb.FillMaskRequest.FromString(prepare_one("fill", ["the cat sat", "yes"]).message)
    assert [text.text for text in message.inputs] == ["the [MASK] sat", "[MASK]"]


def test_weights_are_read() -> None:
    """Names with weights, one where none is given."""
    assert read_mix("embed=3, fill") == {"embed": 3, "fill": 1}
    assert read_sizes("1=9,16=0.5") == {1: 9, 16: 0.5}


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_mix, "embed=3,dream=1", "dream is no task; there are embed"),
        (read_mix, "embed=x", "'embed=x' has no weight that is a number"),
        (read_mix, "embed=-1", "a weight of zero or more"),
        (read_mix, "embed=0", "no weight above zero"),
        (read_mix, "", "lacks a name"),
        (read_sizes, "0=1", "a size that is no number of texts"),
        (read_sizes, "many", "a size that is no number of texts"),
    ],
)
def test_weights_that_cannot_be_are_refused(read: object, text: str, message: str) -> None:
    """The message says what is wrong and how to write it."""
    with pytest.raises(BenchError, match=message):
        read(text)  # type: ignore[operator]


def test_a_file_without_texts_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Blank lines are none; a missing file is named."""
    (tmp_path / "blank.txt").write_text("\n  \n")
    with pytest.raises(BenchError, match="no text in it"):
        read_texts(tmp_path / "blank.txt")
    with pytest.raises(BenchError, match="cannot be read"):
        read_texts(tmp_path / "missing.txt")
