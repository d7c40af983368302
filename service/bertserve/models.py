"""The bundles being served, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bertserve.bundle import Bundle, ModelFacts
from bertserve.engine.contract import Engine
from bertserve.engine.golden import GoldenCase
from bertserve.errors import UnknownModel
from bertserve.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One bundle under the name that clients use.

    golden: the cases that prove its engine, whatever became of the files. loaded_bytes: resident memory that loading it
    took; 0 if unknown. longest_text_bytes: memory that the longest text takes beside it, on each lane, while it runs.
    """

    name: str
    bundle: Bundle
    tokenizer: Tokenizer
    engine: Engine
    golden: tuple[GoldenCase, ...]
    loaded_bytes: int = 0
    longest_text_bytes: int = 0

    @property
    def facts(self) -> ModelFacts:
        return self.bundle.model


class Models:
    """All served models, in the order in which they were given."""

    def __init__(self, models: list[ServedModel]) -> None:
        self._by_name = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._by_name.values())

    def find(self, name: str) -> ServedModel:
        """The model of that name; the first one for an empty name. Raises UnknownModel."""
        if not name:
            return next(iter(self._by_name.values()))
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownModel(f"no such model; served here: {', '.join(self._by_name)}") from None
