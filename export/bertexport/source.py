"""What is exported: the checkpoint and its tokenizer, found and read, and the facts that its bundle will state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bertserve.bundle import TOKENIZER_NAME, Head, LabelActivation, ModelFacts, SpecialTokens
from bertserve.tokenizer import Tokenizer

from bertexport.architecture import Architecture, Weights, read_architecture, select_weights
from bertexport.checkpoint import Checkpoint, read_checkpoint
from bertexport.errors import ExportError
from bertexport.label_activation import find_untrusted_activation, read_label_activation
from bertexport.labels import note_labels
from bertexport.location import Location, locate
from bertexport.nodes import OPSET
from bertexport.request import ExportRequest, Progress
from bertexport.sentence_files import SentenceFiles, read_sentence_files
from bertexport.tokenizer_files import (
    find_other_reading,
    lowercase_first,
    read_special_tokens,
    read_tokenizer,
    save_tokenizer,
)

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


def read_source(request: ExportRequest, staging: Path, progress: Progress) -> SourceModel:
    """Raises ExportError: not found, unreadable, not supported, or parts that do not belong together."""
    with progress.step("Find the checkpoint"):
        location = locate(request.model, request.revision)
        sentence = read_sentence_files(location.path)
    with progress.step("Read weights and settings"):
        checkpoint = read_checkpoint(sentence.directory)
        architecture = read_architecture(checkpoint)
    with progress.step("Read the tokenizer"):
        tokenizer = read_tokenizer(checkpoint.directory, architecture.vocabulary_size)
        other_reading = find_other_reading(checkpoint.directory, tokenizer)
        if sentence.lowercase:
            lowercase_first(tokenizer)
        special_tokens = read_special_tokens(checkpoint.directory, tokenizer)
        save_tokenizer(tokenizer, staging / TOKENIZER_NAME)
        architecture, notes = _leave_out_unusable(architecture, special_tokens)
        activation = _read_activation(location, checkpoint, architecture)
        facts = _describe_model(request, checkpoint, architecture, sentence, special_tokens, activation)
        _check_room(facts, tokenizer.num_special_tokens_to_add(is_pair=False))
        weights = select_weights(checkpoint, architecture)
    return SourceModel(
        location=location,
        checkpoint=checkpoint,
        architecture=architecture,
        weights=weights,
        facts=facts,
        tokenizer=Tokenizer(staging / TOKENIZER_NAME, facts),
        notes=(
            *notes,
            *_note_unused(weights),
            *_note_other_reading(other_reading),
            *_note_prompts(sentence),
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
    special_tokens: SpecialTokens,
    activation: LabelActivation | None,
) -> ModelFacts:
    positions = architecture.longest_text
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
        segment_count=architecture.segment_count,
        position_limit=architecture.position_limit,
        position_offset=architecture.position_offset,
        max_tokens=min(positions, sentence.max_tokens or positions),
        precision=request.precision,
        opset=OPSET,
        labels=architecture.labels,
        problem_type=architecture.problem_type,
        default_pooling=sentence.pooling,
        default_normalize=sentence.normalize,
        special_tokens=special_tokens,
        label_activation=activation,
    )


def _check_room(facts: ModelFacts, special_tokens: int) -> None:
    if facts.max_tokens <= special_tokens:
        raise ExportError(
            f"an input of at most {facts.max_tokens} tokens (max_position_embeddings, or max_seq_length of "
            f"sentence-transformers) leaves no room for a text beside {special_tokens} special ones"
        )


def _note_unused(weights: Weights) -> tuple[str, ...]:
    """What the checkpoint holds and the bundle does not."""
    if not weights.unused:
        return ()
    more = len(weights.unused) - NAMES_SHOWN
    names = ", ".join(weights.unused[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return (f"Left out, since no supported head reads them: {names}.",)


def _note_other_reading(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    return (f"Texts are read as tokenizer.json has it; transformers' AutoTokenizer reads some otherwise: {text!r}.",)


def _note_prompts(sentence: SentenceFiles) -> tuple[str, ...]:
    """What sentence-transformers may put before a text, and a server of texts as they come does not."""
    if not sentence.prompts:
        return ()
    prompts = ", ".join(repr(prompt) for prompt in sentence.prompts[:NAMES_SHOWN])
    return (f"Made for texts that begin with a prompt, which callers write themselves: {prompts}.",)


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
