"""What the clients send."""

import pytest
from bertapi import calls
from bertapi.calls import EmbedOptions, FillMaskOptions, TagOptions
from bertapi.v1 import bert_service_pb2 as pb

PAIR = pb.TextInput(text="a", text_pair="b")

INPUTS = {
    "a text": ("a", [pb.TextInput(text="a")]),
    "a pair": (("a", "b"), [PAIR]),
    "a pair with an empty second text": (("a", ""), [pb.TextInput(text="a", text_pair="")]),
    "a message": (pb.TextInput(text="a", targets=["x"]), [pb.TextInput(text="a", targets=["x"])]),
    "a list of all kinds": (["a", ("a", "b"), PAIR], [pb.TextInput(text="a"), PAIR, PAIR]),
    "an iterator": (iter(["a", "b"]), [pb.TextInput(text="a"), pb.TextInput(text="b")]),
    "nothing": ([], []),
}

REFUSED_INPUTS = {"bytes": b"a", "a triple": ("a", "b", "c"), "a number in a list": [1], "a half pair": ("a", None)}

REFUSED_OPTIONS = {
    "pooling": {"pooling": "avg"},
    "layer_merge": {"layer_merge": "max"},
    "vector_type": {"vector_type": "int8"},
    "truncation": {"truncation": "middle"},
}


@pytest.mark.parametrize(("inputs", "expected"), INPUTS.values(), ids=INPUTS)
def test_inputs(inputs, expected):
    """A text, a pair, a message, and any iterable of these become the request's inputs."""
    assert expected == list(calls.tokenize(inputs).request.inputs)


def test_empty_pair_is_present():
    """An empty second text still makes a pair."""
    (text,) = calls.tokenize(("a", "")).request.inputs
    assert text.HasField("text_pair")


@pytest.mark.parametrize("inputs", REFUSED_INPUTS.values(), ids=REFUSED_INPUTS)
def test_refused_inputs(inputs):
    """What is no text is refused before anything is sent."""
    with pytest.raises(TypeError, match="inputs: "):
        calls.embed(inputs)


@pytest.mark.parametrize("options", REFUSED_OPTIONS.values(), ids=REFUSED_OPTIONS)
def test_refused_options(options):
    """An unknown choice is refused with the argument's name and the choices there are."""
    (name,) = options
    with pytest.raises(ValueError, match=rf"{name}: '\w+' is none of \w+, \w+"):
        calls.embed("a", **options)


def test_embed_defaults_leave_the_choice_to_the_model():
    """Pooling and normalization are left open unless asked."""
    options = calls.embed("a").request.options
    assert options.pooling == pb.POOLING_UNSPECIFIED
    assert not options.HasField("normalize")
    assert list(options.layers) == []


def test_embed_options():
    """Every option of a call reaches the request."""
    call = calls.embed(
        "a",
        pooling="max",
        layers=[-1, 0],
        layer_merge="sum",
        normalize=False,
        vector_type="float16",
        include_tokens=True,
        truncation="end",
        model="m",
    )
    expected = pb.EmbedRequest(
        model="m",
        inputs=[pb.TextInput(text="a")],
        options=pb.EmbedOptions(
            pooling=pb.POOLING_MAX,
            layers=[-1, 0],
            layer_merge=pb.LAYER_MERGE_SUM,
            normalize=False,
            vector_type=pb.VECTOR_TYPE_FLOAT16,
            include_tokens=True,
        ),
        truncation=pb.TRUNCATION_END,
    )
    assert expected == call.request


def test_fill_mask_options():
    """No predictions asked is something else than no number of predictions stated; a lone target is one word."""
    assert not calls.fill_mask("[MASK]").request.options.HasField("top_k")
    asked = calls.fill_mask("[MASK]", top_k=0, targets="cat").request.options
    assert pb.FillMaskOptions(top_k=0, targets=["cat"]) == asked
    assert asked.HasField("top_k")


def test_one_candidate_may_stand_alone():
    """A lone candidate is one sentence, not its letters."""
    assert list(calls.score_next_sentence("first", "next").request.candidates) == ["next"]


def test_classify():
    """A classification asks with inputs and truncation alone."""
    expected = pb.ClassifyRequest(inputs=[PAIR], truncation=pb.TRUNCATION_START, model="m")
    assert calls.classify(("a", "b"), truncation="start", model="m").request == expected


def test_tag_tokens():
    """Labels alone unless an aggregation is named."""
    expected = pb.TagTokensRequest(
        inputs=[PAIR], options=pb.TagOptions(aggregation=pb.AGGREGATION_SIMPLE), truncation=pb.TRUNCATION_ERROR
    )
    assert calls.tag_tokens(("a", "b"), aggregation="simple").request == expected
    assert calls.tag_tokens("a").request.options.aggregation == pb.AGGREGATION_NONE


def test_analyze_asks_only_for_what_was_named():
    """An output that was not asked for is absent; True asks with the defaults."""
    options = calls.analyze("a", fill_mask=True, classify=True).request.options
    assert not options.HasField("embed")
    assert options.HasField("fill_mask")
    assert options.classify
    assert not options.next_sentence
    assert not options.HasField("tag_tokens")


def test_analyze_options():
    """The options of an output reach the request."""
    call = calls.analyze(
        "a",
        embed=EmbedOptions(pooling="cls"),
        fill_mask=FillMaskOptions(top_k=2),
        tag_tokens=TagOptions(aggregation="simple"),
    )
    assert call.request.options.embed.pooling == pb.POOLING_CLS
    assert call.request.options.fill_mask.top_k == 2
    assert call.request.options.tag_tokens.aggregation == pb.AGGREGATION_SIMPLE
