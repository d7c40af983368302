"""Texts to tokens: offsets, literal masks, truncation, and words as vocabulary entries."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from bertserve.bundle import BundleError, Head, ModelFacts, SpecialToken, SpecialTokens
from bertserve.tokenizer import Text, Tokenizer, TooManyTokens, Truncation, share_room
from checkpoints import SPECIAL_TOKENS, VOCABULARY, word_piece_tokenizer
from hypothesis import given
from hypothesis import strategies as st

MAX_TOKENS = 16
MASK_ID = SPECIAL_TOKENS.index("[MASK]")


def facts(mask: str = "[MASK]", segment_count: int = 2) -> ModelFacts:
    return ModelFacts(
        family="bert",
        heads=(Head.EMBEDDING, Head.MASKED_LM),
        hidden_size=32,
        intermediate_size=64,
        layer_count=2,
        attention_heads=4,
        activation="gelu",
        layer_norm_epsilon=1e-12,
        vocabulary_size=len(VOCABULARY),
        segment_count=segment_count,
        position_limit=MAX_TOKENS,
        position_offset=0,
        max_tokens=MAX_TOKENS,
        precision="fp32",
        opset=23,
        special_tokens=SpecialTokens(
            cls=SpecialToken(id=2, text="[CLS]"),
            sep=SpecialToken(id=3, text="[SEP]"),
            pad=SpecialToken(id=0, text="[PAD]"),
            unk=SpecialToken(id=1, text="[UNK]"),
            mask=SpecialToken(id=MASK_ID, text=mask),
        ),
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    word_piece_tokenizer(VOCABULARY).save(str(path))
    return Tokenizer(path, facts())


def tokens_of(tokenizer: Tokenizer, text: str, pair: str | None = None) -> list[str]:
    (tokenized,) = tokenizer.tokenize([Text(text=text, text_pair=pair)], Truncation.END)
    return [token.text for token in tokenized.tokens]


def test_offsets_count_code_points_of_the_callers_text(tokenizer: Tokenizer) -> None:
    """Letters outside ASCII and emoji before a word count one each."""
    text = "😀 é The CAT"
    (tokenized,) = tokenizer.tokenize([Text(text=text)], Truncation.ERROR)
    cat = next(token for token in tokenized.tokens if token.text == "cat")
    assert text[cat.start : cat.end] == "CAT"


def test_tokens_of_a_pair_know_their_segment(tokenizer: Tokenizer) -> None:
    """Segment and offsets refer to the text of the pair that a token comes from; special tokens have neither."""
    (tokenized,) = tokenizer.tokenize([Text(text="the cat", text_pair="sat")], Truncation.ERROR)
    seen = [(token.text, token.segment, token.start, token.end, token.special) for token in tokenized.tokens]
    assert seen == [
        ("[CLS]", 0, 0, 0, True),
        ("the", 0, 0, 3, False),
        ("cat", 0, 4, 7, False),
        ("[SEP]", 0, 0, 0, True),
        ("sat", 1, 0, 3, False),
        ("[SEP]", 1, 0, 0, True),
    ]
    assert tokenized.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1]


def test_one_text_and_many_are_tokenized_alike(tokenizer: Tokenizer) -> None:
    """The batch call gives what single calls give."""
    texts = [Text(text="the cat"), Text(text="sat", text_pair="on the mat"), Text(text="x", text_pair="")]
    together = tokenizer.tokenize(texts, Truncation.ERROR)
    alone = [tokenizer.tokenize([text], Truncation.ERROR)[0] for text in texts]
    assert [t.input_ids.tolist() for t in together] == [t.input_ids.tolist() for t in alone]


@pytest.mark.parametrize(
    "text", ["", " \t\n", "\x00\x01\x1f", "\u200b\ufeff"], ids=["empty", "space", "control", "zero"]
)
def test_text_without_a_token_is_empty(tokenizer: Tokenizer, text: str) -> None:
    """Whatever surrounds it, a text that yields no token says so, also beside a pair that does."""
    (alone,) = tokenizer.tokenize([Text(text=text)], Truncation.ERROR)
    (paired,) = tokenizer.tokenize([Text(text=text, text_pair="cat")], Truncation.ERROR)
    assert alone.is_empty
    assert paired.is_empty


def test_mask_counts_case(tokenizer: Tokenizer) -> None:
    """[MASK] is a mask, [mask] is three tokens; the caller's mask is not special."""
    (tokenized,) = tokenizer.tokenize([Text(text="the [MASK] [mask]")], Truncation.ERROR)
    assert tokenized.mask_positions == (2,)
    assert not tokenized.token(2).special


def test_literal_mask_is_a_mask_where_the_models_own_is_another(tmp_path: Path) -> None:
    """Both the model's own mask token and [MASK] become its mask id, with their places in the text."""
    vocabulary = ["<mask>" if token == "[MASK]" else token for token in VOCABULARY]
    raw = tokenizers.Tokenizer.from_str(word_piece_tokenizer(VOCABULARY).to_str().replace("[MASK]", "<mask>"))
    assert raw.token_to_id("<mask>") == vocabulary.index("<mask>")
    raw.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", facts(mask="<mask>"))
    (tokenized,) = tokenizer.tokenize([Text(text="the [MASK] and <mask>")], Truncation.ERROR)
    assert tokenized.input_ids[list(tokenized.mask_positions)].tolist() == [MASK_ID, MASK_ID]
    assert (tokenized.token(2).start, tokenized.token(2).end) == (4, 10)
    assert [token.text for token in tokenized.tokens if not token.special] == ["the", "<mask>", "and", "<mask>"]


