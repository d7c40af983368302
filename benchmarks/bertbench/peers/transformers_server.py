"""The server that one would write in an afternoon: grpc.aio around `transformers`, answering Embed with mean pooling.

As good as its idea allows. Whatever waits when the model is free runs as one batch, up to a number of texts, sorted by
nothing and padded to the longest; the model and the tokenizer run off the event loop, on all the threads there are.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import torch
from bertapi.transport import SERVICE
from bertapi.v1 import bert_service_pb2 as pb
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer


@dataclass(frozen=True, slots=True)
class Embedded:
    """vector: float32 [hidden], the mean over tokens, special tokens included."""

    vector: NDArray[Any]
    tokens: int


class PaddedModel:
    """A checkpoint's encoder, run on padded batches."""

    def __init__(self, checkpoint: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self._model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        """Mean-pooled vectors of a batch."""
        batch = self._tokenizer(list(texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
        hidden = self._model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
        counts = mask.sum((1, 2)).tolist()
        return [Embedded(vector, count) for vector, count in zip(pooled, counts, strict=True)]


class CountBatcher:
    """Runs what waits, up to a number of texts at a time; never waits for more."""

    def __init__(self, model: PaddedModel, batch_texts: int) -> None:
        self._model = model
        self._batch_texts = batch_texts
        self._waiting: asyncio.Queue[tuple[str, asyncio.Future[Embedded]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)

    async def embed(self, text: str) -> Embedded:
        """The text's vector, once its batch has run."""
        answer: asyncio.Future[Embedded] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((text, answer))
        return await answer

    async def run(self) -> None:
        """Take and run batches for ever."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._batch_texts and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            wanted = [(text, answer) for text, answer in batch if not answer.done()]
            if wanted:
                found = await loop.run_in_executor(self._thread, self._model.embed, [text for text, _ in wanted])
                for (_, answer), embedded in zip(wanted, found, strict=True):
                    if not answer.done():
                        answer.set_result(embedded)


def embed_handler(batcher: CountBatcher) -> grpc.GenericRpcHandler:
    """Embed alone; what a request asks besides mean pooling is not looked at."""

    async def embed(request: pb.EmbedRequest, _context: Any) -> pb.EmbedResponse:
        found = await asyncio.gather(*(batcher.embed(text.text) for text in request.inputs))
        return pb.EmbedResponse(embeddings=map(_as_message, found))

    method = grpc.unary_unary_rpc_method_handler(
        embed,
        request_deserializer=pb.EmbedRequest.FromString,
        response_serializer=pb.EmbedResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Embed": method})


def _as_message(embedded: Embedded) -> pb.Embedding:
    data = embedded.vector.astype("<f4").tobytes()
    return pb.Embedding(
        vectors=pb.Tensor(shape=embedded.vector.shape, type=pb.VECTOR_TYPE_FLOAT32, data=data),
        token_count=embedded.tokens,
    )


async def serve(checkpoint: str, threads: int, batch_texts: int) -> None:
    """Serve on a free port of loopback until terminated; says on stdout when ready."""
    torch.set_num_threads(threads)
    model = PaddedModel(checkpoint)
    model.embed(["warm"])
    batcher = CountBatcher(model, batch_texts)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((embed_handler(batcher),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"ready: grpc 127.0.0.1:{port}", flush=True)  # noqa: T201 (the word that the comparison waits for)
    await batcher.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--threads", type=int, required=True)
    # The best of those tried (benchmarks/README.md).
    parser.add_argument("--batch-texts", type=int, default=4)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.checkpoint, arguments.threads, arguments.batch_texts))


if __name__ == "__main__":
    main()
