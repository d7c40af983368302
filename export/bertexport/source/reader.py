"""What is exported: the checkpoint and its tokenizer, found and read, and the facts that its bundle will state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bertserve.bundle import TOKENIZER_NAME, Head, LabelActivation, ModelFacts, Pooling, SpecialTokens
from bertserve.tokenizer import Text, Tokenizer

from bertexport.encoders.architecture import Architecture, Weights, read_architecture, select_weights
from bertexport.errors import ExportError
from bertexport.graph.nodes import OPSET
from bertexport.request import ExportRequest, Progress
from bertexport.source.checkpoint import Checkpoint, read_checkpoint
from bertexport.source.label_activation import find_untrusted_activation, read_label_activation
from bertexport.source.labels import note_labels
from bertexport.source.location import Location, locate
from bertexport.source.sentence_files import SentenceFiles, read_sentence_files
from bertexport.source.tokenizer_choice import TokenizerChoice, choose_tokenizer, note_tokenizer
from bertexport.source.tokenizer_facts import TokenizerFacts, read_tokenizer_facts
from bertexport.source.tokenizer_files import save_tokenizer

NAMES_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceModel:
    """notes: what a reader of the report should know about it."""

    location: Location
    checkpoint: Checkpoint
    architecture: Architecture
    weights: Weights
    facts: ModelFacts
    tokenizer: Tokenizer
    notes: tuple[str, ...]


def read_source(request: ExportRequest, texts: Sequence[Text], staging: Path, progress: Progress) -> SourceModel:
    """texts: those that the bundle is verified on.

    Raises ExportError: not found, unreadable, not supported, or parts that do not belong together.
    """
    with progress.step("Find the checkpoint"):
        location = locate(request.model, request.revision)
        sentence = read_sentence_files(location.path)
    with progress.step("Read weights and settings"):
        checkpoint = read_checkpoint(sentence.directory)
        architecture = read_architecture(checkpoint)
    with progress.step("Read the tokenizer"):
        choice = choose_tokenizer(sentence, architecture.vocabulary_size, texts)
        save_tokenizer(choice.tokenizer, staging / TOKENIZER_NAME)
        architecture, notes = _leave_out_unusable(architecture, choice.special_tokens)
        activation = _read_activation(location, checkpoint, architecture)
        has_types = "token_type" in checkpoint.family.embeddings
        limits = read_tokenizer_facts(choice, architecture, sentence, has_types=has_types)
        facts = _describe_model(request, checkpoint, architecture, sentence, choice, limits, activation)
        _check_room(facts, choice.tokenizer.num_special_tokens_to_add(is_pair=False))
        tokenizer = Tokenizer(staging / TOKENIZER_NAME, facts)
        weights = select_weights(checkpoint, architecture)
    return SourceModel(
        location=location,
        checkpoint=checkpoint,
        architecture=architecture,
        weights=weights,
        facts=facts,
        tokenizer=tokenizer,
        notes=(
            *notes,
            *_note_unused(weights),
            *note_tokenizer(choice, tokenizer, facts, texts),
            *limits.notes,
            *sentence.notes,
            *_note_own_code(checkpoint),
            *_note_untrusted_activation(location, checkpoint),
            *note_labels(checkpoint.config, architecture.labels),
        ),
    )


def _leave_out_unusable(
    architecture: Architecture, special_tokens: SpecialTokens
) -> tuple[Architecture, tuple[str, ...]]:
    """Without the head for masked words where no text can hold a mask, and a note that says so."""
    if special_tokens.mask is not None or Head.MASKED_LM not in architecture.heads:
        return architecture, ()
    heads = tuple(head for head in architecture.heads if head is not Head.MASKED_LM)
    return replace(architecture, heads=heads), ("Left out the head masked_lm: the tokenizer has no mask token.",)


def _read_activation(location: Location, checkpoint: Checkpoint, architecture: Architecture) -> LabelActivation | None:
    """A statement about scores counts for a head that scores texts."""
    if Head.SEQUENCE_CLASSIFICATION not in architecture.heads:
        return None
    return read_label_activation(location.path, checkpoint.config)


def _describe_model(
    request: ExportRequest,
    checkpoint: Checkpoint,
    architecture: Architecture,
    sentence: SentenceFiles,
    choice: TokenizerChoice,
    limits: TokenizerFacts,
    activation: LabelActivation | None,
) -> ModelFacts:
    if sentence.pooling is Pooling.POOLER and Head.POOLER not in architecture.heads:
        raise ExportError(f"{sentence.directory}: the default vector is pooler_output, and the weights hold no pooler")
    return ModelFacts(
        family=checkpoint.family.name,
        heads=architecture.heads,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        layer_count=architecture.layer_count,
        attention_heads=architecture.attention_heads,
        activation=architecture.activation,
        layer_norm_epsilon=architecture.layer_norm_epsilon,
        vocabulary_size=architecture.vocabulary_size,
        segment_count=limits.segment_count,
        position_limit=architecture.position_limit,
        position_offset=architecture.position_offset,
        max_tokens=limits.max_tokens,
        precision=request.precision,
        opset=OPSET,
        labels=architecture.labels,
        problem_type=architecture.problem_type,
        default_pooling=sentence.pooling,
        default_normalize=sentence.normalize,
        special_tokens=choice.special_tokens,
        label_activation=activation,
        encoder=checkpoint.family.spec.axes,
        prompts=dict(sentence.prompts),
        default_prompt=sentence.default_prompt,
        similarity=sentence.similarity,
    )


def _check_room(facts: ModelFacts, special_tokens: int) -> None:
    if facts.max_tokens <= special_tokens:
        raise ExportError(
            f"an input of at most {facts.max_tokens} tokens (max_position_embeddings, model_max_length of the "
            f"tokenizer, or max_seq_length of sentence-transformers) leaves no room for a text beside "
            f"{special_tokens} special ones"
        )


def _note_unused(weights: Weights) -> tuple[str, ...]:
    """What the checkpoint holds and the bundle does not."""
    if not weights.unused:
        return ()
    more = len(weights.unused) - NAMES_SHOWN
    names = ", ".join(weights.unused[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return (f"Left out, since no supported head reads them: {names}.",)


def _note_own_code(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Compared is what `transformers` itself makes of the checkpoint."""
    if "auto_map" not in checkpoint.config:
        return ()
    return (
        f"config.json names code of its own (auto_map), which was not run: this is {checkpoint.family.name} as "
        "transformers has it.",
    )


def _note_untrusted_activation(location: Location, checkpoint: Checkpoint) -> tuple[str, ...]:
    activation = find_untrusted_activation(location.path, checkpoint.config)
    if activation is None:
        return ()
    return (f"The stated activation {activation!r} is code of the checkpoint's own, which was not run: scores are as "
            "without it.",)  # fmt: skip
