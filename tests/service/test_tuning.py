"""Lanes and budgets by measurement: what is measured, and what is chosen of it."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.engine.contract import LanePlan
from bertserve.engine.items import Item, Wanted
from bertserve.settings import read_settings
from bertserve.tuning import Measurement, choose_plan, fill_batch, find_plan, possible_threads
from hypothesis import given
from hypothesis import strategies as st
from servers import PRETRAINING, running_server

MEASUREMENTS = st.lists(
    st.builds(
        Measurement,
        plan=st.builds(
            LanePlan,
            lanes=st.integers(1, 8),
            lane_threads=st.integers(1, 8),
            batch_tokens=st.sampled_from([64, 128, 256]),
        ),
        tokens_per_second=st.floats(1, 10_000),
    ),
    min_size=1,
)


@given(MEASUREMENTS)
def test_chosen_plan_is_nearly_the_fastest_and_none_as_good_is_shorter(measurements: list[Measurement]) -> None:
    chosen = choose_plan(measurements)
    good = 0.95 * max(one.tokens_per_second for one in measurements)
    assert any(one.plan == chosen and one.tokens_per_second >= good for one in measurements)
    assert all(one.plan.batch_tokens >= chosen.batch_tokens for one in measurements if one.tokens_per_second >= good)


PLANS = {
    "": LanePlan(lanes=4, lane_threads=1, batch_tokens=256),
    "--lanes auto --lane-threads auto --batch-tokens auto": LanePlan(lanes=4, lane_threads=1, batch_tokens=256),
    "--lane-threads 2": LanePlan(lanes=2, lane_threads=2, batch_tokens=256),
    "--lane-threads 8": LanePlan(lanes=1, lane_threads=8, batch_tokens=256),
    "--lanes 9 --lane-threads 3 --batch-tokens 7": LanePlan(lanes=9, lane_threads=3, batch_tokens=7),
}


@pytest.mark.parametrize(("flags", "expected"), PLANS.items())
def test_lanes_and_budget_are_the_engines_plan_unless_asked_for(flags: str, expected: LanePlan) -> None:
    assert find_plan(read_settings(flags.split()), PRETRAINING, cores=4) == expected


@pytest.mark.parametrize(("cores", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_threads_worth_measuring(cores: int, expected: list[int]) -> None:
    assert possible_threads(cores) == expected


@given(st.lists(st.integers(1, 100), min_size=1, max_size=5), st.integers(1, 300))
def test_measured_batch_fills_the_budget(sizes: list[int], budget: int) -> None:
    """As the queue would: not above it but for a lone item, and with no room for the next."""
    ids = [np.zeros(size, dtype=np.int64) for size in sizes]
    items = [Item(input_ids=one, token_type_ids=one, wanted=Wanted()) for one in ids]
    batch = fill_batch(items, budget)
    tokens = sum(item.length for item in batch)
    assert tokens <= budget or len(batch) == 1
    assert tokens + items[len(batch) % len(items)].length > budget


def test_tuned_server_says_what_it_chose_and_serves() -> None:
    """One log line a plan, and the chosen one in force."""
    with running_server(PRETRAINING, "--tune") as server, grpc.insecure_channel(server.target) as channel:
        request = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat")])
        assert pb_grpc.BertServiceStub(channel).Embed(request, timeout=60).embeddings
        lines = [json.loads(line) for line in server.log]
        measured = {(line["lanes"], line["lane_threads"]) for line in lines if line["message"] == "measured"}
        (chosen,) = [line for line in lines if line["message"] == "lanes"]
        assert (chosen["lanes"], chosen["lane_threads"]) in measured
        assert chosen["batch_tokens"] in {64, 128, 256, 512}
