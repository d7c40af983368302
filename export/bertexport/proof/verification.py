"""The verdict on a bundle: its outputs and PyTorch's on the same inputs, as figures, and the gates they must pass.

The bundle runs through the server's own engine, in mixed batches, so that what is verified runs exactly as served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from bertserve.bundle import Head, ProblemType
from bertserve.engine.items import Item, ItemOutputs
from bertserve.engine.ort.session import Engine
from bertserve.heads.comparison import Decision, Difference
from bertserve.heads.registry import HEADS

from bertexport.proof.figures import write_figure
from bertexport.proof.gates import REGRESSION_GATE, Gate
from bertexport.proof.reference import Expected, ReferenceOutputs

BATCH_ITEMS = 8
# The longest length in tokens of each band; what is longer falls into the last.
LENGTH_BANDS = (16, 64, 128, 256, 512, 8192)
# Between PyTorch's best and second best, in logits: below it, either may rightly win.
DECISIVE_MARGIN = 0.1
# Outputs by their names in figures → the figure of their decisions.
DECISIONS = {head.figure: head.agreement for head in HEADS.values() if head.agreement is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Differences of one output over inputs of similar length. longest: of the band, in tokens.

    agreement: of decisions where PyTorch is decided, None where there is none; top5_overlap: of words for masks.
    """

    output: str
    longest: int
    inputs: int
    max_abs: float
    relative: float
    token_cosine_min: float | None
    agreement: float | None
    top5_overlap: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFigures:
    """Cosines between one layer's hidden states and PyTorch's, 0 = embedding layer; p1: first percentile."""

    layer: int
    token_cosine_min: float
    token_cosine_p1: float
    pooled_cosine_mean: float
    pooled_cosine_min: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """figures: by name; failures: gates that were missed, as sentences."""

    figures: dict[str, float]
    layers: tuple[LayerFigures, ...]
    bands: tuple[Band, ...]
    gates: tuple[Gate, ...]
    failures: tuple[str, ...]

    def write(self, figure: str) -> str:
        """The figure's value, so that it is seen whether it passes its gate, and whether it is just 0 or 1."""
        bounds = (bound for gate in self.gates if gate.figure == figure for bound in gate.bounds)
        return write_figure(self.figures[figure], 0.0, 1.0, *bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What both sides gave for the same item."""

    item: Item
    actual: ItemOutputs
    expected: ReferenceOutputs


def run_engine(engine: Engine, expected: list[Expected], advance: Callable[[], None]) -> Iterator[Outputs]:
    """The bundle's outputs beside PyTorch's, in batches of all lengths; advance after each item."""
    for start in range(0, len(expected), BATCH_ITEMS):
        batch = expected[start : start + BATCH_ITEMS]
        for one, actual in zip(batch, engine.run_items([one.item for one in batch]), strict=True):
            yield Outputs(item=one.item, actual=actual, expected=one.outputs)
            advance()


def judge(
    outputs: Iterable[Outputs],
    gates: Iterable[Gate],
    heads: tuple[Head, ...],
    problem_type: ProblemType | None = None,
) -> Verdict:
    """Figures, and those of the gates that are about these heads; one without its figure is missed."""
    differences: list[Difference] = []
    decisions: list[Decision] = []
    lengths = []
    # One after the other, for together they are large.
    for o in outputs:
        for head in HEADS.values():
            if (reference := o.expected.results.get(head.head)) is not None:
                differences += head.differences(o.item, o.actual, reference)
                decisions += head.decisions(o.item, o.actual, reference, problem_type)
        lengths.append(o.item.length)
    layers = tuple(_layer_figures(layer, group) for layer, group in _by_layer(differences))
    figures = {
        **_difference_figures(differences),
        **_cosine_figures(layers),
        **_decision_figures(decisions),
        "verified_inputs": float(len(lengths)),
        "verified_tokens": float(sum(lengths)),
    }
    asked = [gate for gate in _adapt(gates, problem_type) if gate.head in heads]
    shown = tuple(gate for gate in asked if gate.figure in figures)
    missing = (f"no text verifies {gate.head.value} ({gate.figure})" for gate in asked if gate not in shown)
    missed = (_tell_missed(gate, figures[gate.figure]) for gate in shown if not gate.passes(figures[gate.figure]))
    failures = (*missing, *missed)
    bands = tuple(_bands(differences, decisions))
    return Verdict(figures=figures, layers=layers, bands=bands, gates=shown, failures=failures)


def _tell_missed(gate: Gate, value: float) -> str:
    return f"{gate.figure} is {write_figure(value, *gate.bounds, digits=3)}, must be {gate}"


def _adapt(gates: Iterable[Gate], problem_type: ProblemType | None) -> list[Gate]:
    """Numbers decide nothing, so they are judged by how near they lie."""
    if problem_type is not ProblemType.REGRESSION:
        return list(gates)
    return [REGRESSION_GATE if gate.figure == "classification_agreement" else gate for gate in gates]


def _difference_figures(differences: list[Difference]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for output, group in _group(differences).items():
        # np.max, unlike max, lets a NaN through.
        figures[f"{output}_max_abs_difference"] = float(np.max([d.max_abs for d in group]))
        figures[f"{output}_max_relative_difference"] = float(np.max([d.relative for d in group]))
    return figures


def _cosine_figures(layers: tuple[LayerFigures, ...]) -> dict[str, float]:
    """Those of the worst layer, since any layer can be asked for."""
    names = ("token_cosine_min", "token_cosine_p1", "pooled_cosine_mean", "pooled_cosine_min")
    # np.min, unlike min, lets a NaN through.
    return {name: float(np.min([getattr(layer, name) for layer in layers])) for name in names}


def _by_layer(differences: list[Difference]) -> list[tuple[int, list[Difference]]]:
    layers: dict[int, list[Difference]] = {}
    for difference in differences:
        if difference.layer is not None:
            layers.setdefault(difference.layer, []).append(difference)
    return sorted(layers.items())


def _layer_figures(layer: int, group: list[Difference]) -> LayerFigures:
    tokens = np.concatenate([d.token_cosines for d in group if d.token_cosines is not None])
    pooled = [d.pooled_cosine for d in group if d.pooled_cosine is not None]
    return LayerFigures(
        layer=layer,
        token_cosine_min=float(tokens.min()),
        token_cosine_p1=float(np.percentile(tokens, 1)),
        pooled_cosine_mean=float(np.mean(pooled)),
        pooled_cosine_min=float(np.min(pooled)),
    )


def _decision_figures(decisions: list[Decision]) -> dict[str, float]:
    """Agreement where PyTorch itself is decided; the share of the others is a figure of its own."""
    figures: dict[str, float] = {}
    for output, name in DECISIONS.items():
        group = [decision for decision in decisions if decision.output == output]
        decided = _decided(group)
        if group:
            figures[name] = float(np.mean(decided)) if decided else 1.0
            figures[f"{output}_undecided_share"] = 1 - len(decided) / len(group)
        if overlaps := _overlaps(group):
            figures[f"{output}_top5_overlap"] = float(np.mean(overlaps))
    return figures


def _decided(decisions: list[Decision]) -> list[bool]:
    """Whether both agree, where PyTorch itself is decided."""
    return [decision.agrees for decision in decisions if decision.margin >= DECISIVE_MARGIN]


def _overlaps(decisions: list[Decision]) -> list[float]:
    """Of rankings alone."""
    return [decision.overlap for decision in decisions if decision.overlap is not None]


def _bands(differences: list[Difference], decisions: list[Decision]) -> list[Band]:
    bands = []
    for output, group in _group(differences).items():
        by_length: dict[int, list[Difference]] = {}
        for difference in group:
            by_length.setdefault(_band_of(difference.item.length), []).append(difference)
        for longest in sorted(by_length):
            made = [d for d in decisions if d.output == output and _band_of(d.item.length) == longest]
            bands.append(_band(output, longest, by_length[longest], made))
    return bands


def _band(output: str, longest: int, group: list[Difference], decisions: list[Decision]) -> Band:
    cosines = [float(d.token_cosines.min()) for d in group if d.token_cosines is not None]
    decided = _decided(decisions)
    overlaps = _overlaps(decisions)
    return Band(
        output=output,
        longest=longest,
        inputs=len({id(d.item) for d in group}),
        max_abs=float(np.max([d.max_abs for d in group])),
        relative=float(np.max([d.relative for d in group])),
        token_cosine_min=float(np.min(cosines)) if cosines else None,
        agreement=float(np.mean(decided)) if decided else None,
        top5_overlap=float(np.mean(overlaps)) if overlaps else None,
    )


def _band_of(length: int) -> int:
    return next((longest for longest in LENGTH_BANDS if length <= longest), LENGTH_BANDS[-1])


def _group(differences: list[Difference]) -> dict[str, list[Difference]]:
    """By output, in the order of their first difference."""
    groups: dict[str, list[Difference]] = {}
    for difference in differences:
        groups.setdefault(difference.output, []).append(difference)
    return groups
