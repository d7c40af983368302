"""Load by Locust: users who ask for vectors, masked words and next sentences, one call after the other.

    pip install locust
    locust -f examples/clients/locustfile.py --host 127.0.0.1:50051 --headless --users 8 --run-time 10s

Locust counts the calls of each method, and its failures by what the server said.
"""

import os
import time
from collections.abc import Callable

import grpc.experimental.gevent
from bertapi.client import BertClient, BertError
from locust import User, constant, task

# Locust's users are greenlets: without this, the first call of one would stop them all.
grpc.experimental.gevent.init_gevent()

TIMEOUT_SECONDS = float(os.environ.get("TIMEOUT_SECONDS", "30"))


class BertUser(User):
    """Asks again as soon as it is answered; a real user would think for a while (`between(1, 5)`)."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self.client = BertClient(self.host, timeout_seconds=TIMEOUT_SECONDS)
        self.client.wait_ready()

    def on_stop(self) -> None:
        self.client.close()

    @task(2)
    def embed(self) -> None:
        self.measure("Embed", lambda: self.client.embed(["A cat sat here.", "A dog lay there."]))

    @task
    def fill_mask(self) -> None:
        self.measure("FillMask", lambda: self.client.fill_mask("The [MASK] sat on the mat"))

    @task
    def score_next_sentence(self) -> None:
        self.measure("ScoreNextSentence", lambda: self.client.score_next_sentence("It rained.", "We got wet."))

    def measure(self, method: str, call: Callable[[], object]) -> None:
        started = time.perf_counter()
        failure = None
        try:
            call()
        except BertError as error:
            failure = error
        self.environment.events.request.fire(
            request_type="gRPC",
            name=method,
            response_time=(time.perf_counter() - started) * 1000,
            response_length=0,
            exception=failure,
        )
