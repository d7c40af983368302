"""A serving without any door: everything that a door needs, and no transport."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator

import numpy as np
import pytest
from bertserve.observe.metrics import Metrics
from bertserve.serving import Serving, open_serving
from bertserve.settings import Settings
from bertserve.tasks.asks import Ask, EmbedAsk
from bertserve.tasks.sizes import Counts
from bertserve.tokenizer import Text
from servers import PRETRAINING


class NoSizes:
    """The size model of a door that sends nothing."""

    def answer_bytes(self, counts: Counts) -> int:  # noqa: ARG002
        return 0


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    settings = Settings(bundles=[str(PRETRAINING)], lanes=1)
    async with open_serving(settings, Metrics()) as serving:
        yield serving


async def test_an_ask_is_answered_without_a_door(serving: Serving) -> None:
    """An empty name means the first model."""
    model = serving.models.find("")
    ask = Ask(inputs=(Text(text="a cat"), Text(text="the dog")), embed=EmbedAsk())
    answer = await serving.analyzer.analyze(model, ask, None, NoSizes())
    assert len(answer.analyses) == 2
    for analysis in answer.analyses:
        assert analysis.embedding is not None
        assert analysis.embedding.vectors.shape == (model.facts.hidden_size,)
        assert np.isfinite(analysis.embedding.vectors).all()


async def test_a_serving_is_ready_until_it_leaves(serving: Serving) -> None:
    """Probes, health and metrics say the same."""
    told: list[bool] = []
    serving.watch_ready(told.append)
    assert serving.is_alive
    assert serving.is_ready
    assert serving.metrics.registry.get_sample_value("bertserve_ready") == 1
    await serving.drain.leave(0, 10)
    assert not serving.is_ready
    assert serving.metrics.registry.get_sample_value("bertserve_ready") == 0
    assert (told[0], told[-1]) == (True, False)


def test_a_serving_loads_no_transport() -> None:
    """Neither gRPC nor its generated code is loaded with everything that computes."""
    code = "import sys, bertserve.serving; print(sorted({'grpc', 'bertapi', 'google.protobuf'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout == "[]\n"
