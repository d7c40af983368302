"""What the protocol tells of the server and of a model: its tensors, with the batch's dimension and without."""

from __future__ import annotations

import json
from importlib.metadata import version

from bertapi.oip import inference_pb2 as pb

from bertserve.doors.grpc.oip.signature import INPUTS, TEXT, VERSION, Datatype, Tensor, outputs_of
from bertserve.models import ServedModel
from bertserve.tasks.limits import Limits

PLATFORM = "bertserve"
# Of Triton's, as Triton names them.
EXTENSIONS = ("model_configuration", "statistics")
DATA_TYPES = {Datatype.BYTES: pb.TYPE_STRING, Datatype.FP32: pb.TYPE_FP32}


def describe_server() -> pb.ServerMetadataResponse:
    return pb.ServerMetadataResponse(name="bertserve", version=version("bertserve"), extensions=EXTENSIONS)


def describe_model(model: ServedModel) -> pb.ModelMetadataResponse:
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[VERSION],
        platform=PLATFORM,
        inputs=[_metadata(tensor) for tensor in INPUTS],
        outputs=[_metadata(tensor) for tensor in outputs_of(model.facts)],
    )


def describe_configuration(model: ServedModel, limits: Limits) -> pb.ModelConfig:
    """parameters: what a caller may want to know to read the outputs, and which bundle computes them. Labels are
    JSON, since one may hold whatever would part them."""
    facts = model.facts
    parameters = {
        "bundle_id": model.bundle.manifest.bundle_id,
        "hidden_size": str(facts.hidden_size),
        "max_tokens": str(facts.max_tokens),
        "labels": json.dumps(facts.labels, ensure_ascii=False),
    }
    return pb.ModelConfig(
        name=model.name,
        platform=PLATFORM,
        max_batch_size=limits.max_inputs,
        input=[
            pb.ModelInput(
                name=tensor.name,
                data_type=DATA_TYPES[tensor.datatype],
                dims=tensor.dims,
                optional=tensor.name != TEXT,
            )
            for tensor in INPUTS
        ],
        output=[
            pb.ModelOutput(name=tensor.name, data_type=DATA_TYPES[tensor.datatype], dims=tensor.dims)
            for tensor in outputs_of(facts)
        ],
        dynamic_batching=pb.ModelDynamicBatching(),
        parameters={name: pb.ModelParameter(string_value=value) for name, value in parameters.items()},
    )


def _metadata(tensor: Tensor) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=(-1, *tensor.dims))
