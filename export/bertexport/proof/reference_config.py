"""config.json as the reference takes it: all that decides a model's values, in the form that the reference reads.

What only shapes PyTorch's answers or its training is set back to the default, whatever a checkpoint was saved with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The form of the outputs, how they are computed, and training: each without influence on the values in evaluation.
NEUTRAL_ENTRIES = frozenset(
    {
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "tie_last_hidden_states",
        "torchscript",
        "use_cache",
        "use_return_dict",
        "chunk_size_feed_forward",
        "gradient_checkpointing",
        "attn_implementation",
        "_attn_implementation",
        "experts_implementation",
        "_experts_implementation",
        "is_encoder_decoder",
        "dtype",
        "torch_dtype",
        "initializer_range",
        # Tokens that only generation and tokenizers ask for.
        "bos_token_id",
        "eos_token_id",
        "sep_token_id",
        # Which loss is computed. What the logits mean is read from config.json itself.
        "problem_type",
    }
)


def neutralize(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that decide values. Dropout, by any of its names, does nothing in evaluation."""
    decisive = {name: value for name, value in config.items() if name not in NEUTRAL_ENTRIES and "dropout" not in name}
    # Null says nothing, but `transformers` would count labels with it.
    return {name: value for name, value in decisive.items() if name != "num_labels" or value is not None}
