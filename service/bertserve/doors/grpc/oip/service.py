"""The GRPCInferenceService: ModelInfer reads tensors, asks the tasks, and writes tensors; the rest tells of models."""

from __future__ import annotations

import time
from functools import partial

from bertapi.oip import inference_pb2 as pb
from bertapi.oip import inference_pb2_grpc as pb_grpc

from bertserve.doors.call import ANSWERED, Answered
from bertserve.doors.fields import FieldNames
from bertserve.doors.grpc.calls import Context, deadline_of
from bertserve.doors.grpc.oip import descriptions
from bertserve.doors.grpc.oip.requests import FIELD_PATHS, Inference, read_inference
from bertserve.doors.grpc.oip.responses import write_inference
from bertserve.doors.grpc.oip.signature import VERSION
from bertserve.doors.grpc.oip.statistics import Statistics
from bertserve.doors.grpc.sizes import TensorSizes
from bertserve.errors import UnknownModel
from bertserve.models import ServedModel
from bertserve.serving import Serving
from bertserve.tasks.analysis import Answer

SIZES = TensorSizes()


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """A model is a bundle, and has one version. Errors leave as exceptions, for the chain to translate."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._models = serving.models
        self._analyzer = serving.analyzer
        self._limits = serving.limits
        self._metrics = serving.metrics
        self._statistics = {
            model.name: Statistics(model.name, partial(serving.metrics.count_batches, model.name))
            for model in serving.models
        }

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:  # noqa: ARG002
        return pb.ServerLiveResponse(live=self._serving.is_alive)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:  # noqa: ARG002
        return pb.ServerReadyResponse(ready=self._serving.is_ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:  # noqa: ARG002
        self._find(request.name, request.version)
        return pb.ModelReadyResponse(ready=self._serving.is_ready)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:  # noqa: ARG002
        return descriptions.describe_server()

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:  # noqa: ARG002
        return descriptions.describe_model(self._find(request.name, request.version))

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:  # noqa: ARG002
        model = self._find(request.name, request.version)
        return pb.ModelConfigResponse(config=descriptions.describe_configuration(model, self._limits))

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:  # noqa: ARG002
        # Without a name those of all, which have one version too.
        found = self._find(request.name, request.version)
        models = [found] if request.name else self._models
        return pb.ModelStatisticsResponse(model_stats=[self._statistics[model.name].write() for model in models])

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        started = time.monotonic()
        model = self._find(request.model_name, request.model_version)
        statistics = self._statistics[model.name]
        try:
            inference, answer = await self._infer(request, model, deadline_of(context))
            response = await self._analyzer.offload(answer.is_large, write_inference, request, model, inference, answer)
        except BaseException:
            statistics.fail(time.monotonic() - started)
            raise
        statistics.succeed(len(answer.analyses), time.monotonic() - started, answer.timings)
        return response

    async def _infer(
        self, request: pb.ModelInferRequest, model: ServedModel, deadline: float | None
    ) -> tuple[Inference, Answer]:
        started = time.monotonic()
        with FieldNames(FIELD_PATHS, model.name, self._metrics):
            inference = read_inference(request, model, self._limits)
            ends = _earlier(deadline, inference.timeout_seconds)
            answer = await self._analyzer.analyze(model, inference.ask, ends, SIZES)
        ANSWERED.set(Answered(model=model.name, started=started, timings=answer.timings))
        return inference, answer

    def _find(self, name: str, version: str) -> ServedModel:
        """Raises UnknownModel."""
        if version not in {"", VERSION}:
            raise UnknownModel(f"no such version; every model has version {VERSION} alone")
        return self._models.find(name)


def _earlier(deadline: float | None, timeout_seconds: float | None) -> float | None:
    """The call's own deadline, or the end of a timeout that begins now."""
    if timeout_seconds is None:
        return deadline
    end = time.monotonic() + timeout_seconds
    return end if deadline is None else min(deadline, end)
