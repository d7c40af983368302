"""The client inside of larger programs: process pools, copies, forks, closed clients, and inputs that end a program."""

import asyncio
import copy
import dataclasses
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from bertapi import client as api
from bertapi.errors import ERRORS, MalformedResponseError
from bertapi.v1 import bert_service_pb2 as pb

TEXT, MASKED = "it was a good day", "the [MASK] sat on the mat"
KINDS = sorted({api.BertError, api.TooLargeError, *ERRORS.values()}, key=lambda kind: kind.__name__)
WAYS = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301 - of its own bytes
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
# Before, gRPC's core takes part in a fork and its Python layer does not, so parent or child crashes now and then
# (grpc/grpc, pull request 41784).
needs_safe_forks = pytest.mark.skipif(
    tuple(int(number) for number in grpc.__version__.split(".")[:2]) < (1, 82),
    reason=f"grpcio {grpc.__version__} is not safe to fork; 1.82 is",
)


# Programs of their own: in a process whose other threads are calling into gRPC, as those of other tests may be, gRPC
# skips what makes a fork safe.
POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from bertapi.client import BertClient, InvalidInputError

def embed(text):
    with BertClient(sys.argv[1]) as client:
        return client.embed(text)

with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
    first, refused, last = [pool.submit(embed, text) for text in ("it was a good day", "", "it was a good day")]
    try:
        refused.result(60)
    except InvalidInputError as error:
        print([violation.field for violation in error.violations])
    print((first.result(60).matrix == last.result(60).matrix).all())
"""
FORK = """
import os, sys
from bertapi.client import BertClient

with BertClient(sys.argv[1]) as client:
    expected = client.embed("it was a good day").matrix
    child = os.fork()
    same = (expected == client.embed("it was a good day").matrix).all()
    if child == 0:
        os._exit(0 if same else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), same)
