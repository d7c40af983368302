"""A bundle's tokenizer is the checkpoint's: the same tokens and offsets as `transformers` gives, for every kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from bertexport.errors import ExportError
from bertexport.proof.inputs import read_texts
from bertexport.source.sentence_files import SentenceFiles
from bertexport.source.tokenizer_choice import TokenizerChoice, choose_tokenizer
from bertexport.source.tokenizer_files import read_tokenizer_json, save_tokenizer
from bertserve.bundle import Head, ModelFacts
from bertserve.tokenizer import Text, Tokenizer, Truncation
from checkpoints import CHARACTERS, VOCABULARY, write_tokenizer
from family_checkpoints import write_family_tokenizer
from nasty_texts import NASTY_PAIRS, NASTY_TEXTS

pytestmark = pytest.mark.export

SHARED_VOCABULARIES = Path(__file__).parents[3] / "shared" / "data" / "vocab"
MODEL_TOKENS = 100_000


def vocabulary_file(tokens: list[str], **settings: object) -> Callable[[Path], str]:
    def write(directory: Path) -> str:
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        (directory / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "BertTokenizer", **settings}), encoding="utf-8"
        )
        return "bert"

    return write


def published_vocabulary(name: str) -> Callable[[Path], str]:
    def write(directory: Path) -> str:
        source = SHARED_VOCABULARIES / name
        if not source.is_file():
            pytest.skip(f"needs the vocabulary {source}")
        shutil.copy(source, directory / "vocab.txt")
        return "bert"

    return write


def family_files(kind: str, family: str) -> Callable[[Path], str]:
    def write(directory: Path) -> str:
        write_family_tokenizer(directory, kind)
        return family

    return write


def saved_by_transformers(write_files: Callable[[Path], str]) -> Callable[[Path], str]:
    """What `transformers` saves of it: tokenizer.json and its settings, without the older files."""

    def write(directory: Path) -> str:
        source = directory / "source"
        source.mkdir()
        family = write_files(source)
        write_config(source, family)
        transformers.AutoTokenizer.from_pretrained(source).save_pretrained(directory)
        shutil.rmtree(source)
        return family

    return write


def json_file(directory: Path) -> str:
    write_tokenizer(directory, len(VOCABULARY))
    return "bert"


def json_file_and(**settings: object) -> Callable[[Path], str]:
    """tokenizer.json lower-cases; what is stated beside it counts."""

    def write(directory: Path) -> str:
        write_tokenizer(directory, len(VOCABULARY))
        stated = {"tokenizer_class": "BertTokenizer", **settings}
        (directory / "tokenizer_config.json").write_text(json.dumps(stated), encoding="utf-8")
        return "bert"

    return write


def edit_tokenizer(directory: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    edit(content)
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def write_config(directory: Path, family: str) -> None:
    (directory / "config.json").write_text(json.dumps({"model_type": family}), encoding="utf-8")


CASED = [*VOCABULARY, *(character.upper() for character in CHARACTERS if character.isalpha()), "The", "é", "東", "京"]


BYTE_LEVEL, SENTENCE_PIECE = family_files("byte-level", "roberta"), family_files("sentencepiece", "xlm-roberta")

KINDS: dict[str, Callable[[Path], str]] = {
    "tokenizer.json": json_file,
    "tokenizer.json, said to be cased": json_file_and(do_lower_case=False),
    "tokenizer.json, said to keep accents": json_file_and(do_lower_case=True, strip_accents=False),
    "tokenizer.json, taken as it is": json_file_and(
        do_lower_case=False,
        tokenizer_class="PreTrainedTokenizerFast",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ),
    "vocab.txt": vocabulary_file(VOCABULARY),
    "vocab.txt, cased": vocabulary_file(CASED, do_lower_case=False),
    "vocab.txt, accents kept": vocabulary_file(CASED, strip_accents=False),
    "vocab.txt, Chinese not split": vocabulary_file(CASED, tokenize_chinese_chars=False),
    "vocab.txt of DistilBERT": family_files("vocab.txt", "distilbert"),
    "vocab.txt of ELECTRA": family_files("vocab.txt", "electra"),
    "bert-base-uncased's vocabulary": published_vocabulary("bert-base-uncased.txt"),
    "bert-base-chinese's vocabulary": published_vocabulary("bert-base-chinese.txt"),
    "vocab.json and merges.txt": BYTE_LEVEL,
    "sentencepiece of XLM-RoBERTa": SENTENCE_PIECE,
    "sentencepiece of CamemBERT": family_files("sentencepiece", "camembert"),
    "tokenizer.json, byte-level": saved_by_transformers(BYTE_LEVEL),
    "tokenizer.json, from sentencepiece": saved_by_transformers(SENTENCE_PIECE),
}


class Both:
    """The tokenizer as served, and the one of `transformers`."""

    def __init__(self, directory: Path, family: str, output: Path) -> None:
        choice = choose(directory)
        assert choice.notes == ()
        special = choice.special_tokens
        save_tokenizer(choice.tokenizer, output)
        self.has_segments = family in ("bert", "electra")
        self.mask = special.mask.text
        self.served = Tokenizer(output, model_facts(family, self.has_segments, special))
        self.own = transformers.AutoTokenizer.from_pretrained(directory)

    def expected(self, *texts: str) -> Any:
        # As a list of pairs: on its own, an empty second text is no pair to `transformers`.
        inputs = [texts] if len(texts) == 2 else [texts[0]]
        return self.own(inputs, truncation=False, padding=False, return_offsets_mapping=True)

    def actual(self, text: str, pair: str | None = None) -> Any:
        return self.served.tokenize([Text(text=text, text_pair=pair)], Truncation.ERROR)[0]


def choose(directory: Path, vocabulary_size: int = MODEL_TOKENS, **settings: Any) -> TokenizerChoice:
    sentence = SentenceFiles(directory=directory, **settings)
    return choose_tokenizer(sentence, vocabulary_size, read_texts(None))


def model_facts(family: str, has_segments: bool, special: object, max_tokens: int = MODEL_TOKENS) -> ModelFacts:
    return ModelFacts(
        family=family,
        heads=(Head.EMBEDDING, Head.MASKED_LM),
        hidden_size=32,
        intermediate_size=64,
        layer_count=2,
        attention_heads=4,
        activation="gelu",
        layer_norm_epsilon=1e-12,
        vocabulary_size=MODEL_TOKENS,
        segment_count=2 if has_segments else 1,
        position_limit=MODEL_TOKENS,
        position_offset=0,
        max_tokens=max_tokens,
        precision="fp32",
        opset=23,
        special_tokens=special,
    )


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS.keys())
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    directory = tmp_path_factory.mktemp("tokenizer")
    family = request.param(directory)
    write_config(directory, family)
    return Both(directory, family, tmp_path_factory.mktemp("bundle") / "tokenizer.json")


def test_texts_become_the_same_tokens(both: Both) -> None:
    """Ids and offsets of a few hundred texts, the empty-looking included."""
    for text in NASTY_TEXTS:
        check(both, text)


def test_pairs_become_the_same_tokens(both: Both) -> None:
    """Ids, segments and offsets, with the special tokens between and around them."""
    for first, second in NASTY_PAIRS:
        check(both, first, second)


def check(both: Both, *texts: str) -> None:
    actual, expected = both.actual(*texts), both.expected(*texts)
    assert actual.input_ids.tolist() == expected.input_ids[0], texts
    # Models without segments are not told which text a token is of, whatever the tokenizer says.
    segments = expected["token_type_ids"][0] if both.has_segments else [0] * len(actual)
    assert actual.token_type_ids.tolist() == segments, texts
    for token, (start, end) in zip(actual.tokens, expected.offset_mapping[0], strict=True):
        own = texts[token.segment][start:end] if not token.special else ""
        bare = own.strip()
        # A mask that takes in white space is placed without it.
        shift = own.index(bare) if bare else 0
        assert (token.start, token.end) in ((start, end), (start + shift, start + shift + len(bare))), (texts, token)


def test_a_literal_mask_is_the_models_own(both: Both) -> None:
    """[MASK] gives what the model's mask token gives at the same place, glued to its neighbours or not."""
    for frame in ("the {} sat", "{}", " {} ", "a{}b", "{}{}", "the {}.", "{} 東 {}", "the\n{}\tsat"):
        literal, own = both.actual(frame.format("[MASK]", "[MASK]")), both.actual(frame.format(both.mask, both.mask))
        assert literal.input_ids.tolist() == own.input_ids.tolist(), frame
        assert literal.mask_positions
        text = frame.format("[MASK]", "[MASK]")
        for position in literal.mask_positions:
            token = literal.token(position)
            assert text[token.start : token.end] == "[MASK]"


