"""Triton around ONNX Runtime, as one sets it up for texts: Triton's own dynamic batching, then a padded batch.

A program for an environment of its own, which has nvidia-pytriton (Triton with its Python backend), onnxruntime and
tokenizers, and nothing of ours. Triton batches tensors of one shape alone, and tokens of different texts have many; so
the model takes texts, and tokenizes and pads what Triton has put together.
"""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Any

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tokenizers import Tokenizer

MAX_TOKENS = 512


class PaddedModel:
    """text: bytes [texts, 1] → embedding: float32 [texts, hidden], the mean over tokens, special tokens included."""

    def __init__(self, graph: str, tokenizer: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._types = {
            node.name: np.int32 if node.type == "tensor(int32)" else np.int64 for node in self._session.get_inputs()
        }
        self._tokenizer = Tokenizer.from_file(tokenizer)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, text: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """One batch."""
        encoded = self._tokenizer.encode_batch([one.decode() for one in text[:, 0]])
        mask = np.array([one.attention_mask for one in encoded])
        feeds = {
            "input_ids": np.array([one.ids for one in encoded]),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        (hidden,) = self._session.run(None, {name: feeds[name].astype(kind) for name, kind in self._types.items()})
        weights = mask[:, :, None].astype(np.float32)
        return {"embedding": (hidden * weights).sum(1) / weights.sum(1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph")
    parser.add_argument("tokenizer")
    parser.add_argument("--name", required=True)
    parser.add_argument("--instances", type=int, required=True, help="of the model, each with one thread")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch-texts", type=int, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    models = [PaddedModel(arguments.graph, arguments.tokenizer) for _ in range(arguments.instances)]
    config = TritonConfig(
        grpc_address="127.0.0.1", grpc_port=arguments.port, allow_http=False, allow_metrics=False, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            arguments.name,
            [batch(model.embed) for model in models],
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=arguments.batch_texts, batcher=DynamicBatcher()),
        )
        triton.run()
        print(f"ready: grpc 127.0.0.1:{arguments.port}", flush=True)  # noqa: T201 (the word that the comparison waits for)
        stop.wait()


if __name__ == "__main__":
    main()
