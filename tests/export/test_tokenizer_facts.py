"""The library's tokenizer decides the longest input, segments, and whether a tokenizer is the model's at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bertexport.errors import ExportError
from bertserve.bundle import Bundle
from bertserve.engine.items import Item, Wanted
from bertserve.engine.opening import open_engine
from bertserve.tokenizer import Text, Tokenizer, Truncation
from checkpoints import SPECIAL_TOKENS, TINY, VOCABULARY, word_piece_tokenizer, write_checkpoint, write_tokenizer

from .conftest import Export

pytestmark = pytest.mark.export

PAIR = ("the king went to war", "he led the army")


def write_stated(directory: Path, settings: dict[str, Any], **config: Any) -> Path:
    """A checkpoint whose tokenizer_config.json says `settings`."""
    write_checkpoint(directory, heads=["pooler"], prefix=False, **config)
    stated = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **settings}
    (directory / "tokenizer_config.json").write_text(json.dumps(stated), encoding="utf-8")
    return directory


def write_roberta(directory: Path) -> Path:
    """RoBERTa with two segments and BERT's tokenizer."""
    shape = {name: value for name, value in TINY.items() if name not in ("model_type", "type_vocab_size")}
    torch.manual_seed(0)
    config = transformers.RobertaConfig(**shape, type_vocab_size=2, initializer_range=0.3)
    transformers.RobertaModel(config).save_pretrained(directory)
    write_tokenizer(directory, len(VOCABULARY), "vocab.txt")
    return directory


def report(bundle: Bundle) -> str:
    return (bundle.path / "REPORT.md").read_text(encoding="utf-8")


def check_pair(checkpoint: Path, bundle: Bundle) -> None:
    """The pair's states are those of `transformers`, told what its own tokenizer says."""
    own = transformers.AutoTokenizer.from_pretrained(checkpoint)(*PAIR, return_tensors="pt")
    model = transformers.AutoModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    with torch.inference_mode():
        expected = model(**own).last_hidden_state[0].numpy()
    tokenizer = Tokenizer(bundle.tokenizer_path, bundle.model)
    (text,) = tokenizer.tokenize([Text(text=PAIR[0], text_pair=PAIR[1])], Truncation.ERROR)
    layer = bundle.model.layer_count
    item = Item(input_ids=text.input_ids, token_type_ids=text.token_type_ids, wanted=Wanted(layers=(layer,)))
    (outputs,) = open_engine(bundle, threads=1).run_items([item])
    np.testing.assert_allclose(outputs.layers[layer], expected, atol=1e-4)


def test_a_bert_whose_tokenizer_states_no_segments_is_told_none(tmp_path: Path, export: Export) -> None:
    """model_input_names are the tokenizer's word; a note says so."""
    checkpoint = write_stated(tmp_path / "checkpoint", {"model_input_names": ["input_ids", "attention_mask"]})
    bundle = export(checkpoint)
    check_pair(checkpoint, bundle)
    assert bundle.model.segment_count == 1
    assert "model_input_names leave out token_type_ids" in report(bundle)


def test_a_roberta_whose_tokenizer_states_segments_is_told_them(tmp_path: Path, export: Export) -> None:
    """The family's own tokenizer states none, and this checkpoint has BERT's."""
    checkpoint = write_roberta(tmp_path / "checkpoint")
    bundle = export(checkpoint)
    check_pair(checkpoint, bundle)
    assert bundle.model.segment_count == 2


def test_a_bert_of_one_segment_is_told_0_and_a_note_says_so(tmp_path: Path, export: Export) -> None:
    """`transformers` looks for a second row and fails on a pair."""
    bundle = export(write_stated(tmp_path / "checkpoint", {}, type_vocab_size=1))
    assert bundle.model.segment_count == 1
    assert "type ids up to 1 for a pair, and the model has one row" in report(bundle)