def test_a_word_is_found_as_running_text_has_it(both: Both) -> None:
    """A word of the vocabulary is scored whole, written with a space before it or without, and shown without one."""
    token_id = both.served.find_token(" sat")
    assert token_id in (None, both.own(" sat", add_special_tokens=False).input_ids[0])
    # Only the Chinese vocabulary has no such word.
    assert token_id is None or both.served.word(token_id) == "sat"
    assert token_id is not None or both.served.find_token("东") is not None
    assert both.served.find_token("  ") is None


def test_a_cut_text_keeps_the_places_of_its_tokens(both: Both, tmp_path: Path) -> None:
    """What truncation leaves has the tokens and offsets that it has in the whole text."""
    text, pair = "the cat [SEP] sat </s> on the mat and the dog sat there", "a king and a queen"
    whole = both.actual(text, pair)
    kept = len(whole) - 4
    facts = both.served._facts.model_copy(update={"max_tokens": kept})
    both.served._tokenizer.save(str(tmp_path / "tokenizer.json"))
    (cut,) = Tokenizer(tmp_path / "tokenizer.json", facts).tokenize([Text(text=text, text_pair=pair)], Truncation.END)
    assert len(cut) == kept
    places = {(t.segment, t.start, t.end, t.id) for t in whole.tokens}
    assert {(t.segment, t.start, t.end, t.id) for t in cut.tokens} <= places


