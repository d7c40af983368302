"""The BertService: each method reads its request, asks the tasks, and writes its response. No decision is made here."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc

from bertserve.doors.call import ANSWERED, Answered
from bertserve.doors.fields import FieldNames
from bertserve.doors.grpc.bert import requests, responses
from bertserve.doors.grpc.bert.stream import Accepted, Stream
from bertserve.doors.grpc.calls import Context, deadline_of
from bertserve.doors.grpc.sizes import MessageSizes
from bertserve.models import ServedModel
from bertserve.serving import Serving
from bertserve.tasks.analysis import Answer
from bertserve.tasks.asks import Ask
from bertserve.tasks.limits import Limits

Response = TypeVar("Response")

SIZES = MessageSizes()


class BertServicer(pb_grpc.BertServiceServicer):
    """All methods of bertapi.v1.BertService. Errors leave it as exceptions, for the chain to translate."""

    def __init__(self, serving: Serving) -> None:
        self._models = serving.models
        self._analyzer = serving.analyzer
        self._limits = serving.limits
        self._metrics = serving.metrics
        self._drain = serving.drain

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        return await self._answer(request, context, requests.read_embed, responses.write_embed)

    async def FillMask(self, request: pb.FillMaskRequest, context: Context) -> pb.FillMaskResponse:
        return await self._answer(request, context, requests.read_fill_mask, responses.write_fill_mask)

    async def ScoreNextSentence(
        self, request: pb.ScoreNextSentenceRequest, context: Context
    ) -> pb.ScoreNextSentenceResponse:
        return await self._answer(
            request, context, requests.read_score_next_sentence, responses.write_score_next_sentence
        )

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        return await self._answer(request, context, requests.read_classify, responses.write_classify)

    async def TagTokens(self, request: pb.TagTokensRequest, context: Context) -> pb.TagTokensResponse:
        return await self._answer(request, context, requests.read_tag_tokens, responses.write_tag_tokens)

    async def Analyze(self, request: pb.AnalyzeRequest, context: Context) -> pb.AnalyzeResponse:
        return await self._answer(request, context, requests.read_analyze, responses.write_analyze)

    async def StreamAnalyze(
        self, messages: AsyncIterator[pb.StreamAnalyzeRequest], context: Context
    ) -> AsyncGenerator[pb.StreamAnalyzeResponse]:
        deadline = deadline_of(context)
        window_tokens = self._analyzer.stream_window_tokens
        stream = Stream(lambda request: self._accept(request, deadline), self._drain.refusing, window_tokens)
        async with aclosing(stream.answers(messages)) as answers:
            async for answer in answers:
                yield answer

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        started = time.monotonic()
        model = self._models.find(request.model)
        with self._naming_fields(request, model):
            ask = requests.read_tokenize(request, self._limits)
            answer = await self._analyzer.tokenize(model, ask, deadline_of(context), SIZES)
        ANSWERED.set(Answered(model=model.name, started=started, timings=answer.timings))
        return await self._analyzer.offload(answer.is_large, responses.write_tokenize, model, answer)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: ARG002
        model = self._models.find(request.model)
        return pb.GetModelResponse(model=responses.write_model(model, self._limits))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: ARG002
        return pb.ListModelsResponse(models=[responses.write_model(model, self._limits) for model in self._models])

    async def _answer(
        self,
        request: Any,
        context: Context,
        read: Callable[[Any, Limits], Ask],
        write: Callable[[ServedModel, Answer], Response],
    ) -> Response:
        started = time.monotonic()
        model = self._models.find(request.model)
        with self._naming_fields(request, model):
            ask = read(request, self._limits)
            answer = await self._analyzer.analyze(model, ask, deadline_of(context), SIZES)
        ANSWERED.set(Answered(model=model.name, started=started, timings=answer.timings))
        return await self._analyzer.offload(answer.is_large, write, model, answer)

    async def _accept(self, request: pb.StreamAnalyzeRequest, deadline: float | None) -> Accepted:
        model = self._models.find(request.model)
        with self._naming_fields(request, model):
            ask = requests.read_stream_analyze(request, self._limits)
            prepared = await self._analyzer.prepare(model, ask, deadline, SIZES)

        async def answer() -> pb.StreamAnalyzeResponse:
            answer = await self._analyzer.answer(model, prepared, deadline, in_stream=True)
            return await self._analyzer.offload(
                answer.is_large, responses.write_stream_analysis, model, request.id, answer
            )

        return Accepted(tokens=prepared.tokens, response_bytes=prepared.response_bytes, answer=answer)

    def _naming_fields(self, request: object, model: ServedModel) -> FieldNames:
        return FieldNames(requests.field_paths(request), model.name, self._metrics)
