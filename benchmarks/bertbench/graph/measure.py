"""The run: first which arrangement suits whom, then every shape, then every task; contestants take turns throughout."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bertserve.bundle import Bundle, Head
from bertserve.engine.opening import open_engine

from bertbench.graph.ceiling import ceiling_contestant
from bertbench.graph.lanes import Arrangement, ReadyBatch, arrangements, cycles_for, measure_rate
from bertbench.graph.report import Figure, Report, Settings, best_arrangement
from bertbench.graph.runners import Contestant, Kind, PackedRunner, Runner, Task, graph_contestant
from bertbench.graph.shapes import SENTENCES, SHAPES, Shape, cut_batches, fit_shapes
from bertbench.machine import describe_machine
from bertbench.neighbours import read_core_times, share_of_others
from bertbench.progress import Progress
from bertbench.rounds import Rounds

HEAD_OF = {Task.MASKED_WORD: Head.MASKED_LM, Task.NEXT_SENTENCE: Head.NEXT_SENTENCE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing to measure, loaded."""

    contestant: Contestant
    arrangement: Arrangement
    shape: Shape
    task: Task
    batches: list[ReadyBatch]


def measure_graph(bundles: Sequence[Bundle], settings: Settings, baselines: bool, progress: Progress) -> Report:
    """Measure bundles of one shape against each other, their ceilings and, if asked, padded baselines."""
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    facts, machine = bundles[0].model, describe_machine()
    contestants = [graph_contestant(bundle) for bundle in bundles]
    contestants += [ceiling_contestant(facts, one) for one in sorted({bundle.model.precision for bundle in bundles})]
    notes: list[str] = []
    shapes = fit_shapes(SHAPES, facts.max_tokens)
    (sentences,) = fit_shapes([SENTENCES], facts.max_tokens)
    with tempfile.TemporaryDirectory() as directory:
        if baselines:
            with progress.step("Export the padded baselines"):
                padded, notes = _padded_contestants(bundles, Path(directory))
            contestants += padded
        before, runners = read_core_times(), Runners()
        tried = [(contestant, one) for one in arrangements(machine.cores) for contestant in contestants]
        arranged = _measure("Try every arrangement", runners, tried, [sentences], settings, progress)
        chosen = choose_arrangements(contestants, arranged)
        runners.keep(chosen)
        shaped = _measure("Measure every shape", runners, chosen, shapes, settings, progress)
    tasks = _measure_tasks(bundles, chosen, sentences, settings, progress)
    return Report(
        started=started,
        machine=machine,
        settings=settings,
        arranged=tuple(arranged),
        shaped=tuple(shaped),
        tasks=tuple(tasks),
        others=share_of_others(before, read_core_times()),
        notes=tuple(notes),
    )


