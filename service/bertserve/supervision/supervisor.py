"""The watch over the lanes: a lost one is replaced and the engines proven anew, or the process has to end.

From the moment a loss is noticed until golden outputs were reproduced, the server is not ready and lets nobody in.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from bertserve.batching.batcher import Batcher
from bertserve.engine.lanes import Lane, Lanes
from bertserve.observe.logs import log, log_error, log_failure
from bertserve.observe.metrics import Metrics
from bertserve.supervision.verdict import LaneState, Watched, find_lost, is_hopeless, watch

LONGEST_TICK_SECONDS = 1.0

# The golden runs of all bundles may take so many times the stall bound.
PROOF_PATIENCE = 3.0

LOST = "the engine is lost; call another replica"

Prove = Callable[[], None]


class Supervisor:
    """Watches from the event loop. on_ready: told when the server stops being ready, and when it is again."""

    def __init__(
        self,
        lanes: Lanes,
        batcher: Batcher,
        proofs: Sequence[Prove],
        stall_seconds: float,
        metrics: Metrics,
        on_ready: Callable[[bool], None],
    ) -> None:
        """Starts at once. stall_seconds: beyond ten times its expected time, how long a run may take.

        proofs: each raises where an engine no longer computes what it did at export.
        """
        self.is_ready = True
        self.has_given_up = asyncio.Event()
        self._lanes = lanes
        self._batcher = batcher
        self._proofs = proofs
        self._stall_seconds = stall_seconds
        self._metrics = metrics
        self._on_ready = on_ready
        self._losses: list[float] = []
        self._task = asyncio.create_task(self._watch())

    @property
    def is_alive(self) -> bool:
        return not self._task.done()

    def stop(self) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        try:
            await self._watch_lanes()
        except Exception as error:  # no thread can be started any more, say: nobody would notice the next loss
            log_failure("the watch over the lanes failed", error)
            self._suspend(LOST)
            self._give_up()

    async def _watch_lanes(self) -> None:
        tick_seconds = min(LONGEST_TICK_SECONDS, self._stall_seconds / 4)
        watched: dict[int, Watched] = {}
        looked = time.monotonic()
        while not self.has_given_up.is_set():
            await asyncio.sleep(tick_seconds)
            now = time.monotonic()
            states = [self._state(lane) for lane in self._lanes]
            watched = watch(watched, states, now - looked, tick_seconds)
            looked = now
            if lost := find_lost(watched, states, self._stall_seconds):
                await self._recover(lost)

    def _state(self, lane: Lane) -> LaneState:
        step = lane.step
        expected = step.tokens / self._batcher.tokens_per_second(step.job.engine) if step is not None else 0.0
        return LaneState(
            is_alive=lane.is_alive, step=step.number if step is not None else None, expected_seconds=expected
        )

    async def _recover(self, lost: dict[int, str]) -> None:
        """Not ready first, so that nobody is sent here; then the callers at stake, then the lanes."""
        self._suspend("the engine is being replaced; call another replica")
        for number, fate in lost.items():
            log_error("lane lost", lane=number, fate=fate)
            self._metrics.lanes_lost.inc()
            self._losses.append(time.monotonic())
            job = self._lanes.replace(number)
            if job is not None:
                self._batcher.give_up(job, "the engine failed under the request")
        if is_hopeless(self._losses, time.monotonic()) or not await self._prove_engines():
            self._give_up()
            return
        self._batcher.resume()
        self.is_ready = True
        self._on_ready(True)
        log("lanes replaced", lanes=self._lanes.count)

    def _suspend(self, reason: str) -> None:
        self.is_ready = False
        self._batcher.suspend(reason)
        self._on_ready(False)

    def _give_up(self) -> None:
        log_error("the engine is lost, the process ends")
        self._batcher.give_up_all(LOST)
        self.has_given_up.set()

    async def _prove_engines(self) -> bool:
        """Whether every engine still reproduces its golden outputs, in good time."""
        loop = asyncio.get_running_loop()
        proven: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if not proven.done():
                proven.set_exception(error) if error is not None else proven.set_result(None)

        def work() -> None:
            error: Exception | None = None
            try:
                for prove in self._proofs:
                    prove()
            except Exception as raised:  # whatever it is, the engine does not compute
                error = raised
            loop.call_soon_threadsafe(settle, error)

        # A thread of its own, for it may never come back, and asyncio waits for its executor's threads.
        threading.Thread(target=work, name="proof", daemon=True).start()
        try:
            await asyncio.wait_for(proven, PROOF_PATIENCE * self._stall_seconds)
        except Exception as error:  # too late, or not as at export
            log_failure("the engine does not reproduce its golden outputs", error)
            return False
        return True
