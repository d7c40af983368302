"""KServe's model server around `transformers`, as its own server for encoders is built: `predict` runs the model.

A program for an environment of its own, which has kserve, torch and transformers, and nothing of ours. KServe batches
nothing and calls `predict` on its event loop.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from typing import Any

import kserve
import torch
from kserve import InferOutput, InferRequest, InferResponse
from transformers import AutoModel, AutoTokenizer

MAX_TOKENS = 512
POLL_SECONDS = 0.05


class Encoder(kserve.Model):  # type: ignore[misc]
    """text: bytes [texts, 1] → embedding: float32 [texts, hidden], the mean over tokens, special tokens included."""

    def __init__(self, name: str, checkpoint: str) -> None:
        super().__init__(name)
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self._model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="sdpa").eval()
        self.ready = True

    async def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        """One request."""
        texts = [one.decode() for one in payload.inputs[0].as_numpy().flatten()]
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        mask = batch["attention_mask"].unsqueeze(-1)
        with torch.inference_mode():
            pooled = (self._model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        output = InferOutput(name="embedding", shape=list(pooled.shape), datatype="FP32")
        output.set_data_from_numpy(pooled.numpy(), binary_data=True)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])


def say_when_ready(port: int) -> None:
    """The word that the comparison waits for."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                print(f"ready: grpc 127.0.0.1:{port}", flush=True)  # noqa: T201
                return
        time.sleep(POLL_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--name", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = Encoder(arguments.name, arguments.checkpoint)
    threading.Thread(target=say_when_ready, args=(arguments.port,), daemon=True).start()
    kserve.ModelServer(http_port=arguments.http_port, grpc_port=arguments.port, workers=1).start([model])


if __name__ == "__main__":
    main()
