"""The server's limits on one request that need no model to check. A refusal tells what was found, what is allowed, and
the flag of the operator who can allow more.
"""

from __future__ import annotations

from dataclasses import dataclass

from bertserve.errors import InvalidInput
from bertserve.tasks.asks import Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The server's limits on one request."""

    max_inputs: int
    max_characters: int
    max_top_k: int
    max_response_bytes: int


def check_inputs(ask: Ask, limits: Limits) -> None:
    """Their number, their lengths in characters, and a pair where one is needed. Raises InvalidInput."""
    check_input_count(len(ask.inputs), limits)
    for index, text in enumerate(ask.inputs):
        _check_characters(text.text, f"inputs[{index}].text", limits)
        if text.text_pair is not None:
            _check_characters(text.text_pair, f"inputs[{index}].text_pair", limits)
        elif ask.next_sentence:
            raise InvalidInput(f"inputs[{index}].text_pair", "a next-sentence score needs a pair of texts")


def check_input_count(count: int, limits: Limits) -> None:
    """At least one input, and not more than the server takes."""
    if count == 0:
        raise InvalidInput("inputs", "at least one is needed")
    if count > limits.max_inputs:
        allowed = f"the server takes {limits.max_inputs} in a request (its --max-inputs)"
        raise InvalidInput("inputs", f"{count} of them, {allowed}; send fewer at a time")


def check_target_count(count: int, path: str, limits: Limits) -> None:
    """Not more targets at a mask than predictions."""
    if count > limits.max_top_k:
        raise InvalidInput(path, f"{count} of them, the server scores {limits.max_top_k} at a mask (its --max-top-k)")


def check_top_k(top_k: int, limits: Limits) -> None:
    """Not more predictions at a mask than the server makes."""
    if top_k > limits.max_top_k:
        allowed = f"the server predicts {limits.max_top_k} at a mask (its --max-top-k)"
        raise InvalidInput("fill_mask.top_k", f"{top_k} of them, {allowed}")


def _check_characters(text: str, path: str, limits: Limits) -> None:
    if len(text) > limits.max_characters:
        allowed = f"the server takes {limits.max_characters} (its --max-characters)"
        raise InvalidInput(path, f"{len(text)} characters, {allowed}")
