"""The manifest's form: what a bundle states of its model and its files. Its records are frozen and know no folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bertserve.axes import EncoderAxes

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Head(StrEnum):
    """An output that a bundle can compute."""

    EMBEDDING = "embedding"
    POOLER = "pooler"
    MASKED_LM = "masked_lm"
    NEXT_SENTENCE = "next_sentence"
    SEQUENCE_CLASSIFICATION = "sequence_classification"
    TOKEN_CLASSIFICATION = "token_classification"  # noqa: S105 (no password)


class Pooling(StrEnum):
    """How token vectors become one vector; POOLER is the pretrained dense and tanh over the first token."""

    NONE = "none"
    CLS = "cls"
    MEAN = "mean"
    MAX = "max"
    POOLER = "pooler"


class ProblemType(StrEnum):
    """What the logits of a sequence-classification head mean."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    REGRESSION = "regression"


class LabelActivation(StrEnum):
    """A function from a label's logit to its score, by its name in `torch.nn`, in lower case."""

    IDENTITY = "identity"
    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"
    TANH = "tanh"


class Similarity(StrEnum):
    """How two vectors of a model are compared, by its name in sentence-transformers (`similarity_fn_name`)."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Record):
    """Where the checkpoint came from. `weights_sha256` is over its weight files, in order of their names."""

    model: str
    revision: str
    architecture: str
    weights_sha256: Sha256


class SpecialToken(_Record):
    id: int = Field(ge=0)
    text: str


class SpecialTokens(_Record):
    """The tokens that the checkpoint's tokenizer adds or knows; `unk` and `mask` may be missing from a vocabulary."""

    cls: SpecialToken
    sep: SpecialToken
    pad: SpecialToken
    unk: SpecialToken | None = None
    mask: SpecialToken | None = None


# Facts that version 0.1.0 did not know. At its default such a fact is left out of the manifest and of the identity, so
# that a checkpoint keeps its bundle id.
LATER_FACTS = frozenset({"label_activation", "encoder", "prompts", "default_prompt", "dimensions", "similarity"})


class ModelFacts(_Record):
    """All that the server needs to know about the model besides its graph; part of the bundle's identity."""

    family: str
    heads: tuple[Head, ...]
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    layer_count: int = Field(gt=0)
    attention_heads: int = Field(gt=0)
    activation: str
    layer_norm_epsilon: float = Field(gt=0)
    vocabulary_size: int = Field(gt=0)
    segment_count: int = Field(ge=1, description="Segments that the model tells apart; 1 where it has none.")
    position_limit: int = Field(gt=0, description="Rows of the position table.")
    position_offset: int = Field(ge=0, description="Position of the first token; pad id + 1 in RoBERTa.")
    max_tokens: int = Field(gt=0, description="Longest input, special tokens included.")
    precision: str
    opset: int
    labels: tuple[str, ...] = ()
    problem_type: ProblemType | None = None
    default_pooling: Pooling = Pooling.MEAN
    default_normalize: bool = False
    special_tokens: SpecialTokens
    label_activation: LabelActivation | None = Field(
        None, description="The function from a label's logit to its score, if the checkpoint states one."
    )
    encoder: EncoderAxes = Field(EncoderAxes(), description="What the encoder is made of, axis by axis.")
    prompts: dict[str, str] = Field(
        {}, description="Texts that the model was trained to see before others, such as queries, by name."
    )
    default_prompt: str | None = Field(None, description="Name of the prompt for texts of which nothing else is said.")
    dimensions: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(), description="Lengths to which a vector may be cut, if the model was trained for shorter vectors."
    )
    similarity: Similarity | None = Field(None, description="How vectors are compared, if the checkpoint states it.")

    @property
    def unstated(self) -> set[str]:
        """Later facts that have their default: no part of the manifest and of the identity."""
        return {name for name in LATER_FACTS if getattr(self, name) == type(self).model_fields[name].default}


class FileRecord(_Record):
    sha256: Sha256
    size: int = Field(ge=0)


class Manifest(_Record):
    """manifest.json. `golden_tolerance` bounds |Δ| ÷ max(1, max |output|) between the golden outputs and a run.

    `accuracy_loss` names the gates that the bundle misses, where the export was told to let that pass. `operators`
    names those that the graph may use beside ONNX's own, as `domain::type`; schema 1 did not state them.
    """

    schema_version: int
    bundle_id: Sha256
    producer: str
    source: Source
    model: ModelFacts
    files: dict[str, FileRecord]
    golden_tolerance: float = Field(gt=0)
    accuracy: dict[str, float]
    accuracy_loss: tuple[str, ...] = ()
    operators: tuple[str, ...] | None = None

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            if len(PurePosixPath(name).parts) != 1 or name in ("", ".", "..") or "\\" in name:
                raise ValueError(f"file name {name!r} leaves the bundle's directory")
        return files