"""


def run_program(program, target):
    command = [sys.executable, "-c", program, target]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@needs_safe_forks
def test_a_refused_text_leaves_a_process_pool_whole(server):
    """Its error arrives with the fields at fault, and the results of the others arrive too."""
    assert run_program(POOL, server.target) == "['inputs[0].text']\nTrue\n"


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_with_all_it_holds(kind, way):
    """Also what a program added to it."""
    error = kind(grpc.StatusCode.ABORTED, "why", [api.Violation("inputs[1].text", "no token")], 1.5)
    error.add_note("while indexing")
    error.attempt = 3
    found = way(error)
    assert type(found) is kind
    assert (str(found), repr(found), found.args) == (str(error), repr(error), error.args)
    assert vars(found) == vars(error)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_error_of_another_constructor_survives(way):
    """Such as the library's own for malformed answers, or a program's subclass."""
    found = way(MalformedResponseError("a tensor without a type"))
    assert (type(found), found.code, found.message) == (
        MalformedResponseError, grpc.StatusCode.INTERNAL, "a tensor without a type"
    )  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_results_survive(server, way):
    """Every record, with its arrays."""
    with api.BertClient(server.target) as client:
        results = [
            client.embed([TEXT, MASKED], include_tokens=True),
            client.embed(TEXT, pooling="none", vector_type="float16"),
            client.analyze((MASKED, TEXT), embed=True, fill_mask=True, next_sentence=True),
            client.classify(TEXT, model="classifier"),
            client.tag_tokens(TEXT, aggregation="simple", model="tagger"),
            client.tokenize(TEXT),
            client.get_model(),
            *sorted(client.stream_analyze([TEXT, ""], embed=True), key=lambda answer: answer.index),
        ]
    for result in results:
        assert _comparable(way(result)) == _comparable(result)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_client_says_that_it_stays_in_its_process(way):
    """Rather than that some part of gRPC cannot be pickled."""
    with api.BertClient("127.0.0.1:1") as client, pytest.raises(TypeError, match="make one in each process"):
        way(client)


@needs_safe_forks
def test_a_client_serves_a_fork_of_its_process(server):
    """Both go on with it, as programs do that prefork their workers."""
    assert run_program(FORK, server.target) == "0 True\n"


def test_threads_share_a_client(server):
    """And each gets the answer to its own text."""
    texts = [f"{TEXT} {'again ' * (number % 7)}" for number in range(40)]
    with api.BertClient(server.target) as client, ThreadPoolExecutor(8) as pool:
        counts = [found[0].token_count for found in pool.map(client.embed, texts)]
        assert counts == [found.token_count for found in client.embed(texts)]


async def test_a_closed_client_says_so(server):
    """The same from both clients and from every method, as a closed file does."""
    client, async_client = api.BertClient(server.target), api.AsyncBertClient(server.target)
    client.close()
    await async_client.close()
    closed = f"this client of {server.target} is closed"
    for call in (lambda: client.embed(TEXT), lambda: client.wait_ready(1), lambda: list(client.stream_analyze([TEXT]))):
        with pytest.raises(ValueError, match=closed):
            call()
    for call in (async_client.embed(TEXT), async_client.wait_ready(1), anext(async_client.stream_analyze([TEXT]))):
        with pytest.raises(ValueError, match=closed):
            await call


async def test_a_call_whose_client_is_closed_fails_and_its_task_is_not_cancelled(server):
    """gRPC raises CancelledError there, which a task group would take for a wish to end."""
    requested = asyncio.Event()

    async def texts():
        requested.set()
        await asyncio.Event().wait()
        yield TEXT

    client = api.AsyncBertClient(server.target)

    async def read():
        return [answer async for answer in client.stream_analyze(texts(), embed=True)]

    reading = asyncio.create_task(read())
    await requested.wait()
    await client.close()
    with pytest.raises(api.BertError, match="CANCELLED: the client was closed during the call"):
        await reading


async def test_a_cancelled_call_is_cancelled(server):
    """As any coroutine."""
    requested = asyncio.Event()

    async def texts():
        requested.set()
        await asyncio.Event().wait()
        yield TEXT

    async with api.AsyncBertClient(server.target) as client:

        async def read():
            return [answer async for answer in client.stream_analyze(texts(), embed=True)]

        reading = asyncio.create_task(read())
        await requested.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


def leaving_texts():
    yield TEXT
    sys.exit(3)


async def test_inputs_that_end_the_program_end_their_stream(server):
    """gRPC would wait for the next one for ever."""
    seen = []
    with api.BertClient(server.target) as client, pytest.raises(SystemExit):
        seen.extend(answer.index for answer in client.stream_analyze(leaving_texts(), embed=True))
    assert seen == [0]
    async with api.AsyncBertClient(server.target) as client:
        answers = client.stream_analyze(leaving_texts(), embed=True)
        seen.append((await anext(answers)).index)
        with pytest.raises(SystemExit):
            await anext(answers)
    assert seen == [0, 0]


def test_an_answer_too_large_for_its_client_names_the_remedy(scripted_server):
    """It is no overload: the same call fails again."""
    scripted_server.answers += [_answer(2000), _answer(2000)]
    refusal = pytest.raises(
        api.TooLargeError, match=r"the answer has \d+ bytes, this client takes 1000; .* max_response_bytes"
    )
    with api.BertClient(scripted_server.target, max_response_bytes=1000) as client, refusal:
        client.embed("a")
    with api.BertClient(scripted_server.target, max_response_bytes=3000) as client:
        assert client.embed("a")[0].vectors.nbytes == 2000


def test_a_client_takes_what_a_server_may_be_told_to_send(scripted_server):
    """Operators may raise the server's limit; the client follows unasked."""
    scripted_server.answers.append(_answer(100_000_000))
    with api.BertClient(scripted_server.target) as client:
        assert client.embed("a")[0].vectors.nbytes == 100_000_000


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_admits_nothing_is_refused(limit):
    """gRPC would take -1 for none."""
    with pytest.raises(ValueError, match=r"max_response_bytes: .* is less than 1"):
        api.BertClient("127.0.0.1:1", max_response_bytes=limit)


def _answer(size):
    vectors = pb.Tensor(shape=[size // 2], type=pb.VECTOR_TYPE_FLOAT16, data=bytes(size))
    return pb.EmbedResponse(embeddings=[pb.Embedding(vectors=vectors)])


def _comparable(value):
    if isinstance(value, np.ndarray):
        return (value.dtype.name, value.shape, value.tobytes())
    if isinstance(value, api.BertError):
        return (type(value), vars(value))
    if dataclasses.is_dataclass(value):
        return [type(value), *(_comparable(getattr(value, field.name)) for field in dataclasses.fields(value))]
    if isinstance(value, tuple):
        return [_comparable(item) for item in value]
    return value
