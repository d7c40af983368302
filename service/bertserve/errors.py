"""What can go wrong with a request, in the caller's terms. One status each: see `doors.statuses.STATUSES`.

receive  → Overloaded, Undecodable
decode   → Undecodable, InvalidInput
prepare  → InvalidInput, MissingHead, UnknownModel, DeadlinePassed
queue    → Overloaded, DeadlinePassed, InvalidInput
engine   → EngineUnavailable; anything else is a bug, answered with a fixed text and logged in full
send     → Overloaded
"""

from __future__ import annotations

from dataclasses import dataclass


class RequestError(Exception):
    """A request that cannot be answered. Its message goes to the caller; it never quotes the caller's text."""


@dataclass(frozen=True, slots=True)
class Violation:
    """field: path of the field at fault in the task's terms, such as `inputs[17].text` or `embed.layers`."""

    field: str
    description: str


class Undecodable(RequestError):
    """Bytes that are no message of the method, or hold text that is not UTF-8."""


class InvalidInput(RequestError):
    """The request itself is at fault; sending it again changes nothing."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.violation = Violation(field, description)


class MissingHead(RequestError):
    """The bundle cannot compute what was asked."""


class UnknownModel(RequestError):
    """No bundle is served under that name."""


class Overloaded(RequestError):
    """There is no room for the request or its answer, or the wait would outlast the caller.

    retry_after_seconds: when trying again makes sense.
    """

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlinePassed(RequestError):
    """The caller's deadline has passed, or could not be met by an empty queue either."""


class EngineUnavailable(RequestError):
    """Not ready, draining, or the engine failed under the request."""
