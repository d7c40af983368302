"""Trials side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from bertbench.balancing.callers import Client, Phase
from bertbench.balancing.trial import Trial


def trials_table(trials: Sequence[Trial]) -> Table:
    """A line for each path; failed calls of the plain client, then of the one with the published service config."""
    table = Table(title="Failed calls: plain client · published service config", title_justify="left")
    for column in ("through", "3 replicas", "4 replicas", "new one's first call", "steady, joined", "killed",
                   "drained", "retired", "of calls"):  # fmt: skip
        table.add_column(column, overflow="fold")
    for trial in trials:
        table.add_row(
            trial.path,
            percent_text(trial.shares),
            percent_text(trial.shares_after),
            "none" if trial.joined_seconds is None else f"{trial.joined_seconds:.1f} s",
            failed_text(trial, Phase.STEADY, Phase.JOINED),
            *(failed_text(trial, phase) for phase in (Phase.KILLED, Phase.DRAINED, Phase.RETIRED)),
            " · ".join(f"{trial.calls(client):,}" for client in Client),
        )
    return table


def percent_text(shares: Sequence[float]) -> str:
    """`34/33/33 %`."""
    return "/".join(f"{share * 100:.0f}" for share in shares) + " %"


def failed_text(trial: Trial, *phases: Phase) -> str:
    """Both clients' failed calls."""
    return " · ".join(str(trial.failed(client, *phases)) for client in Client)


def trial_json(trial: Trial) -> dict[str, Any]:
    """All figures, every status by client and phase."""
    outcomes = {
        client: {phase: dict(count) for phase, count in phases.items()} for client, phases in trial.outcomes.items()
    }
    return {
        **{name: getattr(trial, name) for name in ("path", "shares", "shares_after", "joined_seconds")},
        "outcomes": outcomes,
    }