@pytest.mark.parametrize("kind", ["byte-level", "vocab.txt"])
def test_lower_casing_can_come_first(kind: str, tmp_path: Path) -> None:
    """Whatever the tokenizer does to texts itself; one that lower-cases anyway is not changed."""
    write_family_tokenizer(tmp_path, kind)
    write_config(tmp_path, "roberta" if kind == "byte-level" else "bert")
    plain = choose(tmp_path).tokenizer
    lowering = choose(tmp_path, lowercase=True).tokenizer
    assert lowering.encode("The CAT sat").ids == plain.encode("the cat sat").ids
    assert (lowering.to_str() == plain.to_str()) == (kind == "vocab.txt")


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda content: content.pop("padding"), None),
        (lambda content: content.update(post_processor=None), "The CAT sat."),
        (lambda content: content["normalizer"].update(strip_accents=False), "Été à Zürich, naïve"),
    ],
    ids=["the same", "no special tokens", "accents"],
)
def test_a_bundle_reads_texts_as_transformers_does(
    edit: Callable[[dict[str, Any]], object], text: str | None, tmp_path: Path
) -> None:
    """Its classes rebuild much of what tokenizer.json says. A note names a text that the file has otherwise."""
    write_config(tmp_path, json_file(tmp_path))
    edit_tokenizer(tmp_path, edit)
    choice, own = choose(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for sample in ("The CAT sat.", "Été à Zürich, naïve"):
        assert choice.tokenizer.encode(sample).ids == own(sample).input_ids
    followed = "Texts are read as transformers' BertTokenizer does, and some not as tokenizer.json says"
    assert choice.notes == (() if text is None else (f"{followed}: {text!r}.",))


def test_add_prefix_space_is_followed(tmp_path: Path) -> None:
    """A byte-level tokenizer then reads the first word as it reads the others, whatever tokenizer.json says."""
    write_config(tmp_path, saved_by_transformers(BYTE_LEVEL)(tmp_path))
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "add_prefix_space": True}), encoding="utf-8")
    tokenizer, own = choose(tmp_path).tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path)
    plain = read_tokenizer_json(tmp_path, MODEL_TOKENS)
    assert tokenizer.encode("sat on", "the cat").ids == own("sat on", "the cat").input_ids
    assert tokenizer.encode("sat on").ids != plain.encode("sat on").ids


