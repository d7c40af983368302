"""Bundles that earlier versions wrote are served as they are, and answer what today's bundles answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.bundle import MANIFEST_NAME, open_bundle
from servers import BUNDLES, RunningServer, running_server

RELEASED = Path(__file__).parents[1] / "released_bundles"
WRITTEN = sorted(path for path in RELEASED.glob("*/*") if (path / MANIFEST_NAME).is_file())
NAMES = [f"{path.parent.name}/{path.name}" for path in WRITTEN]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Serves each released bundle beside today's bundle of the same checkpoint."""
    today = [f"{name}={BUNDLES / name}" for name in sorted({path.name for path in WRITTEN})]
    released = [f"{path.parent.name}-{path.name}={path}" for path in WRITTEN]
    with running_server(*today, *released) as running:
        yield running


def test_a_bundle_of_the_first_release_is_kept() -> None:
    """Its manifest has schema 1."""
    schemas = [json.loads((path / MANIFEST_NAME).read_text(encoding="utf-8"))["schema_version"] for path in WRITTEN]
    assert 1 in schemas


@pytest.mark.parametrize("path", WRITTEN, ids=NAMES)
def test_a_released_bundle_has_the_id_that_its_checkpoint_has_today(path: Path) -> None:
    """A later schema changes no identity."""
    assert open_bundle(path).manifest.bundle_id == open_bundle(BUNDLES / path.name).manifest.bundle_id


@pytest.mark.parametrize("path", WRITTEN, ids=NAMES)
def test_a_released_bundle_answers_as_todays(path: Path, server: RunningServer) -> None:
    """Every output that it can compute, bit for bit."""
    with grpc.insecure_channel(server.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        answers = [ask_for_all(stub, model) for model in (path.name, f"{path.parent.name}-{path.name}")]
    assert answers[0] == answers[1]


def ask_for_all(stub: pb_grpc.BertServiceStub, model: str) -> list[bytes]:
    """The answer of each head that the bundle has, as it lies on the wire."""
    heads = stub.GetModel(pb.GetModelRequest(model=model)).model.heads
    texts = [pb.TextInput(text="the cat sat on the mat"), pb.TextInput(text="it was", text_pair="good")]
    masked = pb.TextInput(text="the [MASK] sat on the mat")
    requests = {
        pb.HEAD_EMBEDDING: lambda: stub.Embed(pb.EmbedRequest(model=model, inputs=texts)).embeddings,
        pb.HEAD_MASKED_LM: lambda: stub.FillMask(pb.FillMaskRequest(model=model, inputs=[masked])).results,
        pb.HEAD_NEXT_SENTENCE: lambda: (
            stub.ScoreNextSentence(
                pb.ScoreNextSentenceRequest(model=model, first="the cat", candidates=["sat on the mat", "it was"])
            ).scores
        ),
        pb.HEAD_SEQUENCE_CLASSIFICATION: lambda: stub.Classify(pb.ClassifyRequest(model=model, inputs=texts)).results,
        pb.HEAD_TOKEN_CLASSIFICATION: lambda: stub.TagTokens(pb.TagTokensRequest(model=model, inputs=texts)).results,
    }
    assert heads
    return [answer.SerializeToString() for head, ask in requests.items() if head in heads for answer in ask()]
