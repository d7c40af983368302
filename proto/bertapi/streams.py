"""StreamAnalyze as a value: what to send for each input, and how to read an answer. Pure; nothing is sent here."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

import grpc

from bertapi import calls, responses
from bertapi.calls import EmbedOptions, FillMaskOptions, TagOptions, Text, Truncation
from bertapi.errors import ERRORS, BertError, Violation
from bertapi.results import StreamedAnalysis
from bertapi.v1 import bert_service_pb2 as pb

CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCall:
    """Inputs still to be read, and the request that each becomes. timeout_seconds: of the whole stream."""

    inputs: Iterable[Text] | AsyncIterable[Text]
    template: pb.StreamAnalyzeRequest
    timeout_seconds: float

    def requests(self, default_model: str) -> Iterator[pb.StreamAnalyzeRequest]:
        """One per input, under its index."""
        if isinstance(self.inputs, AsyncIterable):
            raise TypeError("inputs: only AsyncBertClient reads an asynchronous iterable")
        return (self._request(index, text, default_model) for index, text in enumerate(self.inputs))

    async def requests_async(self, default_model: str) -> AsyncIterator[pb.StreamAnalyzeRequest]:
        """The same, of either kind of iterable."""
        if not isinstance(self.inputs, AsyncIterable):
            for request in self.requests(default_model):
                yield request
            return
        index = 0
        async for text in self.inputs:
            yield self._request(index, text, default_model)
            index += 1

    def _request(self, index: int, text: Text, default_model: str) -> pb.StreamAnalyzeRequest:
        request = pb.StreamAnalyzeRequest()
        request.CopyFrom(self.template)
        request.id = str(index)
        request.model = self.template.model or default_model
        request.input.CopyFrom(calls.text_input(text))
        return request


class Source:
    """Requests for gRPC to read. It would lose what reading them raises, and cancel an asynchronous caller for it, or
    wait for ever for the next one after a SystemExit. Here the requests end instead, so that what was sent before is
    answered, and `check` raises it."""

    def __init__(self) -> None:
        self._failure: BaseException | None = None

    def read(self, requests: Iterator[pb.StreamAnalyzeRequest]) -> Iterator[pb.StreamAnalyzeRequest]:
        try:
            yield from requests
        except GeneratorExit:
            raise
        except BaseException as error:  # whatever the caller's iterable raises
            self._failure = error

    async def read_async(
        self, requests: AsyncIterator[pb.StreamAnalyzeRequest]
    ) -> AsyncIterator[pb.StreamAnalyzeRequest]:
        try:
            async for request in requests:
                yield request
        except (GeneratorExit, CancelledError):
            raise
        except BaseException as error:
            self._failure = error

    def check(self) -> None:
        """Raises what reading the inputs raised."""
        if self._failure is not None:
            raise self._failure


def stream_analyze(
    inputs: Iterable[Text] | AsyncIterable[Text],
    *,
    embed: EmbedOptions | bool = False,
    fill_mask: FillMaskOptions | bool = False,
    next_sentence: bool = False,
    classify: bool = False,
    tag_tokens: TagOptions | bool = False,
    truncation: Truncation = "error",
    model: str = "",
    timeout_seconds: float = float("inf"),
) -> StreamCall:
    """Analyze for bulk work: any number of inputs, read as the server takes them; answers as they complete, each with
    the index of its input. An input at fault yields its error and fails alone, but for one so large that the server
    takes no such message (its --max-request-bytes, 4 MiB unless set): that ends the stream. What `inputs` raises is
    raised after the answers to those before. No timeout by default."""
    request = calls.analyze(
        [],
        embed=embed,
        fill_mask=fill_mask,
        next_sentence=next_sentence,
        classify=classify,
        tag_tokens=tag_tokens,
        truncation=truncation,
        model=model,
    ).request
    assert isinstance(request, pb.AnalyzeRequest)  # noqa: S101 - tells the type checker
    template = pb.StreamAnalyzeRequest(model=model, options=request.options, truncation=request.truncation)
    return StreamCall(inputs=inputs, template=template, timeout_seconds=timeout_seconds)


def read_streamed(response: pb.StreamAnalyzeResponse) -> StreamedAnalysis:
    """An answer, or why there is none."""
    index = int(response.id)
    if response.HasField("error"):
        return StreamedAnalysis(index=index, analysis=None, error=_read_item_error(response.error), info=None)
    info = responses.read_info(response.info)
    return StreamedAnalysis(index=index, analysis=responses.read_analysis(response.analysis), error=None, info=info)


def _read_item_error(error: pb.ItemError) -> BertError:
    code = CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    violations = [Violation(error.field, error.message)] if error.field else []
    return ERRORS.get(code, BertError)(code, error.message, violations)