def test_a_token_that_the_model_has_no_row_for_is_noted(tmp_path: Path) -> None:
    """The settings add it beside a tokenizer.json from before; transformers cannot run a text that holds it."""
    write_config(tmp_path, json_file_and(added_tokens_decoder={"600": {"content": "newtok"}})(tmp_path))
    choice = choose(tmp_path, len(VOCABULARY))
    assert choice.tokenizer.token_to_id("newtok") is None
    assert choice.notes == (
        "Texts are read as tokenizer.json has it; transformers' AutoTokenizer reads some otherwise: 'newtok'.",
    )


def test_a_token_that_the_settings_add_is_followed(tmp_path: Path) -> None:
    """The model has a row for it."""
    write_config(tmp_path, json_file_and(added_tokens_decoder={"600": {"content": "newtok"}})(tmp_path))
    own = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert choose(tmp_path).tokenizer.encode("newtok").ids == own("newtok").input_ids


@pytest.mark.parametrize("form", ["vocab.txt", "tokenizer.json"])
def test_a_vocabulary_without_a_token_for_unknown_words_is_refused(form: str, tmp_path: Path) -> None:
    """A text with such a word could not be read at all."""
    write_config(tmp_path, "bert")
    write_tokenizer(tmp_path, len(VOCABULARY), form)
    content = (tmp_path / form).read_text(encoding="utf-8").replace("[UNK]", "unless")
    (tmp_path / form).write_text(content.replace('"unk_token": "unless"', '"unk_token": "[UNK]"'), encoding="utf-8")
    with pytest.raises(ExportError, match=r"cannot read .*\[UNK\].*needs a token for what it does not know"):
        choose(tmp_path)


def test_a_special_token_that_a_vocabulary_lacks_is_not_made_up(tmp_path: Path) -> None:
    """`transformers` puts it behind the vocabulary, where a model of that size has no row for it."""
    vocabulary_file([token for token in VOCABULARY if token != "[MASK]"])(tmp_path)
    write_config(tmp_path, "bert")
    choice = choose(tmp_path, len(VOCABULARY) - 1)
    assert choice.special_tokens.mask is None
    assert "transformers' AutoTokenizer reads some otherwise" in choice.notes[0]


def test_a_role_goes_to_the_token_that_transformers_gives_it(tmp_path: Path) -> None:
    """A word of the vocabulary that looks like another family's mask is no mask."""
    write_config(tmp_path, saved_by_transformers(BYTE_LEVEL)(tmp_path))
    edit_tokenizer(tmp_path, lambda content: content["model"]["vocab"].update({"[MASK]": 700, "[CLS]": 701}))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}', encoding="utf-8")
    special = choose(tmp_path).special_tokens
    assert (special.mask.text, special.cls.text) == ("<mask>", "<s>")


def test_merges_must_lie_beside_their_vocabulary(tmp_path: Path) -> None:
    """Without them another tokenizer would come out, silently."""
    write_family_tokenizer(tmp_path, "byte-level")
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ExportError, match=r"vocab\.json needs merges\.txt beside it"):
        choose(tmp_path)
