"""What became of a model's ModelInfer requests, and where their time went, since the server started."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bertapi.oip import inference_pb2 as pb

from bertserve.doors.grpc.oip.signature import VERSION
from bertserve.tasks.answers import Timings


@dataclass(slots=True)
class Duration:
    """How often, and how long altogether."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    def write(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=int(self.seconds * 1e9))


class Statistics:
    """Of one model. Requests are those of this protocol; batches are the bundle's, whoever's texts were in them."""

    def __init__(self, name: str, count_batches: Callable[[], int]) -> None:
        self._name = name
        self._count_batches = count_batches
        self._inferences = 0
        self._last_inference = 0.0
        self._success, self._fail = Duration(), Duration()
        self._queue, self._tokenize, self._infer, self._finish = Duration(), Duration(), Duration(), Duration()

    def succeed(self, texts: int, seconds: float, timings: Timings) -> None:
        """seconds: from the request, decoded, to the response, made."""
        self._inferences += texts
        self._last_inference = time.time()
        self._success.add(seconds)
        self._queue.add(timings.queue_seconds)
        self._tokenize.add(timings.tokenize_seconds)
        self._infer.add(timings.infer_seconds)
        self._finish.add(timings.finish_seconds)

    def fail(self, seconds: float) -> None:
        self._fail.add(seconds)

    def write(self) -> pb.ModelStatistics:
        return pb.ModelStatistics(
            name=self._name,
            version=VERSION,
            last_inference=int(self._last_inference * 1000),
            inference_count=self._inferences,
            execution_count=self._count_batches(),
            inference_stats=pb.InferStatistics(
                success=self._success.write(),
                fail=self._fail.write(),
                queue=self._queue.write(),
                compute_input=self._tokenize.write(),
                compute_infer=self._infer.write(),
                compute_output=self._finish.write(),
            ),
        )
