"""Results as a person reads them on a terminal: one function per kind of result, each returning text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bertapi import results
from bertapi.tables import bar, percent, printable, render_table, shorten

FIRST_VALUES = 4
HEADING_WIDTH = 100
COSINE_TEXTS = 20


def show_embeddings(headings: Sequence[str], embeddings: Sequence[results.Embedding]) -> str:
    """One row per text, token rows where unpooled, and the cosines between several pooled texts."""
    parts = []
    if all(embedding.vectors.ndim == 1 for embedding in embeddings):
        parts.append(_vector_table("text", headings, [embedding.vectors for embedding in embeddings]))
        if len(embeddings) > 1:
            parts.append(_cosine_table([embedding.vectors for embedding in embeddings]))
        parts += [_token_list(embedding.tokens) for embedding in embeddings if embedding.tokens]
    else:
        parts += [
            _heading(number, text, several=len(embeddings) > 1) + _token_vectors(embedding)
            for number, (text, embedding) in enumerate(zip(headings, embeddings, strict=True), start=1)
        ]
    return "\n\n".join(parts)


def show_filled_text(filled: results.FilledText) -> str:
    return "\n\n".join(_mask_table(number, mask) for number, mask in enumerate(filled.masks, start=1))


def show_next_sentence_scores(candidates: Sequence[str], scores: Sequence[results.NextSentenceScore]) -> str:
    rows = [
        (shorten(text, HEADING_WIDTH // 2), percent(score.probability), bar(score.probability), _verdict(score))
        for text, score in zip(candidates, scores, strict=True)
    ]
    return render_table("<><<", rows, ("candidate", "probability", "", "verdict"))


def show_classification(classification: results.Classification) -> str:
    """A regression has numbers alone, because the server gives it no probability."""
    if not any(label.probability for label in classification.labels):
        numbers = [
            (str(rank), label.label, f"{label.score:.4f}", f"{label.logit:.4f}")
            for rank, label in enumerate(classification.labels, start=1)
        ]
        return render_table("><>>", numbers, ("rank", "label", "score", "logit"))
    rows = [
        (str(rank), label.label, percent(label.probability), f"{label.score:.4f}", f"{label.logit:.4f}",
         bar(label.probability))
        for rank, label in enumerate(classification.labels, start=1)
    ]  # fmt: skip
    return render_table("><>>><", rows, ("rank", "label", "probability", "score", "logit", ""))


def show_tagged_text(tagged: results.TaggedText) -> str:
    """Every token with its label; above them the entities, where there are any."""
    rows = [
        (token.token.text, *_place(token.token), token.label.label, percent(token.label.probability))
        for token in tagged.tokens
    ]
    tokens = render_table("<<<<>", rows, ("token", "text", "place", "label", "probability"))
    return f"{_entity_table(tagged.entities)}\n\n{tokens}" if tagged.entities else tokens


def show_tokenized_text(tokenized: results.TokenizedText) -> str:
    rows = [(str(index), token.text, str(token.id), *_place(token)) for index, token in enumerate(tokenized.tokens)]
    return render_table("><><<", rows, ("index", "token", "id", "text", "place"))


def show_analysis(analysis: results.Analysis) -> str:
    """Only what was asked."""
    parts = []
    if analysis.embedding is not None:
        parts.append(_embedding(analysis.embedding))
    if analysis.fill_mask is not None:
        parts.append(show_filled_text(analysis.fill_mask))
    if analysis.next_sentence is not None:
        score = analysis.next_sentence
        parts.append(f"next sentence: {percent(score.probability)}, {_verdict(score)}")
    if analysis.classification is not None:
        parts.append(show_classification(analysis.classification))
    if analysis.tags is not None:
        parts.append(show_tagged_text(analysis.tags))
    return "\n\n".join(parts)


def show_model(model: results.Model) -> str:
    facts = [
        ("name", model.name),
        ("bundle", model.bundle_id),
        ("source", f"{model.source} {model.revision}".strip()),
        ("architecture", f"{model.architecture} ({model.family})"),
        ("heads", ", ".join(model.heads)),
        ("size", f"{model.layer_count} layers of {model.hidden_size}, {model.vocabulary_size:,} words"),
        ("precision", model.precision),
        ("longest input", f"{model.max_tokens} tokens"),
        ("mask", model.mask_token or "none"),
        ("labels", ", ".join(model.labels) or "none"),
        ("default pooling", model.default_pooling + (", normalized" if model.default_normalize else "")),
        ("limits", f"{model.max_inputs:,} inputs, {model.max_characters:,} characters a text, top {model.max_top_k:,}"),
        ("largest answer", f"{model.max_response_bytes / 2**20:,.0f} MiB"),
        ("memory", _show_memory(model)),
    ]
    accuracy = [(name, f"{value:.6g}") for name, value in sorted(model.accuracy.items())]
    measured = "\n\nagreement with the checkpoint, as measured at export\n" + render_table("<>", accuracy)
    return render_table("<<", facts) + (measured if accuracy else "")


def _show_memory(model: results.Model) -> str:
    if not model.longest_text_bytes:
        return "unknown"
    loaded, longest = (f"{size / 2**20:,.0f} MiB" for size in (model.loaded_bytes, model.longest_text_bytes))
    return f"{loaded} loaded, {longest} more on each lane for the longest text"


def show_models(models: Sequence[results.Model]) -> str:
    rows = [
        (model.name, model.bundle_id[:12], model.family, model.precision, str(model.max_tokens), ", ".join(model.heads))
        for model in models
    ]
    return render_table("<<<<><", rows, ("name", "bundle", "family", "precision", "tokens", "heads"))


def show_texts(headings: Sequence[str], bodies: Sequence[str]) -> str:
    """One block per text, each under its number and text where there are several."""
    several = len(headings) > 1
    blocks = (
        _heading(number, text, several=several) + body
        for number, (text, body) in enumerate(zip(headings, bodies, strict=True), start=1)
    )
    return "\n\n".join(blocks)


def show_footer(truncated: Sequence[bool], info: results.ResponseInfo) -> str:
    """Who answered, in what time, and which of the texts, by number, the model saw only a part of."""
    timings = info.timings
    cut = ", ".join(str(number) for number, is_cut in enumerate(truncated, start=1) if is_cut)
    stages = (
        f"tokenize {timings.tokenize_seconds * 1e3:.1f} ms",
        f"queue {timings.queue_seconds * 1e3:.1f} ms",
        f"infer {timings.infer_seconds * 1e3:.1f} ms",
        f"finish {timings.finish_seconds * 1e3:.1f} ms",
    )
    line = f"{printable(info.model)} {info.bundle_id[:12]}: {', '.join(stages)}"
    return f"truncated: {cut}\n{line}" if cut else line


def _heading(number: int, text: str, *, several: bool) -> str:
    return f"{number}. {printable(shorten(text, HEADING_WIDTH))}\n" if several else ""


def _vector_table(title: str, labels: Sequence[str], vectors: Sequence[results.Vectors]) -> str:
    rows = [
        (str(number), shorten(label, HEADING_WIDTH // 2), str(list(vector.shape)), *_vector_facts(vector))
        for number, (label, vector) in enumerate(zip(labels, vectors, strict=True), start=1)
    ]
    return render_table("><<><", rows, ("", title, "shape", "norm", "first values"))


def _vector_facts(vector: NDArray[np.floating]) -> tuple[str, str]:
    values = "  ".join(f"{value:8.4f}" for value in vector[:FIRST_VALUES])
    return f"{np.linalg.norm(vector.astype(np.float64)):.4f}", values + (" …" if len(vector) > FIRST_VALUES else "")


def _cosine_table(vectors: Sequence[results.Vectors]) -> str:
    """The first COSINE_TEXTS texts against each other; a zero vector has no direction, and shows nan."""
    shown = np.stack([vector.astype(np.float64) for vector in vectors[:COSINE_TEXTS]])
    norms = np.linalg.norm(shown, axis=1, keepdims=True)
    units = np.divide(shown, norms, out=np.full_like(shown, np.nan), where=norms > 0)
    rows = [(str(number), *(f"{cosine:.4f}" for cosine in row)) for number, row in enumerate(units @ units.T, start=1)]
    titles = ("cosine", *(str(number) for number in range(1, len(shown) + 1)))
    note = f"\nthe first {COSINE_TEXTS} of {len(vectors)} texts" if len(vectors) > COSINE_TEXTS else ""
    return render_table(">" * len(titles), rows, titles) + note


def _embedding(embedding: results.Embedding) -> str:
    if embedding.vectors.ndim > 1:
        return _token_vectors(embedding)
    norm, values = _vector_facts(embedding.vectors)
    line = f"vector {list(embedding.vectors.shape)}, norm {norm}: {' '.join(values.split())}"
    return f"{line}\n{_token_list(embedding.tokens)}" if embedding.tokens else line


def _token_vectors(embedding: results.Embedding) -> str:
    names = [token.text for token in embedding.tokens] or [str(row) for row in range(len(embedding.vectors))]
    shape = f"shape {list(embedding.vectors.shape)}\n"
    return shape + _vector_table("token", names, list(embedding.vectors))


def _token_list(tokens: Sequence[results.Token]) -> str:
    return "tokens: " + printable(" ".join(token.text for token in tokens))


def _mask_table(number: int, mask: results.MaskPrediction) -> str:
    where = "pair" if mask.segment else "text"
    rows = [_prediction_row(str(rank), prediction) for rank, prediction in enumerate(mask.predictions, start=1)]
    rows += [_prediction_row("asked", prediction) for prediction in mask.targets]
    table = render_table("><><", rows, ("rank", "word", "probability", ""))
    return f"mask {number}, {where} {mask.start}–{mask.end}\n{table}"


def _prediction_row(rank: str, prediction: results.TokenPrediction) -> tuple[str, str, str, str]:
    return rank, prediction.text or prediction.token, percent(prediction.probability), bar(prediction.probability)


def _entity_table(entities: Sequence[results.Entity]) -> str:
    rows = [
        (
            shorten(entity.text, HEADING_WIDTH // 2),
            "pair" if entity.segment else "text",
            f"{entity.start}–{entity.end}",
            entity.label,
            percent(entity.probability),
            bar(entity.probability),
        )
        for entity in entities
    ]
    return render_table("<<<<><", rows, ("entity", "text", "place", "label", "probability", ""))


def _verdict(score: results.NextSentenceScore) -> str:
    return "is next" if score.is_next_logit > score.not_next_logit else "is not next"


def _place(token: results.Token) -> tuple[str, str]:
    return ("", "") if token.special else ("pair" if token.segment else "text", f"{token.start}–{token.end}")
