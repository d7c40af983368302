"""How much memory a run takes beside the weights, estimated from a model's sizes. Pure.

`bertexport` reports it, and the server compares it with its limit. Hidden states that a client asks for are not in it:
`--max-response-bytes` bounds these.
"""

from __future__ import annotations

from bertserve.bundle import Head, ModelFacts

FLOAT_BYTES = 4

#: Texts longer than this run as flash attention, in graphs that have a way for long texts. At this length both
#: operators are equally fast; a longer text is faster by flash attention, and a shorter one takes little memory.
LONG_TEXT_TOKENS = 512
#: Largest array of logits that such a graph makes for masks, in bytes. 512 masks of 30,522 pieces stay below it.
LOGITS_BYTES = 64 * 1024 * 1024

#: A property of graphs that make the logits of a few masks at a time.
FEW_MASKS = "few_masks"

# Arrays as wide as a hidden state that are alive at the same time: in attention query, key and value as one product,
# cut out, split and transposed; in the feed-forward two as wide as its middle, and the residual. Measured with
# hidden sizes of 384 to 1,024, fp32 and int8: 0.75 to 1.0 of the estimate at the longest text.
HIDDEN_ARRAYS = 16
FEED_FORWARD_ARRAYS = 2
# Logits, their softmax, and the sorted copy that the likeliest are taken from.
LOGITS_ARRAYS = 3


def estimate_run_bytes(facts: ModelFacts, tokens: int, *, has_flash: bool, few_masks: bool, texts: int = 1) -> int:
    """Memory of a run of texts of so many tokens each, in bytes.

    has_flash: whether a text longer than LONG_TEXT_TOKENS runs as flash attention; else its scores are held whole.
    few_masks: whether the graph makes the logits of a few masks at a time; else those of all masks at once.
    """
    hidden, middle = facts.hidden_size, facts.intermediate_size
    row = max(HIDDEN_ARRAYS * hidden, FEED_FORWARD_ARRAYS * middle + HIDDEN_ARRAYS // 2 * hidden) * FLOAT_BYTES
    is_long = has_flash and tokens > LONG_TEXT_TOKENS
    # Texts of equal length are one group, whose scores are held together.
    scores = facts.attention_heads * (LONG_TEXT_TOKENS**2 if is_long else texts * tokens**2) * FLOAT_BYTES
    rows = texts * tokens
    logits = 0
    if Head.MASKED_LM in facts.heads:
        logits = rows * facts.vocabulary_size * FLOAT_BYTES
        logits = LOGITS_ARRAYS * (min(logits, LOGITS_BYTES) if few_masks else logits)
    return max(rows * row + scores, rows * hidden * FLOAT_BYTES + logits)


def estimate_largest_run_bytes(
    facts: ModelFacts, longest_text: int, batch_tokens: int, *, has_flash: bool, few_masks: bool
) -> int:
    """Memory of the largest run: the longest text alone, or a batch full of texts of one length."""
    lengths = {min(longest_text, batch_tokens), min(longest_text, batch_tokens, LONG_TEXT_TOKENS)}
    runs = {(longest_text, 1), *((length, batch_tokens // length) for length in lengths)}
    return max(
        estimate_run_bytes(facts, length, has_flash=has_flash, few_masks=few_masks, texts=texts)
        for length, texts in runs
    )
