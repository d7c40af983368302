"""The bound on an answer's size holds: nothing that passed it turns out too large to send."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bertserve.bundle import Pooling, read_bundle
from bertserve.doors.grpc.bert.responses import write_analyze
from bertserve.doors.grpc.sizes import MessageSizes
from bertserve.engine.opening import open_engine
from bertserve.errors import InvalidInput
from bertserve.models import ServedModel
from bertserve.tasks.analysis import Answer
from bertserve.tasks.answers import Timings
from bertserve.tasks.asks import Aggregation, Ask, EmbedAsk, TagAsk
from bertserve.tasks.finish import finish_item
from bertserve.tasks.limits import Limits
from bertserve.tasks.prepare import prepare, tokenize_inputs
from bertserve.tokenizer import Text, Tokenizer, Truncation
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import TAGGER

LIMITS = Limits(max_inputs=100, max_characters=10_000, max_top_k=100, max_response_bytes=10_000_000)


@pytest.fixture(scope="module")
def model() -> ServedModel:
    bundle = read_bundle(TAGGER)
    tokenizer = Tokenizer(bundle.tokenizer_path, bundle.model)
    return ServedModel(
        name="tagger", bundle=bundle, tokenizer=tokenizer, engine=open_engine(bundle, threads=1), golden=()
    )


# Words of one token, words of many, and characters of one to four bytes.
words = st.one_of(st.sampled_from(["cat", "the", "unfriendliness", "[MASK]"]), st.text(min_size=1, max_size=8))
texts = st.lists(words, min_size=1, max_size=20).map(" ".join).map(lambda text: f"a {text}")
inputs = st.builds(Text, text=texts, text_pair=st.none() | texts)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(given=st.lists(inputs, min_size=1, max_size=4), aggregation=st.sampled_from(Aggregation), embed=st.booleans())
def test_no_answer_is_larger_than_was_foretold(
    given: list[Text], aggregation: Aggregation, embed: bool, model: ServedModel
) -> None:
    """Labels and entities of any texts, with and without vectors and tokens beside them."""
    ask = Ask(
        inputs=tuple(given),
        embed=EmbedAsk(include_tokens=True) if embed else None,
        tag_tokens=TagAsk(aggregation=aggregation),
        truncation=Truncation.END,
    )
    prepared = prepare(model, ask, tokenize_inputs(model, ask, 0, len(given)), LIMITS, MessageSizes())
    outputs = model.engine.run_items(list(prepared.items))
    analyses = tuple(finish_item(model, prepared, index, own) for index, own in enumerate(outputs))
    timings = Timings(tokenize_seconds=0.1, queue_seconds=99.9, infer_seconds=9.9, finish_seconds=0.1)
    response = write_analyze(model, Answer(analyses=analyses, timings=timings, is_large=False))
    assert response.ByteSize() <= prepared.response_bytes


@pytest.mark.parametrize(
    ("pooling", "advice"),
    [(Pooling.NONE, "fewer inputs, FLOAT16, fewer layers, a pooling"), (Pooling.MEAN, "fewer inputs, fewer layers")],
)
def test_refusal_advises_what_would_help(pooling: Pooling, advice: str, model: ServedModel) -> None:
    """Halves where vectors of tokens are asked for, which the Open Inference Protocol, without halves, has not."""
    ask = Ask(inputs=(Text(text="a cat"),), embed=EmbedAsk(pooling=pooling))
    limits = replace(LIMITS, max_response_bytes=1)
    with pytest.raises(InvalidInput) as caught:
        prepare(model, ask, tokenize_inputs(model, ask, 0, 1), limits, MessageSizes())
    assert caught.value.violation.description.endswith(f"; ask for {advice}")