def test_more_segments_than_the_model_has_are_refused(tmp_path: Path, export: Export) -> None:
    """Every pair would read beyond the table."""
    names = ["input_ids", "token_type_ids", "attention_mask"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
    checkpoint = write_stated(tmp_path / "checkpoint", settings)
    text = word_piece_tokenizer(VOCABULARY).to_str().replace('"type_id":1', '"type_id":2')
    (checkpoint / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ExportError, match=r"type ids up to 2, the model's table ends at 1 \(type_vocab_size"):
        export(checkpoint)


@pytest.mark.parametrize(("stated", "limit"), [(40, 40), (512, 128), (10**30, 128), (None, 128)])
def test_the_longest_input_of_a_checkpoint_alone_is_its_tokenizers(
    stated: int | None, limit: int, tmp_path: Path, export: Export
) -> None:
    """model_max_length, and never more than the model has positions."""
    settings = {} if stated is None else {"model_max_length": stated}
    assert export(write_stated(tmp_path / "checkpoint", settings)).model.max_tokens == limit


def test_a_limit_without_room_for_a_text_is_refused(tmp_path: Path, export: Export) -> None:
    """Special tokens alone fill it."""
    with pytest.raises(ExportError, match=r"at most 2 tokens .*model_max_length .*no room for a text"):
        export(write_stated(tmp_path / "checkpoint", {"model_max_length": 2}))


def test_a_limit_below_one_is_refused(tmp_path: Path, export: Export) -> None:
    """The message names the key."""
    with pytest.raises(ExportError, match="model_max_length of the tokenizer is -5, a positive whole number"):
        export(write_stated(tmp_path / "checkpoint", {"model_max_length": -5}))


def test_a_tokenizer_that_reads_special_tokens_as_text_is_noted(tmp_path: Path, export: Export) -> None:
    """A tokenizer.json cannot state that of its special tokens."""
    bundle = export(write_stated(tmp_path / "checkpoint", {"split_special_tokens": True}))
    assert "AutoTokenizer reads some otherwise: '[UNK] <unk>'" in report(bundle)


def test_a_tokenizer_that_cuts_the_start_is_noted(tmp_path: Path, export: Export) -> None:
    """Where to cut is the caller's to say in a request."""
    assert "truncation_side left" in report(export(write_stated(tmp_path / "checkpoint", {"truncation_side": "left"})))


def test_a_tokenizer_that_transformers_does_not_read_is_noted(tmp_path: Path, export: Export) -> None:
    """Its tokenizer.json is read alone."""
    bundle = export(write_stated(tmp_path / "checkpoint", {"added_tokens_decoder": {"600": 3}}))
    assert "Texts are read as tokenizer.json has it, since transformers' AutoTokenizer reads no" in report(bundle)
    assert (bundle.model.max_tokens, bundle.model.segment_count) == (128, 2)


def test_a_tokenizer_of_the_checkpoints_own_code_is_noted(tmp_path: Path, export: Export) -> None:
    """It is not run, so texts might be read otherwise than its author meant."""
    settings = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    bundle = export(write_stated(tmp_path / "checkpoint", settings))
    assert "tokenizer_config.json names code of its own (auto_map), which was not run" in report(bundle)


def write_words(directory: Path, vocabulary: list[str]) -> Path:
    write_checkpoint(directory, heads=["pooler"], prefix=False, tokenizer="vocab.txt")
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    return directory


def test_a_tokenizer_that_knows_nothing_is_refused(tmp_path: Path, export: Export) -> None:
    """Its files are of another kind than the class that AutoTokenizer takes, or another model's."""
    checkpoint = write_words(tmp_path / "checkpoint", list(SPECIAL_TOKENS))
    with pytest.raises(ExportError, match=r"knows nearly nothing of the texts .*100% unknown.* with --verify"):
        export(checkpoint)
    assert not (tmp_path / "bundle").exists()


def test_a_roberta_that_has_berts_vocabulary_file_is_refused(tmp_path: Path, export: Export) -> None:
    """`transformers` makes a tokenizer of special tokens alone, which reads every text as nothing."""
    checkpoint = write_roberta(tmp_path / "checkpoint")
    (checkpoint / "tokenizer_config.json").unlink()
    text = (checkpoint / "vocab.txt").read_text(encoding="utf-8")
    (checkpoint / "vocab.txt").write_text(text.replace("[PAD]", "<pad>"), encoding="utf-8")
    with pytest.raises(ExportError, match="knows nearly nothing of the texts"):
        export(checkpoint)


def test_a_tokenizer_of_another_language_is_judged_by_texts_in_it(tmp_path: Path, export: Export) -> None:
    """The built-in texts are English, and the given ones count."""
    checkpoint = write_words(tmp_path / "checkpoint", [*SPECIAL_TOKENS, "東", "京", "都"])
    texts = tmp_path / "texts.txt"
    texts.write_text("東京\n京都 東京\n", encoding="utf-8")
    with pytest.raises(ExportError, match="knows nearly nothing"):
        export(checkpoint)
    assert "does not know" not in report(export(checkpoint, verify=texts))


def test_a_tokenizer_that_knows_half_of_the_texts_is_noted(tmp_path: Path, export: Export) -> None:
    """It may be a model of few words, and whoever reads the report should know."""
    checkpoint = write_words(tmp_path / "checkpoint", [*SPECIAL_TOKENS, "the", "cat"])
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sat off\nthe cat\n", encoding="utf-8")
    assert re.search(r"does not know [3-6]\d% of the texts", report(export(checkpoint, verify=texts)))


def test_a_tokenizer_that_transformers_would_empty_is_kept(tmp_path: Path, export: Export) -> None:
    """A whole tokenizer.json of another kind than BERT's: AutoTokenizer reads every word as unknown, and a note says
    that the file counts."""
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models, pre_tokenizers, processors

    checkpoint = write_stated(tmp_path / "checkpoint", {})
    ids = {word if word in SPECIAL_TOKENS else f"{word}_": number for number, word in enumerate(VOCABULARY)}
    tokenizer = RustTokenizer(models.BPE(ids, [], unk_token="[UNK]", end_of_word_suffix="_", ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    assert "Texts are read as tokenizer.json has it" in report(export(checkpoint))
