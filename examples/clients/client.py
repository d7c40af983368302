"""bertserve from Python: health, vectors, masked words, next sentences, and what a refusal says.

python examples/clients/client.py [HOST:PORT [SECONDS]]
"""

import argparse
import sys

import numpy as np
from bertapi.client import BertClient, BertError

READY_SECONDS = 5.0


def main(target: str, seconds: float) -> None:
    with BertClient(target, timeout_seconds=seconds) as client:
        # A server that was started just now has a moment; one that is not there is said soon.
        client.wait_ready(min(seconds, READY_SECONDS))
        print("health: SERVING")

        first, second = client.embed(["A cat sat here.", "A dog lay there."])
        print(f"embed: 2 vectors of {first.vectors.size}, cosine {cosine(first.vectors, second.vectors):.4f}")

        (text,) = client.fill_mask("The [MASK] sat on the mat", top_k=3)
        print("fill mask:", ", ".join(f"{word.text} {word.probability:.0%}" for word in text.masks[0].predictions))

        candidates = ["It empties into the sea.", "The band released their second album."]
        scores = client.score_next_sentence("The river flows through the city.", candidates)
        print("next sentence:", ", ".join(f"{score.probability:.0%}" for score in scores))

        try:
            client.fill_mask("No word is hidden here")
        except BertError as error:
            print("refused:", describe(error))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def describe(error: BertError) -> str:
    """The status, the fields at fault (google.rpc.BadRequest) and when to try again (google.rpc.RetryInfo)."""
    faults = "; ".join(f"{violation.field}: {violation.description}" for violation in error.violations)
    again = "" if error.retry_after_seconds is None else f"; try again in {error.retry_after_seconds:.1f} s"
    return f"{error.code.name}: {faults or error.message}{again}"


def positive_seconds(text: str) -> float:
    if not float(text) > 0:
        raise ValueError
    return float(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", nargs="?", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument("seconds", nargs="?", default=30.0, type=positive_seconds, metavar="SECONDS")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main(**vars(parse_arguments()))
    except BertError as error:
        sys.exit(f"failed: {describe(error)}")
