"""Attention maps of a sentence pair, head by head, as a picture; of two checkpoints side by side.

    python examples/attention/attention.py CHECKPOINT -o attention.png
    python examples/attention/attention.py CHECKPOINT FINE_TUNED --first "A man plays." --second "A man sleeps."

The server has no such maps: its fused kernels never hold them. `transformers` with eager attention does, which is what
this script runs. Rows are the tokens that look, columns those looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from transformers import AutoTokenizer, BertModel
from transformers.utils import logging

MAP_INCHES = 1.6
TITLE_INCHES = 0.8
DOTS_PER_INCH = 100


@dataclass(frozen=True, slots=True)
class Attention:
    """maps: float32 [layers, heads, tokens, tokens]; each row sums to one."""

    title: str
    tokens: tuple[str, ...]
    maps: NDArray[np.float32]


@torch.inference_mode()
def read_attention(checkpoint: Path, first: str, second: str) -> Attention:
    """Run the encoder once, whatever heads the checkpoint has."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    model = BertModel.from_pretrained(
        checkpoint, attn_implementation="eager", dtype=torch.float32, local_files_only=True
    )
    encoded = tokenizer(first, second, return_tensors="pt")
    layers = model(**encoded, output_attentions=True).attentions
    return Attention(
        title=checkpoint.resolve().name,
        tokens=tuple(tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])),
        maps=torch.cat(layers).numpy(),
    )


def draw(attentions: Sequence[Attention], path: Path) -> None:
    """A block of maps per checkpoint, a row per layer, a column per head; 160 pixels a map."""
    layers = max(attention.maps.shape[0] for attention in attentions)
    heads = sum(attention.maps.shape[1] for attention in attentions)
    figure = Figure(figsize=(MAP_INCHES * heads, MAP_INCHES * layers + TITLE_INCHES), layout="constrained")
    shares = [attention.maps.shape[1] for attention in attentions]
    blocks = figure.subfigures(1, len(attentions), width_ratios=shares, squeeze=False)[0]
    for block, attention in zip(blocks, attentions, strict=True):
        draw_block(block, attention)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def draw_block(block: SubFigure, attention: Attention) -> None:
    block.suptitle(attention.title)
    layers, heads = attention.maps.shape[:2]
    axes = block.subplots(layers, heads, squeeze=False)
    size = {"fontsize": min(6.0, 60 / len(attention.tokens))}
    for layer in range(layers):
        for head in range(heads):
            axis = axes[layer][head]
            axis.imshow(attention.maps[layer, head], vmin=0, vmax=1, cmap="viridis")
            axis.set_title(f"layer {layer + 1} head {head + 1}", fontsize=6)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[layer][0].set_yticks(range(len(attention.tokens)), attention.tokens, **size)
    for head in range(heads):
        axes[-1][head].set_xticks(range(len(attention.tokens)), attention.tokens, rotation=90, **size)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="before and after, or one alone"
    )
    parser.add_argument("--first", default="A man is playing the guitar.")
    parser.add_argument("--second", default="Somebody plays an instrument.")
    parser.add_argument("-o", "--output", type=Path, default=Path("attention.png"), metavar="FILE")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    attentions = [read_attention(checkpoint, options.first, options.second) for checkpoint in options.checkpoints]
    draw(attentions, options.output)
    print(f"drawn: {options.output}")


if __name__ == "__main__":
    main()
