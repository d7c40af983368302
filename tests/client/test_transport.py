"""What every channel of a client does unasked: retries, limits, deadlines, metadata, health."""

import math
import threading
import time

import grpc
import pytest
from bertapi import client as api
from bertapi.v1 import bert_service_pb2 as pb

OK = pb.EmbedResponse()
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def test_unavailable_is_retried(scripted_server):
    """The published service config is in force: a call survives a replica that says UNAVAILABLE."""
    scripted_server.answers += [scripted_server.failure(UNAVAILABLE), OK]
    with api.BertClient(scripted_server.target) as client:
        client.embed("a")
    assert len(scripted_server.arrivals) == 2


async def test_unavailable_is_retried_async(scripted_server):
    """The asynchronous channel has the same service config."""
    scripted_server.answers += [scripted_server.failure(UNAVAILABLE), OK]
    async with api.AsyncBertClient(scripted_server.target) as client:
        await client.embed("a")
    assert len(scripted_server.arrivals) == 2


def test_retries_end(scripted_server):
    """After two attempts the client hears of it."""
    scripted_server.answers += [scripted_server.failure(UNAVAILABLE, "draining")] * 5
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.UnavailableError, match="draining"):
        client.embed("a")
    assert len(scripted_server.arrivals) == 2


def test_large_requests_are_retried_too(scripted_server):
    """A batch beyond gRPC's default retry buffer keeps its retries, also where a server takes more than by default."""
    scripted_server.answers += [scripted_server.failure(UNAVAILABLE), OK]
    with api.BertClient(scripted_server.target) as client:
        client.embed("a" * 25 * 2**20)
    assert len(scripted_server.arrivals) == 2


def test_other_failures_are_not_retried(scripted_server):
    """An overloaded server is not asked again at once."""
    scripted_server.answers += [scripted_server.failure(grpc.StatusCode.RESOURCE_EXHAUSTED), OK]
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.OverloadedError):
        client.embed("a")
    assert len(scripted_server.arrivals) == 1


def test_calls_have_a_deadline(scripted_server):
    """A call has the client's timeout unless it states its own; infinity, or more than gRPC can count, is none."""
    scripted_server.answers += [OK, OK, OK, OK]
    with api.BertClient(scripted_server.target, timeout_seconds=20) as client:
        client.embed("a")
        client.embed("a", timeout_seconds=500)
        client.embed("a", timeout_seconds=math.inf)
        client.embed("a", timeout_seconds=1e20)
        client.wait_ready(1e20)
    default, stated, endless, long = (arrival.remaining_seconds for arrival in scripted_server.arrivals)
    assert 10 < default < 30
    assert 400 < stated < 600
    assert all(none is None or none > 10**6 for none in (endless, long))


def test_a_timeout_that_is_no_number_is_refused(scripted_server):
    """Waiting for it would never end."""
    with api.BertClient(scripted_server.target) as client:
        with pytest.raises(ValueError, match="no number of seconds"):
            client.wait_ready(math.nan)
        with pytest.raises(ValueError, match="no number of seconds"):
            client.embed("a", timeout_seconds=math.nan)


def test_token(scripted_server):
    """A token travels as a bearer token."""
    scripted_server.answers.append(OK)
    with api.BertClient(scripted_server.target, token="secret") as client:
        client.embed("a")
    assert scripted_server.arrivals[0].metadata["authorization"] == "Bearer secret"


@pytest.mark.parametrize("content", ["", "first\nsecond", "# a comment", "t\u00f6ken"])
def test_a_file_that_holds_no_single_token_is_named(scripted_server, tmp_path, content):
    """Such as the server's own, of many tokens: gRPC would call it invalid metadata."""
    path = tmp_path / "tokens"
    path.write_text(content, encoding="utf-8")
    refusal = pytest.raises(api.UnauthenticatedError, match=f"token file {path}: not one token")
    with api.BertClient(scripted_server.target, token=path) as client, refusal:
        client.embed("a")
    assert scripted_server.arrivals == []


def test_credentials(scripted_server):
    """With credentials the channel is a secure one."""
    scripted_server.answers.append(OK)
    with api.BertClient(scripted_server.secure_target, credentials=grpc.local_channel_credentials()) as client:
        client.embed("a")
    assert len(scripted_server.arrivals) == 1


async def test_credentials_async(scripted_server):
    """The asynchronous client takes the same credentials."""
    scripted_server.answers.append(OK)
    credentials = grpc.local_channel_credentials()
    async with api.AsyncBertClient(scripted_server.secure_target, credentials=credentials) as client:
        await client.embed("a")
    assert len(scripted_server.arrivals) == 1


def test_default_model(scripted_server):
    """A call that names no model goes to the client's; one that does goes to its own."""
    scripted_server.answers += [OK, OK]
    with api.BertClient(scripted_server.target, model="first") as client:
        client.embed("a")
        client.embed("a", model="other")
    assert [arrival.request.model for arrival in scripted_server.arrivals] == ["first", "other"]


def test_unhealthy_server_is_not_called(scripted_server):
    """The channel watches health: no call reaches a server that says it does not serve."""
    scripted_server.set_serving(False)
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.UnavailableError):
        client.embed("a")
    assert scripted_server.arrivals == []


def test_wait_ready(scripted_server):
    """Waiting ends when the server says that it serves, and calls then succeed."""
    scripted_server.set_serving(False)
    scripted_server.answers.append(OK)
    threading.Timer(0.3, scripted_server.set_serving, [True]).start()
    with api.BertClient(scripted_server.target) as client:
        client.wait_ready(30)
        client.embed("a")
    assert len(scripted_server.arrivals) == 1


async def test_wait_ready_async(scripted_server):
    """The asynchronous client waits likewise."""
    scripted_server.set_serving(False)
    scripted_server.answers.append(OK)
    threading.Timer(0.3, scripted_server.set_serving, [True]).start()
    async with api.AsyncBertClient(scripted_server.target) as client:
        await client.wait_ready(30)
        await client.embed("a")
    assert len(scripted_server.arrivals) == 1


def test_wait_ready_gives_up(scripted_server):
    """Waiting has an end: an error that names the server."""
    scripted_server.set_serving(False)
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.DeadlineError, match=r"127\.0\.0\.1"):
        client.wait_ready(0.3)


async def test_wait_ready_gives_up_async():
    """A server that does not exist is waited for no longer than asked."""
    async with api.AsyncBertClient("127.0.0.1:1") as client:
        with pytest.raises(api.DeadlineError, match=r"127\.0\.0\.1:1 did not become ready"):
            await client.wait_ready(0.3)


def test_wait_ready_says_why():
    """Whoever waited in vain needs the reason, not only that time is up."""
    with api.BertClient("127.0.0.1:1") as client:
        with pytest.raises(api.UnavailableError):
            client.embed("a")  # from here on the channel knows
        with pytest.raises(api.DeadlineError, match=r"127\.0\.0\.1:1 did not become ready .*refused"):
            client.wait_ready(0.3)


def test_a_timeout_ends_the_call(scripted_server):
    """A server that does not answer in time is a DeadlineError."""
    scripted_server.answers = Slow()
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.DeadlineError):
        client.embed("a", timeout_seconds=0.1)


class Slow(list):
    """Answers that take longer than the caller waits."""

    def pop(self, _index: int = -1) -> pb.EmbedResponse:
        time.sleep(0.5)
        return OK
