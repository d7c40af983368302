"""The checkpoint's tokenizer as `transformers` gives it. A bundle's own reading of texts has to equal this one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertserve.tokenizer import Text
from tokenizers import normalizers

from bertexport.errors import ExportError
from bertexport.source.checkpoint import read_family, read_json


@dataclass(frozen=True, slots=True)
class Reading:
    """type_ids: None if the model is told none."""

    ids: list[int]
    type_ids: list[int] | None


class LibraryTokenizer:
    """What `AutoTokenizer.from_pretrained` gave."""

    def __init__(self, own: Any) -> None:
        self._own = own
        # The longest input in tokens; beyond any model if nothing states it.
        self.limit = int(own.model_max_length)
        # Whether a text that is too long loses its start. The readings here lose their end.
        self.cuts_the_start = own.truncation_side == "left"
        own.truncation_side = "right"

    @property
    def gives_segments(self) -> bool:
        """Whether the model is told which text of a pair a token is of."""
        return "token_type_ids" in self._own.model_input_names

    @property
    def class_name(self) -> str:
        return type(self._own).__name__

    @property
    def is_fast(self) -> bool:
        """Whether it runs in `tokenizers`, as a bundle's does."""
        return bool(self._own.is_fast)

    @property
    def special_texts(self) -> set[str]:
        return set(self._own.all_special_tokens)

    def special_names(self, roles: Iterable[str]) -> dict[str, str]:
        """Role, such as mask_token → its token, of those that it has."""
        return {role: str(token) for role in roles if (token := getattr(self._own, role, None)) is not None}

    @property
    def added_texts(self) -> list[str]:
        """Tokens beside the vocabulary that are not special."""
        special = self.special_texts
        return sorted(token for token in self._own.get_added_vocab() if token not in special)

    def read(self, text: Text, limit: int | None = None) -> Reading:
        """Ids and type ids of a text, cut to the limit at its end."""
        # As a list of pairs: on its own, an empty second text is no pair to `transformers`.
        inputs = [(text.text, text.text_pair)] if text.text_pair is not None else [text.text]
        cut = {"truncation": "longest_first", "max_length": limit} if limit is not None else {"truncation": False}
        encoded = self._own(inputs, padding=False, **cut)
        type_ids = encoded["token_type_ids"][0] if self.gives_segments else None
        return Reading(encoded["input_ids"][0], type_ids)

    def lowercase_first(self) -> None:
        """Let it lower-case texts before all else, as sentence-transformers does."""
        if self.is_fast:
            backend = self._own.backend_tokenizer
            steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer is not None else [])]
            backend.normalizer = normalizers.Sequence(steps)

    def as_json(self) -> str:
        """Its form as a tokenizer.json."""
        return str(self._own.backend_tokenizer.to_str())


def load_library_tokenizer(directory: Path, settings: Mapping[str, Any] | None = None) -> LibraryTokenizer:
    """settings: arguments beside the checkpoint's own. Raises ExportError if it reads no tokenizer there."""
    import transformers

    # Its warnings are about texts and settings that are judged here.
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        own = transformers.AutoTokenizer.from_pretrained(
            directory,
            **{**_stated_family(directory), **(settings or {}), "local_files_only": True, "trust_remote_code": False},
        )
        return LibraryTokenizer(own)
    except Exception as error:  # whatever the files hold comes out as many classes
        raise ExportError(f"transformers' AutoTokenizer reads no tokenizer: {' '.join(str(error).split())}") from error


def _stated_family(directory: Path) -> dict[str, Any]:
    """What AutoTokenizer chooses its class by, if config.json does not say it."""
    import transformers

    config = read_json(directory / "config.json")
    if config.get("model_type") is not None:
        return {}
    return {"config": transformers.AutoConfig.for_model(read_family(config).name)}
