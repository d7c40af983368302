"""What the parts of an answer take in Protocol Buffers, so that no answer turns out too large to send."""

from __future__ import annotations

from bertserve.tasks.sizes import Counts

# What surrounds each part on the wire: tags, lengths and numbers, without the part's strings.
ANSWER_BYTES = 192  # the model, the bundle, timings
INPUT_BYTES = 96
MASK_BYTES = 32
PREDICTION_BYTES = 24
LABEL_BYTES = 32
TOKEN_BYTES = 32
# More than its numbers need: two tokens may share a character, which the text of each entity then repeats.
ENTITY_BYTES = 64


class MessageSizes:
    """Sizes of the messages of `bertapi.v1`."""

    def answer_bytes(self, counts: Counts) -> int:
        return (
            ANSWER_BYTES
            + counts.inputs * INPUT_BYTES
            + counts.masks * MASK_BYTES
            + counts.predictions * PREDICTION_BYTES
            + counts.labels * LABEL_BYTES
            + counts.tokens * TOKEN_BYTES
            + counts.entities * ENTITY_BYTES
            + counts.float32s * 4
            + counts.float16s * 2
            + counts.text_bytes
        )


class TensorSizes(MessageSizes):
    """Sizes of the tensors of the Open Inference Protocol, in which every input has room for as many masks as any."""

    def answer_bytes(self, counts: Counts) -> int:
        if counts.masks == 0:
            return super().answer_bytes(counts)
        masks = counts.inputs * counts.most_masks
        padding = (masks - counts.masks) * counts.predictions // counts.masks
        return super().answer_bytes(counts._replace(masks=masks, predictions=counts.predictions + padding))
