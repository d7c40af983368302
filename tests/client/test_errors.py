"""How failures reach the caller of either client."""

import grpc
import pytest
from bertapi import client as api
from bertapi.v1 import bert_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: api.InvalidInputError,
    grpc.StatusCode.FAILED_PRECONDITION: api.MissingHeadError,
    grpc.StatusCode.NOT_FOUND: api.UnknownModelError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: api.OverloadedError,
    grpc.StatusCode.UNAVAILABLE: api.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: api.DeadlineError,
    grpc.StatusCode.UNAUTHENTICATED: api.UnauthenticatedError,
    grpc.StatusCode.INTERNAL: api.BertError,
    grpc.StatusCode.UNIMPLEMENTED: api.BertError,
}

ATTEMPTS = 4


@pytest.mark.parametrize(("code", "expected"), CODES.items(), ids=[code.name for code in CODES])
def test_every_status_has_its_error(scripted_server, code, expected):
    """A status becomes the error class of its meaning, with the code and the server's message."""
    scripted_server.answers += [scripted_server.failure(code, "why")] * ATTEMPTS
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.BertError) as caught:
        client.embed("a")
    assert expected is type(caught.value)
    assert (code, "why", (), None) == (
        caught.value.code,
        caught.value.message,
        caught.value.violations,
        caught.value.retry_after_seconds,
    )


def test_violations(scripted_server):
    """BadRequest details name the fields at fault."""
    scripted_server.answers.append(_invalid(scripted_server))
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.InvalidInputError) as caught:
        client.embed(["a", "b"])
    assert (api.Violation("inputs[1].text", "no token"),) == caught.value.violations


async def test_violations_async(scripted_server):
    """The asynchronous client reads the same details."""
    scripted_server.answers.append(_invalid(scripted_server))
    async with api.AsyncBertClient(scripted_server.target) as client:
        with pytest.raises(api.InvalidInputError) as caught:
            await client.embed(["a", "b"])
    assert (api.Violation("inputs[1].text", "no token"),) == caught.value.violations


def test_retry_after(scripted_server):
    """RetryInfo tells when another attempt makes sense."""
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    scripted_server.answers.append(scripted_server.failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry))
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.OverloadedError) as caught:
        client.embed("a")
    assert caught.value.retry_after_seconds == 1.5


def test_malformed_answer(scripted_server):
    """An answer that contradicts the API is a BertError too."""
    tensor_without_type = pb.Tensor(shape=[1], data=b"\0\0\0\0")
    scripted_server.answers.append(pb.EmbedResponse(embeddings=[pb.Embedding(vectors=tensor_without_type)]))
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.MalformedResponseError):
        client.embed("a")


def test_no_server():
    """Where nothing listens, the error says so."""
    with api.BertClient("127.0.0.1:1") as client, pytest.raises(api.UnavailableError, match="refused"):
        client.embed("a")


def test_text_that_is_no_unicode_is_refused_before_it_is_sent():
    """A lone surrogate is a ValueError of the caller, not a failed call."""
    with api.BertClient("127.0.0.1:1") as client, pytest.raises(ValueError, match="surrogates"):
        client.embed("\ud800")


def _invalid(server):
    violation = error_details_pb2.BadRequest.FieldViolation(field="inputs[1].text", description="no token")
    return server.failure(
        grpc.StatusCode.INVALID_ARGUMENT, "bad", error_details_pb2.BadRequest(field_violations=[violation])
    )
