"""Server reflection: tools learn what is served from the server itself, and of nothing else that is installed."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection

REFLECTION = reflection.SERVICE_NAME


def add_reflection(grpc_server: grpc.aio.Server, services: Iterable[str]) -> None:
    """services: full names of the others."""
    names = (*services, REFLECTION)
    reflection.enable_server_reflection(names, grpc_server, describe(names))


def describe(services: Iterable[str]) -> DescriptorPool:
    """The files of these services and of the details of errors, with all that these import."""
    known, pool = Default(), DescriptorPool()
    added = set()

    def add(file: FileDescriptor) -> None:
        if file.name not in added:
            added.add(file.name)
            for imported in file.dependencies:
                add(imported)
            pool.AddSerializedFile(file.serialized_pb)

    for service in services:
        add(known.FindFileContainingSymbol(service))
    add(error_details_pb2.DESCRIPTOR)
    return pool
