"""The metrics port: /metrics, /livez and /readyz over plain HTTP, answered from the event loop that they report on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from bertserve.doors.http.pages import Page, PageServer
from bertserve.observe.logs import log_failure

# An event loop that takes longer than this to answer is not alive.
LOOP_SECONDS = 5.0


class Probes:
    """The pages. They are made on the event loop, so that a stuck loop shows as one."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        is_alive: Callable[[], bool],
        is_ready: Callable[[], bool],
    ) -> None:
        """Binds at once; port 0 picks a free one. Raises OSError where the address is taken."""
        self._registry = registry
        self._is_alive = is_alive
        self._is_ready = is_ready
        self._loop = asyncio.get_running_loop()
        self._server = PageServer((host, port), self._ask_loop)
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    async def _page(self, path: str, accept: str) -> Page:
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return Page(200, content_type, encode(self._registry))
        if path == "/livez":
            return _verdict(self._is_alive())
        if path == "/readyz":
            return _verdict(self._is_ready())
        return Page(404, "text/plain", b"try /metrics, /livez or /readyz\n")

    def _ask_loop(self, path: str, accept: str) -> Page:
        answer = asyncio.run_coroutine_threadsafe(self._page(path, accept), self._loop)
        try:
            return answer.result(LOOP_SECONDS)
        except (FutureTimeoutError, CancelledError):
            answer.cancel()
            return Page(503, "text/plain", b"the event loop does not answer\n")
        except Exception as error:  # a gauge that cannot be read, say
            log_failure("a page of the metrics port failed", error)
            return Page(500, "text/plain", b"internal error; the server's log holds its trace\n")


def _verdict(is_good: bool) -> Page:
    return Page(200, "text/plain", b"ok\n") if is_good else Page(503, "text/plain", b"no\n")
