"""Whether who left did so because his time was over: gRPC cancels both kinds of calls alike."""

from __future__ import annotations

# A caller's deadline comes to the server rounded up to three digits, and later by what its headers took on the way.
ROUNDING = 0.01
TRANSIT_SECONDS = 0.02


def has_passed(remaining_seconds: float, waited_seconds: float) -> bool:
    """Of a call cancelled after so long, with so much left to its deadline by the server's clock."""
    return remaining_seconds <= TRANSIT_SECONDS + ROUNDING * (waited_seconds + remaining_seconds)