def test_a_row_without_a_token_has_no_name(tmp_path: Path) -> None:
    """Models may have more rows than their vocabulary has entries, and none of them is a literal [MASK]."""
    word_piece_tokenizer(VOCABULARY).save(str(tmp_path / "tokenizer.json"))
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8").replace("[MASK]", "<mask>")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", facts(mask="<mask>"))
    beyond = len(VOCABULARY)
    assert (tokenizer.token_text(beyond), tokenizer.word(beyond)) == ("", "")


def test_unknown_token_is_named_by_the_vocabulary(tmp_path: Path) -> None:
    """A unigram model makes one unknown token of any number of characters; its name is no longer for that."""
    model = tokenizers.models.Unigram([("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("a", -1.0)], unk_id=0)
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", facts())
    (tokenized,) = tokenizer.tokenize([Text(text="a" + "東" * 1000)], Truncation.ERROR)
    assert [(token.text, token.start, token.end) for token in tokenized.tokens] == [("a", 0, 1), ("<unk>", 1, 1001)]


def test_too_long_is_refused_unless_truncation_is_asked_for(tokenizer: Tokenizer) -> None:
    """The error names the input, its length and the limit."""
    with pytest.raises(TooManyTokens, match=r"22 tokens, the model takes 16") as caught:
        tokenizer.tokenize([Text(text="cat"), Text(text="cat " * 20)], Truncation.ERROR)
    assert caught.value.index == 1


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [(Truncation.END, ["[CLS]", "1", "2"]), (Truncation.START, ["[CLS]", "7", "8"])],
    ids=["end", "start"],
)
def test_truncation_keeps_special_tokens(tokenizer: Tokenizer, truncation: Truncation, expected: list[str]) -> None:
    """What is cut comes from the asked side, and [CLS] and [SEP] stay."""
    (tokenized,) = tokenizer.tokenize([Text(text=" ".join(str(n % 10) for n in range(1, 21)))], truncation)
    texts = [token.text for token in tokenized.tokens]
    assert len(texts) == MAX_TOKENS
    assert texts[:3] == expected
    assert texts[-1] == "[SEP]"
    assert tokenized.truncated


def test_lost_masks_are_counted(tokenizer: Tokenizer) -> None:
    """A mask beyond the cut is lost, one before it is not, each from the text that holds it."""
    (tokenized,) = tokenizer.tokenize([Text(text="[MASK] " + "cat " * 20 + "[MASK] [MASK]")], Truncation.END)
    assert (len(tokenized.mask_positions), tokenized.masks_lost) == (1, (2, 0))
    (pair,) = tokenizer.tokenize([Text(text="[MASK]", text_pair="[MASK] " + "cat " * 20 + "[MASK]")], Truncation.END)
    assert (len(pair.mask_positions), pair.masks_lost) == (2, (0, 1))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
def test_room_is_shared_as_tokenizers_shares_it(first: int, second: int, room: int) -> None:
    """The same split as the strategy `longest_first` of `tokenizers`, for every length."""
    reference = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="b"))
    reference.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if first + second > room:
        reference.enable_truncation(room, strategy="longest_first")
    segments = reference.encode("a " * first, "a " * second).sequence_ids
    assert share_room(first, second, room) == (segments.count(0), segments.count(1))


@pytest.mark.parametrize(
    ("word", "token"),
    [
        ("math", "math"),
        ("Math", "math"),
        ("##ing", "##ing"),
        ("[MASK]", "[MASK]"),
        ("mathcat", None),
        ("東", None),
        ("", None),
    ],
)
def test_word_becomes_the_token_it_is_in_running_text(tokenizer: Tokenizer, word: str, token: str | None) -> None:
    """A vocabulary entry as written, else the one known token of the word, else nothing."""
    found = tokenizer.find_token(word)
    assert (None if found is None else tokenizer.token_text(found)) == token


def test_word_is_written_without_its_continuation_mark(tokenizer: Tokenizer) -> None:
    """##ing is shown as ing."""
    assert tokenizer.word(VOCABULARY.index("##ing")) == "ing"


def test_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    """A file that is no tokenizer gives one line that says what to do."""
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match="export the bundle again"):
        Tokenizer(tmp_path / "tokenizer.json", facts())


@pytest.mark.parametrize("truncation", [Truncation.END, Truncation.START])
def test_a_cut_pair_still_knows_its_texts(tokenizer: Tokenizer, truncation: Truncation) -> None:
    """Segments and offsets of a pair that was cut are those of its texts, and it is not taken for empty."""
    first, second = "the cat sat on the mat " * 3, "a king and a queen"
    (tokenized,) = tokenizer.tokenize([Text(text=first, text_pair=second)], truncation)
    assert tokenized.truncated
    assert not tokenized.is_empty
    texts = [(first, second)[token.segment][token.start : token.end] for token in tokenized.tokens if not token.special]
    assert texts == [token.text for token in tokenized.tokens if not token.special]
    assert [token.segment for token in tokenized.tokens] == tokenized.token_type_ids.tolist()