class Runners:
    """Contestants loaded so far, once for each number of threads."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, int], Runner] = {}

    def get(self, contestant: Contestant, threads: int) -> Runner:
        key = contestant.name, threads
        if key not in self._loaded:
            self._loaded[key] = contestant.load(threads)
        return self._loaded[key]

    def keep(self, used: Iterable[tuple[Contestant, Arrangement]]) -> None:
        """Drop all others and their memory."""
        names = {(contestant.name, arrangement.threads) for contestant, arrangement in used}
        self._loaded = {key: runner for key, runner in self._loaded.items() if key in names}


def choose_arrangements(
    contestants: Sequence[Contestant], arranged: Sequence[Figure]
) -> list[tuple[Contestant, Arrangement]]:
    """To each the arrangement that suits it best; a ceiling runs in those of the graphs beneath it."""
    graphs = [one for one in contestants if one.kind is Kind.GRAPH]
    chosen = []
    for contestant in contestants:
        followed = [contestant]
        if contestant.kind is Kind.CEILING:
            followed = [graph for graph in graphs if graph.precision == contestant.precision]
        suiting = {best_arrangement(arranged, one.name) for one in followed}
        chosen += [(contestant, arrangement) for arrangement in sorted(suiting)]
    return chosen


def _measure(
    title: str,
    runners: Runners,
    pairs: Sequence[tuple[Contestant, Arrangement]],
    shapes: Sequence[Shape],
    settings: Settings,
    progress: Progress,
) -> list[Figure]:
    """Every pair on every shape; those of one shape follow upon each other."""
    entries = [
        _entry(contestant, runners.get(contestant, arrangement.threads), arrangement, shape, settings)
        for shape in shapes
        for contestant, arrangement in pairs
    ]
    return measure_entries(title, entries, settings, progress)


def _measure_tasks(
    bundles: Sequence[Bundle],
    chosen: Sequence[tuple[Contestant, Arrangement]],
    sentences: Shape,
    settings: Settings,
    progress: Progress,
) -> list[Figure]:
    """Every task that a bundle has the head for, on the same sentences."""
    arrangement_of = {contestant.name: (contestant, arrangement) for contestant, arrangement in chosen}
    entries = []
    for bundle in bundles:
        contestant, arrangement = arrangement_of[graph_contestant(bundle).name]
        engine = open_engine(bundle, arrangement.threads)
        entries += [
            _entry(contestant, PackedRunner(engine, task), arrangement, sentences, settings, task)
            for task in Task
            if task not in HEAD_OF or HEAD_OF[task] in bundle.model.heads
        ]
    return measure_entries("Measure every task", entries, settings, progress)


def _entry(
    contestant: Contestant,
    runner: Runner,
    arrangement: Arrangement,
    shape: Shape,
    settings: Settings,
    task: Task = Task.EMBEDDING,
) -> Entry:
    cut = cut_batches(shape, settings.batch_tokens)
    batches = [ReadyBatch(run=runner.prepare(lengths), tokens=sum(lengths)) for lengths in cut]
    return Entry(contestant=contestant, arrangement=arrangement, shape=shape, task=task, batches=batches)


def measure_entries(title: str, entries: Sequence[Entry], settings: Settings, progress: Progress) -> list[Figure]:
    """Each entry once to warm up and to see how long it takes, then once a round, every other round backwards."""
    rates: list[list[float]] = [[] for _ in entries]
    with ExitStack() as stack, progress.step(title, len(entries) * (settings.rounds + 1)) as advance:
        lanes = {
            count: stack.enter_context(ThreadPoolExecutor(count, thread_name_prefix="lane"))
            for count in {entry.arrangement.lanes for entry in entries}
        }
        cycles = []
        for entry in entries:
            cycles.append(_warm_up(entry, lanes, settings.seconds))
            advance()
        for number in range(settings.rounds):
            order = range(len(entries)) if number % 2 == 0 else reversed(range(len(entries)))
            for index in order:
                entry = entries[index]
                count = entry.arrangement.lanes
                rates[index].append(measure_rate(lanes[count], count, entry.batches, cycles[index]))
                advance()
    return [_figure(entry, values) for entry, values in zip(entries, rates, strict=True)]


def _warm_up(entry: Entry, lanes: Mapping[int, ThreadPoolExecutor], seconds: float) -> int:
    """How many cycles take about so long. The first run of a size allocates, so the second one is timed."""
    count = entry.arrangement.lanes
    least = cycles_for(len(entry.batches), count, math.inf, seconds)
    measure_rate(lanes[count], count, entry.batches, least)
    rate = measure_rate(lanes[count], count, entry.batches, least)
    return cycles_for(len(entry.batches), count, sum(batch.tokens for batch in entry.batches) / rate, seconds)


def _figure(entry: Entry, rates: Sequence[float]) -> Figure:
    return Figure(
        contestant=entry.contestant.name,
        kind=entry.contestant.kind,
        precision=entry.contestant.precision,
        shape=entry.shape,
        arrangement=entry.arrangement,
        task=entry.task,
        rates=Rounds(tuple(rates)),
    )


def _padded_contestants(bundles: Sequence[Bundle], directory: Path) -> tuple[list[Contestant], list[str]]:
    # PyTorch takes seconds to import: only where it is measured.
    from bertbench.graph.padded import padded_contestants

    quantize = any(bundle.model.precision != "fp32" for bundle in bundles)
    return padded_contestants(bundles[0].model, quantize, directory)
