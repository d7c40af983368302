"""Results on a terminal, where a real server's own would not show the case."""

import dataclasses

import numpy as np
from bertapi import results, views

EMBEDDING = results.Embedding(vectors=np.zeros(2, np.float32), tokens=(), token_count=3, truncated=False)


def test_classification():
    """Labels come with rank, probability, logit and bar."""
    labels = (
        results.LabelScore(label="good", index=1, probability=0.75, logit=1.0, score=0.8),
        results.LabelScore(label="bad", index=0, probability=0.25, logit=-0.5, score=0.2),
    )
    shown = views.show_classification(results.Classification(labels=labels, token_count=3, truncated=False))
    assert [line.split()[:5] for line in shown.split("\n")[1:]] == [
        ["1", "good", "75.00%", "0.8000", "1.0000"],
        ["2", "bad", "25.00%", "0.2000", "-0.5000"],
    ]


def test_a_regression_has_no_probabilities_to_show():
    """Its numbers stand alone: nobody reads a zero probability beside them."""
    score = results.LabelScore(label="stars", index=0, probability=0.0, logit=3.5, score=3.5)
    shown = views.show_classification(results.Classification(labels=(score,), token_count=3, truncated=False))
    assert [line.split() for line in shown.split("\n")] == [
        ["rank", "label", "score", "logit"],
        ["1", "stars", "3.5000", "3.5000"],
    ]


def test_an_entity_is_shown_with_its_place():
    """Its words, whether they are of the text or of the pair, its label and how sure that is."""
    entity = results.Entity(label="PER", probability=0.75, segment=1, start=2, end=14, text="ada lovelace")
    shown = views.show_tagged_text(results.TaggedText(tokens=(), entities=(entity,), truncated=False))
    assert shown.split("\n")[1].split()[:6] == ["ada", "lovelace", "pair", "2–14", "PER", "75.00%"]


def test_a_zero_vector_has_no_cosine():
    """Nothing is divided by zero; the cosine is shown as not a number."""
    shown = views.show_embeddings(["a", "b"], [EMBEDDING, EMBEDDING])
    assert shown.rpartition("\n")[2].split() == ["2", "nan", "nan"]


def test_many_texts_have_a_bounded_matrix():
    """A cosine matrix wider than a terminal is cut, and says so."""
    shown = views.show_embeddings(["a"] * 30, [EMBEDDING] * 30)
    assert shown.endswith("the first 20 of 30 texts")


def test_footer_names_the_truncated_texts():
    """Texts that the model saw only in part are named by number."""
    timings = results.Timings(tokenize_seconds=0.001, queue_seconds=0, infer_seconds=0.0123, finish_seconds=0)
    info = results.ResponseInfo(model="demo", bundle_id="0123456789abcdef", timings=timings)
    assert views.show_footer([False, True, True], info).split("\n") == [
        "truncated: 2, 3",
        "demo 0123456789ab: tokenize 1.0 ms, queue 0.0 ms, infer 12.3 ms, finish 0.0 ms",
    ]


def test_a_truncated_part_makes_a_truncated_analysis():
    """An analysis is truncated where any of its outputs is."""
    cut = dataclasses.replace(EMBEDDING, truncated=True)
    analyses = [
        results.Analysis(embedding=part, fill_mask=None, next_sentence=None, classification=None, tags=None)
        for part in (EMBEDDING, cut)
    ]
    assert [analysis.truncated for analysis in analyses] == [False, True]
