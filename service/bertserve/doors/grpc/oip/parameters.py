"""What a ModelInfer request sets beside its tensors. What nobody knows is refused: it would change nothing, unsaid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from bertapi.oip import inference_pb2 as pb

from bertserve.bundle import Pooling
from bertserve.errors import InvalidInput
from bertserve.tasks.asks import EmbedAsk, LayerMerge
from bertserve.tokenizer import Truncation

Choice = TypeVar("Choice", bound=StrEnum)

# They say how a body of HTTP is laid out; KServe's client sends them over gRPC too, with tensors and requests.
OF_HTTP = {"binary_data", "binary_data_size", "binary_data_output"}
# Sent by NVIDIA's clients with every request, and about nothing but streams.
IGNORED = {"triton_enable_empty_final_response", *OF_HTTP}
KNOWN = ("pooling", "layers", "layer_merge", "normalize", "top_k", "truncation", "timeout")
DEFAULT_TOP_K = 5

# With blanks around each, as people write lists; int() would take digits of other scripts too.
INTEGERS = re.compile(r" *-?[0-9]{1,18} *(?:, *-?[0-9]{1,18} *)*")

# Of a list, before it is read: a message has room for millions of layers, and no model has as many as this holds.
MOST_CHARACTERS = 8192

# One vector a text; vectors of tokens make no tensor of equal rows.
POOLINGS = tuple(pooling for pooling in Pooling if pooling is not Pooling.NONE)


class Parameters:
    """Reads parameters by name and kind. Raises InvalidInput with the path `parameters[name]`."""

    def __init__(self, given: Mapping[str, pb.InferParameter]) -> None:
        if not given.keys() <= {*KNOWN, *IGNORED}:
            raise InvalidInput("parameters", f"holds an unknown one; known are {', '.join(KNOWN)}")
        self._given = given

    def embed(self, default_pooling: Pooling) -> EmbedAsk:
        """default_pooling: the bundle's own, in whose place the mean stands where it has none."""
        default = default_pooling if default_pooling in POOLINGS else Pooling.MEAN
        return EmbedAsk(
            pooling=self._choice("pooling", POOLINGS, default),
            layers=self._integers("layers"),
            layer_merge=self._choice("layer_merge", tuple(LayerMerge), LayerMerge.CONCAT),
            normalize=self._flag("normalize"),
        )

    def top_k(self) -> int:
        top_k = self._integer("top_k", DEFAULT_TOP_K)
        if top_k < 1:
            raise InvalidInput("parameters[top_k]", f"{top_k} is less than 1")
        return top_k

    def truncation(self) -> Truncation:
        return self._choice("truncation", tuple(Truncation), Truncation.ERROR)

    def timeout_seconds(self) -> float | None:
        """Triton's own parameter, in microseconds; None where it is not set."""
        microseconds = self._integer("timeout", 0)
        if microseconds < 0:
            raise InvalidInput("parameters[timeout]", "is negative")
        return microseconds / 1e6 if microseconds else None

    def _choice(self, name: str, choices: tuple[Choice, ...], default: Choice) -> Choice:
        text = self._text(name)
        if text is None:
            return default
        meant = next((choice for choice in choices if choice == text), None)
        if meant is None:
            raise InvalidInput(f"parameters[{name}]", f"is none of {', '.join(choices)}")
        return meant

    def _integers(self, name: str) -> tuple[int, ...]:
        """One integer, or several as a string with commas, such as `-4,-3,-2,-1`."""
        if self._kind(name) in {None, "int64_param", "uint64_param"}:
            return (self._integer(name, 0),) if name in self._given else ()
        text = self._text(name) or ""
        if len(text) > MOST_CHARACTERS:
            raise InvalidInput(f"parameters[{name}]", f"{len(text)} characters, a list has {MOST_CHARACTERS} at most")
        if INTEGERS.fullmatch(text) is None:
            raise InvalidInput(f"parameters[{name}]", "is no list of a few integers, such as -4,-3,-2,-1")
        return tuple(int(number) for number in text.split(","))

    def _integer(self, name: str, default: int) -> int:
        match self._kind(name):
            case None:
                return default
            case "int64_param":
                return self._given[name].int64_param
            case "uint64_param":
                return self._given[name].uint64_param
        raise InvalidInput(f"parameters[{name}]", "is no integer")

    def _flag(self, name: str) -> bool | None:
        match self._kind(name):
            case None:
                return None
            case "bool_param":
                return self._given[name].bool_param
        raise InvalidInput(f"parameters[{name}]", "is no boolean")

    def _text(self, name: str) -> str | None:
        match self._kind(name):
            case None:
                return None
            case "string_param":
                return self._given[name].string_param
        raise InvalidInput(f"parameters[{name}]", "is no string")

    def _kind(self, name: str) -> str | None:
        """Which field of its oneof is set; None where the parameter is not given."""
        if name not in self._given:  # asking a map of messages for a key adds it
            return None
        return self._given[name].WhichOneof("parameter_choice") or "nothing"
