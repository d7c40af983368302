"""From an ask to items: every check that can be made before the engine runs, and the exact work it has to do.

Raises InvalidInput with the path of the field at fault, or MissingHead; nothing has been queued then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from bertserve.bundle import Head, Pooling
from bertserve.engine.items import Item, Wanted
from bertserve.errors import InvalidInput, MissingHead
from bertserve.models import ServedModel
from bertserve.tasks.asks import Ask, EmbedAsk, FillMaskAsk, LayerMerge
from bertserve.tasks.limits import Limits, check_inputs, check_target_count, check_top_k
from bertserve.tasks.sizes import SizeModel, count_answer, count_tokens
from bertserve.tokenizer import TokenizedText, TooManyTokens

# No vocabulary has a longer entry; what is longer is not worth tokenizing to find that out.
MAX_TARGET_CHARACTERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedPlan:
    """An EmbedAsk with every default resolved. layers: 0 = embedding layer … layer_count."""

    pooling: Pooling
    layers: tuple[int, ...]
    layer_merge: LayerMerge
    normalize: bool

    def count_numbers(self, inputs: int, tokens: int, hidden_size: int) -> int:
        """Return how many elements the vectors of so many inputs have, which hold so many tokens together."""
        rows = tokens if self.pooling is Pooling.NONE else inputs
        return rows * hidden_size * (len(self.layers) if self.layer_merge is LayerMerge.CONCAT else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An ask that passed every check. texts and items are in the order of the inputs.

    response_bytes: an upper bound of the answer's size in the door's encoding. seconds: that checking and tokenizing
    took.
    """

    ask: Ask
    embed: EmbedPlan | None
    texts: tuple[TokenizedText, ...]
    items: tuple[Item, ...]
    response_bytes: int
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return sum(item.length for item in self.items)


def check(model: ServedModel, ask: Ask, limits: Limits) -> None:
    """All that can be told of an ask before its texts are tokenized."""
    _check_heads(model, ask)
    check_inputs(ask, limits)
    _check_predictions(model, ask, limits)


def prepare(model: ServedModel, ask: Ask, texts: Sequence[TokenizedText], limits: Limits, sizes: SizeModel) -> Prepared:
    """Check what only tokens tell, and say what the engine has to compute. sizes: of the door that asks."""
    embed = plan_embedding(model, ask.embed) if ask.embed is not None else None
    if ask.fill_mask is not None:
        _check_masks(texts, ask.fill_mask)
    target_ids = _find_targets(model, ask)
    items = tuple(
        Item(
            input_ids=text.input_ids,
            token_type_ids=text.token_type_ids,
            wanted=_wanted(ask, embed, text, target_ids[index]),
        )
        for index, text in enumerate(texts)
    )
    tokens = sum(item.length for item in items)
    numbers = embed.count_numbers(len(items), tokens, model.facts.hidden_size) if embed is not None else 0
    response_bytes = sizes.answer_bytes(count_answer(model, ask, numbers, items))
    if response_bytes > limits.max_response_bytes:
        raise InvalidInput("inputs", _too_large_an_answer(response_bytes, limits, _parts_to_cut(ask, embed)))
    return Prepared(ask=ask, embed=embed, texts=tuple(texts), items=items, response_bytes=response_bytes)


def tokenize_inputs(model: ServedModel, ask: Ask, first: int, end: int) -> list[TokenizedText]:
    """Tokenize the inputs first … end - 1, each of which must yield a token, and fit unless truncation is asked for."""
    try:
        texts = model.tokenizer.tokenize(ask.inputs[first:end], ask.truncation)
    except TooManyTokens as error:
        name = "text_pair" if error.pair_is_longer else "text"
        path = f"inputs[{first + error.index}].{name}"
        raise InvalidInput(path, f"{error}; shorten it or ask for truncation") from error
    for index, text in enumerate(texts, start=first):
        if text.is_empty:
            raise InvalidInput(f"inputs[{index}].text", "yields no token")
    return texts


def check_tokens_size(model: ServedModel, limits: Limits, sizes: SizeModel, inputs: int, tokens: int) -> None:
    """Whether so many tokens of so many inputs alone, as Tokenize answers them, fit into an answer."""
    size = sizes.answer_bytes(count_tokens(model, inputs, tokens))
    if size > limits.max_response_bytes:
        raise InvalidInput("inputs", _too_large_an_answer(size, limits, []))


def plan_embedding(model: ServedModel, embed: EmbedAsk) -> EmbedPlan:
    """Resolve an EmbedAsk's defaults and negative layers."""
    facts = model.facts
    pooling = embed.pooling or facts.default_pooling
    if pooling is Pooling.POOLER and Head.POOLER not in facts.heads:
        raise MissingHead(f"model {model.name} has no pooler; choose another pooling")
    if pooling is Pooling.POOLER and embed.layers:
        raise InvalidInput("embed.layers", "the pooler reads the last layer; leave layers empty")
    count = facts.layer_count
    if len(embed.layers) > count + 1:
        raise InvalidInput("embed.layers", f"{len(embed.layers)} of them, the model has {count + 1}")
    for index, layer in enumerate(embed.layers):
        if not -(count + 1) <= layer <= count:
            raise InvalidInput(f"embed.layers[{index}]", f"{layer} is not within {-(count + 1)} … {count}")
    layers = tuple(layer if layer >= 0 else count + 1 + layer for layer in embed.layers) or (count,)
    if len(set(layers)) < len(layers):
        raise InvalidInput("embed.layers", "a layer is repeated")
    return EmbedPlan(
        pooling=pooling,
        layers=layers,
        layer_merge=embed.layer_merge,
        normalize=facts.default_normalize if embed.normalize is None else embed.normalize,
    )


def _check_heads(model: ServedModel, ask: Ask) -> None:
    asked = {
        Head.MASKED_LM: ask.fill_mask is not None,
        Head.NEXT_SENTENCE: ask.next_sentence,
        Head.SEQUENCE_CLASSIFICATION: ask.classify,
        Head.TOKEN_CLASSIFICATION: ask.tag_tokens is not None,
    }
    if ask.embed is None and not any(asked.values()):
        raise InvalidInput(
            "options", "ask for at least one of embed, fill_mask, next_sentence, classify and tag_tokens"
        )
    for head, is_asked in asked.items():
        if is_asked and head not in model.facts.heads:
            raise MissingHead(f"model {model.name} has no {head.value} head; it has {', '.join(model.facts.heads)}")


def _check_predictions(model: ServedModel, ask: Ask, limits: Limits) -> None:
    if ask.fill_mask is None:
        return
    check_top_k(ask.fill_mask.top_k, limits)
    words = model.facts.vocabulary_size
    if ask.fill_mask.top_k > words:
        raise InvalidInput("fill_mask.top_k", f"{ask.fill_mask.top_k} of them, the model has {words} words")
    check_target_count(len(ask.fill_mask.targets), "fill_mask.targets", limits)
    for index, targets in enumerate(ask.input_targets):
        check_target_count(len(targets), f"inputs[{index}].targets", limits)


def _check_masks(texts: Sequence[TokenizedText], fill_mask: FillMaskAsk) -> None:
    for index, text in enumerate(texts):
        for name, lost in zip(("text", "text_pair"), text.masks_lost, strict=True):
            if lost:
                raise InvalidInput(
                    f"inputs[{index}].{name}", f"truncation would cut off {lost} of its masks; shorten it"
                )
        if not text.mask_positions and not fill_mask.optional:
            raise InvalidInput(f"inputs[{index}].text", "holds no mask; write [MASK] where a word is to be predicted")


def _find_targets(model: ServedModel, ask: Ask) -> list[tuple[int, ...]]:
    """Per input, the ids of the words to score at its masks; every distinct word is looked up once."""
    if ask.fill_mask is None:
        return [()] * len(ask.inputs)
    find = cache(model.tokenizer.find_token)
    shared = _target_ids(find, ask.fill_mask.targets, "fill_mask.targets")
    own = ask.input_targets or ((),) * len(ask.inputs)
    return [
        _target_ids(find, targets, f"inputs[{index}].targets") if targets else shared
        for index, targets in enumerate(own)
    ]


def _target_ids(find: Callable[[str], int | None], targets: tuple[str, ...], path: str) -> tuple[int, ...]:
    ids = []
    for place, word in enumerate(targets):
        token_id = find(word) if len(word) <= MAX_TARGET_CHARACTERS else None
        if token_id is None:
            raise InvalidInput(f"{path}[{place}]", "is not exactly one known token of the model")
        ids.append(token_id)
    return tuple(ids)


def _wanted(ask: Ask, embed: EmbedPlan | None, text: TokenizedText, target_ids: tuple[int, ...]) -> Wanted:
    pools = embed is not None and embed.pooling is Pooling.POOLER
    return Wanted(
        layers=embed.layers if embed is not None and not pools else (),
        pooler=pools,
        mask_positions=text.mask_positions if ask.fill_mask is not None else (),
        top_k=ask.fill_mask.top_k if ask.fill_mask is not None else 0,
        target_ids=target_ids,
        next_sentence=ask.next_sentence,
        classify=ask.classify,
        tag=ask.tag_tokens is not None,
    )


def _too_large_an_answer(response_bytes: int, limits: Limits, parts: Sequence[str]) -> str:
    return (
        f"the answer could take {response_bytes} bytes, the server sends {limits.max_response_bytes} "
        f"(its --max-response-bytes); ask for {', '.join(('fewer inputs', *parts))}"
    )


def _parts_to_cut(ask: Ask, embed: EmbedPlan | None) -> list[str]:
    """What makes an answer smaller, beside fewer inputs. Only who may ask for vectors of tokens may ask for halves."""
    parts = ["a smaller top_k"] if ask.fill_mask is not None else []
    if embed is not None:
        parts += ["FLOAT16", "fewer layers", "a pooling"] if embed.pooling is Pooling.NONE else ["fewer layers"]
    return parts
